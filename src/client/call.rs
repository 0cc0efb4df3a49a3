//! Making a call: deadline, retries, tokens, and the log line of each failed attempt.

use super::balancer::Balancer;
use super::connection::Peer;
use super::error::{Error, text};
use super::log::{Level, Value};
use super::{Client, Credentials, Deadline};
use crate::pb::etcdserverpb::AuthenticateRequest;
use http::uri::PathAndQuery;
use rand::Rng;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A call's path and whether it may be repeated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Method {
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// When a failed attempt is repeated.
    pub repeat: Repeat,
}

/// When a failed attempt is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// While the server is unavailable: doing it twice is harmless.
    Safe,
    /// Only when it surely was not sent.
    Unsent,
}

/// What a message must be to travel.
pub(super) trait Message: prost::Message + Default + Send + Sync + 'static {}
impl<T: prost::Message + Default + Send + Sync + 'static> Message for T {}

/// Attempts per call.
const ATTEMPTS_MAX: u32 = 100;

/// Pause after each round over a quorum of the endpoints.
const PAUSE: Duration = Duration::from_millis(25);

/// How much earlier than here a deadline may pass at the server.
const DEADLINE_SLACK: Duration = Duration::from_millis(20);

/// The API version sent with every call.
const API_VERSION: &str = "3.7";

impl Client {
    /// One request, one response.
    pub(super) async fn unary<Req: Message + Clone, Resp: Message>(
        &self,
        method: Method,
        request: Req,
        deadline: Deadline,
    ) -> Result<Resp, Error> {
        let mut attempt = 0;
        loop {
            self.pause_before(attempt, deadline).await?;
            let status = match self.attempt(method, &request, deadline).await {
                Ok(response) => return Ok(response),
                Err(failed) => {
                    self.log_failure(method, attempt, &failed);
                    failed.status
                }
            };
            attempt += 1;
            let error = Error::from_status(&status, has_passed(deadline));
            let context = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
            if attempt >= ATTEMPTS_MAX || (context && has_passed(deadline)) {
                return Err(error);
            }
            if context {
                continue;
            }
            if self.needs_new_token(&error) {
                // Boxed: logging in is itself a unary call.
                if let Err(refused) = Box::pin(self.log_in(deadline)).await {
                    self.log_no_token(&refused);
                    return Err(refused);
                }
                continue;
            }
            if !self.may_repeat(method, &status, &error) {
                return Err(error);
            }
        }
    }

    /// One request, a stream of responses.
    pub(super) async fn server_stream<Req: Message + Clone, Resp: Message>(
        &self,
        method: Method,
        request: Req,
        deadline: Deadline,
    ) -> Result<Streaming<Resp>, Status> {
        self.token_for_stream(deadline).await?;
        let opening = async {
            loop {
                let connection = self.inner.balancer.next().await.for_one_call();
                let path = PathAndQuery::from_static(method.path);
                let request = self.request(request.clone(), deadline, false);
                let mut grpc = self.grpc(connection.clone());
                match grpc
                    .server_streaming(request, path, ProstCodec::default())
                    .await
                {
                    Err(_) if connection.was_unsent() => {}
                    opened => return opened.map(tonic::Response::into_inner).map_err(reworded),
                }
            }
        };
        within(deadline, opening)
            .await
            .unwrap_or_else(|_| Err(self.expired(false)))
    }

    /// Streams both ways. Requests already in the channel are sent at once; the server may answer only then.
    pub(super) async fn streams<Req: Message, Resp: Message>(
        &self,
        method: Method,
        requests: tokio::sync::mpsc::Receiver<Req>,
        require_leader: bool,
    ) -> Result<Streaming<Resp>, Status> {
        self.token_for_stream(None).await?;
        let connection = self.inner.balancer.next().await.for_one_call();
        let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
        let request = self.request(requests, None, require_leader);
        let path = PathAndQuery::from_static(method.path);
        let opened = self
            .grpc(connection)
            .streaming(request, path, ProstCodec::default())
            .await;
        opened.map(tonic::Response::into_inner).map_err(reworded)
    }

