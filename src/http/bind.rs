//! Sockets to listen on: of a URL, or handed over by the service manager.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::socket::Stream;
use crate::systemd::InheritedListener;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A host (an address or `localhost`) and a port.
    Tcp(String, u16),
    /// A path.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Address::Tcp(host, port) => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Options of listening sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// `SO_REUSEPORT`: several processes may listen, and share the connections.
    pub reuse_port: bool,
    /// `SO_REUSEADDR`. A listener of an address that lingers is allowed either way.
    pub reuse_address: bool,
}

/// A socket that cannot be listened on, in Go's words.
#[derive(Debug, thiserror::Error)]
#[error("listen {network} {address}: {step}: {}", text(.error))]
pub struct BindError {
    network: &'static str,
    address: String,
    step: &'static str,
    /// The operating system's error.
    pub error: io::Error,
}

fn text(error: &io::Error) -> String {
    let Some(number) = error.raw_os_error() else {
        return error.to_string();
    };
    let text = Errno::from_raw(number).desc();
    text[..1].to_lowercase() + &text[1..]
}

/// A socket that listens. Connections wait in it until it is served.
#[derive(Debug)]
pub struct Bound {
    pub(super) socket: Listening,
    local: String,
}

#[derive(Debug)]
pub(super) enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Connections that may wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 4096;

/// Begins to listen.
pub fn bind(address: &Address, options: SocketOptions) -> Result<Bound, BindError> {
    match address {
        Address::Tcp(host, port) => bind_tcp(host, *port, options),
        Address::Unix(path) => bind_unix(path),
    }
}

fn bind_tcp(host: &str, port: u16, options: SocketOptions) -> Result<Bound, BindError> {
    let failed = |step, error| {
        let address = Address::Tcp(host.to_owned(), port).to_string();
        BindError {
            network: "tcp",
            address,
            step,
            error,
        }
    };
    let no_address = || io::Error::from(io::ErrorKind::InvalidInput);
    // Not left to a resolver: hosts without /etc/hosts have no localhost.
    let ip: IpAddr = match host {
        "localhost" => Ipv4Addr::LOCALHOST.into(),
        host => host.parse().map_err(|_| failed("lookup", no_address()))?,
    };
    let listen = |ip| listen_tcp(SocketAddr::new(ip, port), options);
    let socket = match ip {
        // All addresses means those of both families, where both exist.
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            listen(Ipv6Addr::UNSPECIFIED.into()).or_else(|error| match error.raw_os_error() {
                Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => listen(ip),
                _ => Err(error),
            })
        }
        ip => listen(ip),
    };
    let socket = socket.map_err(|error| failed("bind", error))?;
    let local = socket
        .local_addr()
        .map_err(|error| failed("getsockname", error))?;
    Ok(Bound {
        socket: Listening::Tcp(socket),
        local: local.to_string(),
    })
}

fn listen_tcp(address: SocketAddr, options: SocketOptions) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() && address.ip().is_unspecified() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    // Go sets it on every listener; without it a restart within a minute would find the port taken.
    socket.set_reuseaddr(true)?;
    if options.reuse_port {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn bind_unix(path: &PathBuf) -> Result<Bound, BindError> {
    let local = path.display().to_string();
    let failed = |step, error| BindError {
        network: "unix",
        address: path.display().to_string(),
        step,
        error,
    };
    // The last run's socket; anything else there is somebody's file.
    if fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket()) {
        fs::remove_file(path).map_err(|error| failed("remove", error))?;
    }
    let socket = UnixListener::bind(path).map_err(|error| failed("bind", error))?;
    Ok(Bound {
        socket: Listening::Unix(socket),
        local,
    })
}

impl Bound {
    /// A socket of the service manager.
    pub fn inherited(listener: InheritedListener) -> io::Result<Self> {
        match listener {
            InheritedListener::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                let socket = TcpListener::from_std(socket)?;
                let local = socket.local_addr()?.to_string();
                Ok(Self {
                    socket: Listening::Tcp(socket),
                    local,
                })
            }
            InheritedListener::Unix(socket) => {
                socket.set_nonblocking(true)?;
                let address = socket.local_addr()?;
                let local = address.as_pathname().map(|path| path.display().to_string());
                let socket = UnixListener::from_std(socket)?;
                Ok(Self {
                    socket: Listening::Unix(socket),
                    local: local.unwrap_or_default(),
                })
            }
        }
    }

    /// Whether it listens where `address` says, so that it can stand in for binding it.
    pub fn is_at(&self, address: &Address) -> bool {
        match (&self.socket, address) {
            (Listening::Tcp(socket), Address::Tcp(host, port)) => {
                let host = if host == "localhost" {
                    "127.0.0.1"
                } else {
                    host
                };
                let Ok(local) = socket.local_addr() else {
                    return false;
                };
                let same = host.parse().is_ok_and(|ip: IpAddr| {
                    ip == local.ip() || ip.is_unspecified() && local.ip().is_unspecified()
                });
                same && local.port() == *port
            }
            (Listening::Unix(_), Address::Unix(path)) => path.display().to_string() == self.local,
            _ => false,
        }
    }

    /// Its address as it listens: with the port chosen, if 0 was asked for.
    pub fn local(&self) -> &str {
        &self.local
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Listening::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Listening::Unix(socket) => Ok(Stream::Unix(socket.accept().await?.0)),
        }
    }
}

impl AsFd for Bound {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Listening::Tcp(socket) => socket.as_fd(),
            Listening::Unix(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp(host.to_owned(), port)
    }

    fn port(bound: &Bound) -> u16 {
        bound.local().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    #[tokio::test]
    async fn a_port_in_use_is_told_in_gos_words_unless_shared() {
        let first = bind(&tcp("localhost", 0), SocketOptions::default()).unwrap();
        let first_port = port(&first);
        let error = bind(&tcp("127.0.0.1", first_port), SocketOptions::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("listen tcp 127.0.0.1:{first_port}: bind: address already in use")
        );
        assert!(
            first.is_at(&tcp("localhost", first_port))
                && first.is_at(&tcp("127.0.0.1", first_port))
        );
        assert!(!first.is_at(&tcp("127.0.0.1", first_port - 1)));

        let shared = SocketOptions {
            reuse_port: true,
            ..SocketOptions::default()
        };
        let one = bind(&tcp("127.0.0.1", 0), shared).unwrap();
        bind(&tcp("127.0.0.1", port(&one)), shared).unwrap();
    }

    #[tokio::test]
    async fn all_addresses_are_those_of_both_families() {
        let all = bind(&tcp("0.0.0.0", 0), SocketOptions::default()).unwrap();
        let port = port(&all);
        let near = tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .unwrap();
        let far = all.accept().await.unwrap();
        assert_eq!(
            far.remote().unwrap().port(),
            near.local_addr().unwrap().port()
        );
        assert!(all.is_at(&tcp("0.0.0.0", port)));
    }

    #[tokio::test]
    async fn an_old_socket_file_gives_way_and_another_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("etcd.sock");
        let address = Address::Unix(path.clone());
        drop(bind(&address, SocketOptions::default()).unwrap());
        assert!(path.exists());
        let again = bind(&address, SocketOptions::default()).unwrap();
        assert!(again.is_at(&address));
        drop(again);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        let error = bind(&address, SocketOptions::default())
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("bind: address already in use"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_socket_of_the_manager_serves() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let bound = Bound::inherited(InheritedListener::Tcp(socket)).unwrap();
        assert_eq!(bound.local(), address.to_string());
        let _near = tokio::net::TcpStream::connect(address).await.unwrap();
        bound.accept().await.unwrap();
    }
}
