//! Accepting connections, as many as may be open, until the server stops.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::bind::Bound;
use super::connection::Peer;
use super::sniff::{Protocol, sniff};
use super::socket::{Socket, Stream};
use crate::tls;

/// Stops listeners and connections, in two steps.
#[derive(Clone, Default)]
pub struct Shutdown {
    /// No more connections, no more requests on those that are open.
    stop: CancellationToken,
    /// Connections close whatever they are doing.
    close: CancellationToken,
    tasks: TaskTracker,
}

impl Shutdown {
    /// Stops accepting, and asks every connection to finish what it has begun. Listening sockets close.
    pub fn begin(&self) {
        self.stop.cancel();
        self.tasks.close();
    }

    /// Waits for connections to end by themselves, at most `grace`, then closes the rest. Begins the
    /// shutdown if nobody did.
    pub async fn finish(&self, grace: Duration) {
        self.begin();
        if tokio::time::timeout(grace, self.tasks.wait())
            .await
            .is_err()
        {
            self.close.cancel();
            self.tasks.wait().await;
        }
    }

    /// Resolves when connections shall finish.
    pub(super) async fn stopping(&self) {
        self.stop.cancelled().await;
    }
}

/// What all listeners of a server have in common.
#[derive(Clone)]
pub struct Serving {
    /// Ends them.
    pub shutdown: Shutdown,
    /// Connections that may be open at once.
    connections: Arc<Semaphore>,
}

impl Serving {
    /// For at most `connections_max` connections at once; further ones wait to be accepted.
    pub fn new(connections_max: usize) -> Self {
        let connections = connections_max.min(Semaphore::MAX_PERMITS);
        Self {
            shutdown: Shutdown::default(),
            connections: Arc::new(Semaphore::new(connections)),
        }
    }
}

/// A connection whose protocol is known.
pub(super) enum Opened {
    /// Unencrypted.
    Plain(Protocol, Socket),
    /// After the handshake.
    Tls(Box<TlsStream<Socket>>),
}

/// How long a client may take to show what it speaks, and the size of etcd's patience for a head.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after an error that will not go away at once, such as too many open files.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections of a listener until shutdown, opens each and hands it to `run`.
///
/// `plain` and `tls` say what the port carries. `rejected` is the log line for a handshake that fails.
pub(super) fn serve<R, F>(
    bound: Bound,
    serving: &Serving,
    plain: bool,
    tls: Option<Arc<tls::Server>>,
    rejected: Rejected,
    run: R,
) where
    R: Fn(Opened, Arc<Peer>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let serving = serving.clone();
    let tasks = serving.shutdown.tasks.clone();
    tasks.spawn(async move {
        loop {
            let next = async {
                // The semaphore is never closed.
                let permit = serving.connections.clone().acquire_owned().await.ok();
                (permit, bound.accept().await)
            };
            let (permit, stream) = tokio::select! {
                () = serving.shutdown.stopping() => return,
                next = next => next,
            };
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::warn!(address = bound.local(), %error, "failed to accept a connection");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let (tls, run, shutdown) = (tls.clone(), run.clone(), serving.shutdown.clone());
            serving.shutdown.tasks.spawn(async move {
                let _permit = permit;
                let opened = tokio::select! {
                    opened = open(stream, plain, tls.as_deref(), rejected) => opened,
                    // Whoever has not said anything yet has nothing to finish.
                    () = shutdown.stopping() => None,
                };
                let Some((opened, peer)) = opened else { return };
                tokio::select! {
                    () = run(opened, Arc::new(peer)) => {}
                    () = shutdown.close.cancelled() => {}
                }
            });
        }
    });
}

/// The log line for a connection that is refused, by kind of listener.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rejected {
    Client,
    Peer,
}

impl Rejected {
    fn log(self, peer: &str, server_name: &str, error: &io::Error) {
        let text = tls::handshake_error_text(error);
        let names = tls::rejected_names(error);
        // One macro call per line: their texts are constant.
        macro_rules! line {
            ($level:ident, $message:literal) => {
                match &names {
                    Some((ips, dns)) => tracing::$level!(
                        "remote-addr" = peer,
                        "server-name" = server_name,
                        "ip-addresses" = ?ips,
                        "dns-names" = ?dns,
                        error = text,
                        $message
                    ),
                    None => tracing::$level!(
                        "remote-addr" = peer,
                        "server-name" = server_name,
                        error = text,
                        $message
                    ),
                }
            };
        }
        match (self, tls::is_end_of_stream(error)) {
            (Rejected::Client, false) => line!(warn, "rejected connection on client endpoint"),
            (Rejected::Client, true) => line!(debug, "rejected connection on client endpoint"),
            (Rejected::Peer, false) => line!(warn, "rejected connection on peer endpoint"),
            (Rejected::Peer, true) => line!(debug, "rejected connection on peer endpoint"),
        }
    }
}

/// Finds out what the client speaks and, if it is TLS, shakes hands. None: the connection is dropped.
async fn open(
    mut stream: Stream,
    plain: bool,
    tls: Option<&tls::Server>,
    rejected: Rejected,
) -> Option<(Opened, Peer)> {
    let peer = Peer::of(&stream);
    let sniffing = match &mut stream {
        Stream::Tcp(stream) => tokio::time::timeout(HEAD_TIMEOUT, sniff(stream)).await,
        Stream::Unix(stream) => tokio::time::timeout(HEAD_TIMEOUT, sniff(stream)).await,
    };
    let (protocol, unread) = sniffing.ok()?.ok()?;
    let end_of_stream = unread.is_empty();
    let socket = Socket { stream, unread };
    match (protocol, tls) {
        (Protocol::Tls, Some(tls)) => {
            let (stream, peer) = handshake(socket, peer, tls, rejected).await?;
            Some((Opened::Tls(Box::new(stream)), peer))
        }
        (Protocol::Http1 | Protocol::Http2, _) if plain => {
            Some((Opened::Plain(protocol, socket), peer))
        }
        (_, Some(_)) => {
            let error = match end_of_stream {
                true => io::ErrorKind::UnexpectedEof.into(),
                false => tls::not_a_handshake(),
            };
            rejected.log(&peer.text(), "", &error);
            None
        }
        _ => None,
    }
}

async fn handshake(
    socket: Socket,
    mut peer: Peer,
    tls: &tls::Server,
    rejected: Rejected,
) -> Option<(TlsStream<Socket>, Peer)> {
    let mut server_name = String::new();
    let shaking = async {
        let start = LazyConfigAcceptor::new(Default::default(), socket).await?;
        start
            .client_hello()
            .server_name()
            .unwrap_or_default()
            .clone_into(&mut server_name);
        // Only now, so that a file changed a moment ago counts.
        start.into_stream(tls.config()).await
    };
    let result = tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await;
    match result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => {
            peer.secure = true;
            let certificates = stream.get_ref().1.peer_certificates();
            let name = certificates.and_then(|all| tls::common_name(all.first()?));
            peer.common_name = name.filter(|name| !name.is_empty()).map(Into::into);
            Some((stream, peer))
        }
        Err(error) => {
            rejected.log(&peer.text(), &server_name, &error);
            None
        }
    }
}