    /// Fetches a token, if there is a user to fetch one for. A server without authentication needs none.
    pub(super) async fn log_in(&self, deadline: Deadline) -> Result<(), Error> {
        let Credentials::Password { user, password } = &self.inner.config.credentials else {
            return Ok(());
        };
        if user.is_empty() || password.is_empty() {
            return Ok(());
        }
        let request = AuthenticateRequest {
            name: user.clone(),
            password: password.clone(),
        };
        let token = match self.authenticate(request, deadline).await {
            Ok(response) => Some(response.token),
            Err(error) if error.is(text::AUTH_NOT_ENABLED) => None,
            Err(error) => return Err(error),
        };
        *self.inner.token.lock() = token.filter(|token| !token.is_empty());
        Ok(())
    }

    /// Long-lived streams outlive tokens, so each begins with a fresh one.
    async fn token_for_stream(&self, deadline: Deadline) -> Result<(), Status> {
        self.log_in(deadline).await.map_err(|error| {
            let fields = [("error", Value::from(error.to_string()))];
            self.logger()
                .log(Level::Error, "getting a token for a stream failed", &fields);
            match error {
                Error::Etcd { code, text } | Error::Rpc { code, text } => Status::new(code, text),
                Error::DeadlineExceeded => Status::deadline_exceeded(error.to_string()),
                other => Status::unknown(other.to_string()),
            }
        })
    }

    async fn attempt<Req: Message + Clone, Resp: Message>(
        &self,
        method: Method,
        request: &Req,
        deadline: Deadline,
    ) -> Result<Resp, Failed> {
        let (size, limit) = (request.encoded_len(), self.inner.config.request_bytes_max);
        if size > limit {
            let text = format!("trying to send message larger than max ({size} vs. {limit})");
            return Err(Failed {
                status: Status::resource_exhausted(text),
                peer: None,
            });
        }
        let mut peer = None;
        let calling = async {
            loop {
                let connection = self.inner.balancer.next().await.for_one_call();
                peer = Some(Arc::clone(connection.peer()));
                let path = PathAndQuery::from_static(method.path);
                let request = self.request(request.clone(), deadline, false);
                let mut grpc = self.grpc(connection.clone());
                match grpc.unary(request, path, ProstCodec::default()).await {
                    Err(_) if connection.was_unsent() => peer = None,
                    answered => return answered.map(tonic::Response::into_inner).map_err(reworded),
                }
            }
        };
        let result = within(deadline, calling).await;
        match result {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(status)) if is_deadline_of_server(&status, deadline) => {
                within(deadline, std::future::pending::<()>()).await.ok();
                Err(Failed {
                    status: self.expired(true),
                    peer,
                })
            }
            Ok(Err(status)) => Err(Failed { status, peer }),
            Err(_) => Err(Failed {
                status: self.expired(peer.is_some()),
                peer,
            }),
        }
    }

    fn grpc(
        &self,
        connection: super::connection::Connection,
    ) -> Grpc<super::connection::Connection> {
        let origin = connection.origin().clone();
        Grpc::with_origin(connection, origin)
            .max_decoding_message_size(self.inner.config.response_bytes_max)
            .max_encoding_message_size(usize::MAX)
    }

    fn request<T>(&self, message: T, deadline: Deadline, require_leader: bool) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(at) = deadline {
            request.set_timeout(at.saturating_duration_since(Instant::now()));
        }
        let metadata = request.metadata_mut();
        metadata.insert(
            "client-api-version",
            MetadataValue::from_static(API_VERSION),
        );
        if require_leader {
            metadata.insert("hasleader", MetadataValue::from_static("true"));
        }
        if let Some(token) = self.inner.token.lock().as_deref()
            && let Ok(token) = token.parse()
        {
            metadata.insert("token", token);
        }
        request
    }

    fn expired(&self, was_connected: bool) -> Status {
        let text = "context deadline exceeded";
        if was_connected {
            return Status::deadline_exceeded(text);
        }
        Status::deadline_exceeded(match self.inner.balancer.last_error() {
            Some(error) => format!("latest balancer error: {error}"),
            None => format!("{text} while waiting for connections to become ready"),
        })
    }

    async fn pause_before(&self, attempt: u32, deadline: Deadline) -> Result<(), Error> {
        let quorum = self.inner.balancer.endpoints().len() as u32 / 2 + 1;
        if attempt == 0 || !attempt.is_multiple_of(quorum) {
            return Ok(());
        }
        let pause = PAUSE.mul_f64(rand::rng().random_range(0.9..1.1));
        within(deadline, tokio::time::sleep(pause))
            .await
            .map_err(|_| Error::DeadlineExceeded)
    }

    fn needs_new_token(&self, error: &Error) -> bool {
        if matches!(self.inner.config.credentials, Credentials::Token(_)) {
            return false;
        }
        if error.is(text::USER_EMPTY) {
            return matches!(self.inner.config.credentials, Credentials::Password { .. });
        }
        error.is(text::INVALID_AUTH_TOKEN) || error.is(text::AUTH_OLD_REVISION)
    }

    fn may_repeat(&self, method: Method, status: &Status, error: &Error) -> bool {
        // A list that mixes learners and voters: the next endpoint may be a voter.
        if error.is(text::NOT_SUPPORTED_FOR_LEARNER) {
            return self.inner.balancer.endpoints().len() > 1;
        }
        // What surely was not sent has been repeated on another connection already.
        method.repeat == Repeat::Safe && status.code() == Code::Unavailable
    }

    fn log_failure(&self, method: Method, attempt: u32, failed: &Failed) {
        let error = Error::Rpc {
            code: failed.status.code(),
            text: failed.status.message().to_owned(),
        };
        let fields = [
            ("target", self.target().into()),
            ("peer", describe(failed.peer.as_deref()).into()),
            ("method", method.path.into()),
            ("attempt", i64::from(attempt).into()),
            ("error", error.to_string().into()),
        ];
        self.logger()
            .log(Level::Warn, "retrying of unary invoker failed", &fields);
    }

    fn log_no_token(&self, error: &Error) {
        let fields = [
            ("target", self.target().into()),
            ("error", error.to_string().into()),
        ];
        let message = "retrying of unary invoker failed to fetch new auth token";
        self.logger().log(Level::Warn, message, &fields);
    }

    fn target(&self) -> String {
        let endpoint = self.inner.balancer.endpoints().first();
        let authority = endpoint
            .map(super::Endpoint::without_scheme)
            .unwrap_or_default();
        format!(
            "etcd-endpoints://{:p}/{authority}",
            Arc::<Balancer>::as_ptr(&self.inner.balancer)
        )
    }
}

