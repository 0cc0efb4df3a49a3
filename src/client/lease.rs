//! Keeping a lease alive over a stream that is opened again when it breaks.

use super::call::{Method, Repeat, is_final};
use super::error::{Error, text};
use super::{Client, Deadline};
use crate::pb::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};

/// Pause before a broken stream is opened again, and between requests that stay unanswered.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Longest time a timer is set for; times to live may be centuries.
const HORIZON: Duration = Duration::from_secs(3650 * 24 * 3600);

/// Answers that wait for the consumer.
const RESPONSES_MAX: usize = 16;

const KEEP_ALIVE: Method = Method {
    path: "/etcdserverpb.Lease/LeaseKeepAlive",
    repeat: Repeat::Safe,
};

/// Answers to keep-alive requests; ends when the lease is gone or nothing was heard for its time to live.
pub type KeepAlive = mpsc::Receiver<LeaseKeepAliveResponse>;

impl Client {
    /// Keeps a lease alive until the receiver is dropped: at once, then every third of its time to live.
    pub fn keep_alive(&self, id: i64) -> KeepAlive {
        let (answers, receiver) = mpsc::channel(RESPONSES_MAX);
        let first_answer_timeout = match self.inner.config.dial_timeout {
            Duration::ZERO => Duration::from_secs(60),
            timeout => timeout + Duration::from_secs(1),
        };
        let task = Task {
            client: self.clone(),
            id,
            answers,
            expires: Instant::now() + first_answer_timeout,
            next: Instant::now(),
        };
        tokio::spawn(task.run());
        receiver
    }

    /// Renews a lease once.
    pub async fn keep_alive_once(
        &self,
        id: i64,
        deadline: Deadline,
    ) -> Result<LeaseKeepAliveResponse, Error> {
        loop {
            match self.renew(id).await {
                Ok(answer) if answer.ttl <= 0 => {
                    let text = text::LEASE_NOT_FOUND.to_owned();
                    return Err(Error::Etcd {
                        code: Code::NotFound,
                        text,
                    });
                }
                Ok(answer) => return Ok(answer),
                Err(status) if is_final(&status) => {
                    return Err(Error::from_status(&status, false));
                }
                Err(_) if deadline.is_some_and(|at| at <= Instant::now()) => {
                    return Err(Error::DeadlineExceeded);
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    async fn renew(&self, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
        let (_requests, mut stream) = self.open_keep_alive(id, false).await?;
        stream
            .message()
            .await?
            .ok_or_else(|| Status::unavailable("the stream ended"))
    }

    /// A stream whose first request is on its way.
    async fn open_keep_alive(
        &self,
        id: i64,
        require_leader: bool,
    ) -> Result<
        (
            mpsc::Sender<LeaseKeepAliveRequest>,
            Streaming<LeaseKeepAliveResponse>,
        ),
        Status,
    > {
        let (requests, receiver) = mpsc::channel(1);
        let _ = requests.try_send(LeaseKeepAliveRequest { id });
        let stream = self.streams(KEEP_ALIVE, receiver, require_leader).await?;
        Ok((requests, stream))
    }
}

struct Task {
    client: Client,
    id: i64,
    answers: mpsc::Sender<LeaseKeepAliveResponse>,
    /// When the lease is taken for lost.
    expires: Instant,
    /// When the next request goes out.
    next: Instant,
}

impl Task {
    async fn run(mut self) {
        loop {
            let opened = tokio::select! {
                () = self.answers.closed() => return,
                () = tokio::time::sleep_until(self.expires) => return,
                opened = self.client.open_keep_alive(self.id, true) => opened,
            };
            if let Ok((requests, stream)) = opened {
                self.next = Instant::now() + RETRY_PAUSE;
                if self.serve(requests, stream).await.is_break() {
                    return;
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// `Break`: the lease is gone, or nobody wants to know any more.
    async fn serve(
        &mut self,
        requests: mpsc::Sender<LeaseKeepAliveRequest>,
        mut stream: Streaming<LeaseKeepAliveResponse>,
    ) -> ControlFlow<()> {
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(self.next) => {
                    self.next = Instant::now() + RETRY_PAUSE;
                    if requests.send(LeaseKeepAliveRequest { id: self.id }).await.is_err() {
                        return Continue(());
                    }
                }
                () = self.answers.closed() => return Break(()),
                () = tokio::time::sleep_until(self.expires) => return Break(()),
                answer = stream.message() => match answer {
                    Ok(Some(answer)) if answer.ttl <= 0 => return Break(()),
                    Ok(Some(answer)) => {
                        let ttl = Duration::from_secs(answer.ttl.unsigned_abs()).min(HORIZON);
                        self.next = Instant::now() + ttl / 3;
                        self.expires = Instant::now() + ttl;
                        // A consumer that does not read misses answers, not renewals.
                        let _ = self.answers.try_send(answer);
                    }
                    Ok(None) | Err(_) => return Continue(()),
                },
            }
        }
    }
}