/// A failed attempt.
struct Failed {
    status: Status,
    /// The connection it was on, if it got one.
    peer: Option<Arc<Peer>>,
}

fn describe(peer: Option<&Peer>) -> String {
    match peer {
        None => "Peer{Addr: <nil>, LocalAddr: <nil>, AuthInfo: <nil>}".to_owned(),
        Some(Peer {
            remote,
            local,
            encrypted,
        }) => {
            let security = if *encrypted { "tls" } else { "insecure" };
            format!("Peer{{Addr: '{remote}', LocalAddr: '{local}', AuthInfo: '{security}'}}")
        }
    }
}

fn has_passed(deadline: Deadline) -> bool {
    deadline.is_some_and(|at| at <= Instant::now())
}

/// Whether the server gave a call up because its time is over: it knows the deadline too, and its clock may be a
/// moment ahead.
fn is_deadline_of_server(status: &Status, deadline: Deadline) -> bool {
    status.code() == Code::Cancelled
        && deadline.is_some_and(|at| at <= Instant::now() + DEADLINE_SLACK)
}

async fn within<F: Future>(
    deadline: Deadline,
    work: F,
) -> Result<F::Output, tokio::time::error::Elapsed> {
    match deadline {
        Some(at) => tokio::time::timeout_at(at, work).await,
        None => Ok(work.await),
    }
}

/// Statuses tonic makes up itself, in gRPC's own words.
pub(super) fn reworded(status: Status) -> Status {
    let too_large = "Error, decoded message length too large: ";
    if status.code() == Code::OutOfRange
        && let Some(rest) = status.message().strip_prefix(too_large)
    {
        let mut numbers = rest
            .split(|c: char| !c.is_ascii_digit())
            .filter(|number| !number.is_empty());
        let (size, limit) = (numbers.next().unwrap_or("?"), numbers.next().unwrap_or("?"));
        let text = format!("grpc: received message larger than max ({size} vs. {limit})");
        return Status::resource_exhausted(text);
    }
    status
}

/// Whether a broken stream cannot be helped by opening another: the server is there and says no.
pub(super) fn is_final(status: &Status) -> bool {
    !matches!(status.code(), Code::Unavailable | Code::Internal)
        || status.message() == text::NO_LEADER
}
