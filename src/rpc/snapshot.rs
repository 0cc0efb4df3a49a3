//! Maintenance.Snapshot: a database file, in pieces, and its checksum.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::server::Server;
use super::status;
use super::wire::Context;
use crate::logging::{GoDuration, HumanBytes};
use crate::metrics;
use crate::pb::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use crate::store::Frozen;

/// Bytes of the file in one message.
const PIECE_BYTES: usize = 32 * 1024;
/// Messages that may wait for the client.
const PIECES_QUEUED_MAX: usize = 16;

type Reply = Result<SnapshotResponse, Status>;

impl Server {
    pub(super) async fn snapshot(
        self: &Arc<Self>,
        context: &Context,
        _: SnapshotRequest,
    ) -> Result<impl Stream<Item = Reply> + Send + use<>, Status> {
        self.admit_stream(context, true)?;
        let frozen = self.node.freeze().await.map_err(status::node)?;
        let version = self.storage_version();
        let (replies, stream) = mpsc::channel(PIECES_QUEUED_MAX);
        tokio::task::spawn_blocking(move || {
            metrics::global().open_read_transactions.add(1);
            send(&frozen, version, replies);
            metrics::global().open_read_transactions.add(-1);
        });
        Ok(ReceiverStream::new(stream))
    }
}

/// Writes a snapshot as messages. Ends early when nobody takes them any more.
fn send(frozen: &Frozen, version: String, replies: mpsc::Sender<Reply>) {
    let started = Instant::now();
    let planned = match frozen.snapshot() {
        Ok(planned) => planned,
        Err(error) => {
            let _ = replies.blocking_send(Err(status::failed(&error)));
            return;
        }
    };
    let total_bytes = planned.file_bytes();
    tracing::info!(
        "total-bytes" = total_bytes,
        size = %HumanBytes(total_bytes),
        "storage-version" = version,
        "sending database snapshot to client"
    );
    let mut pieces = Pieces {
        replies,
        version: version.clone(),
        piece: BytesMut::with_capacity(PIECE_BYTES),
        total_bytes,
        remaining_bytes: total_bytes,
        digest: Sha256::new(),
    };
    if let Err(error) = planned
        .write(&mut pieces)
        .map_err(|error| status::failed(&error))
    {
        let _ = pieces.replies.blocking_send(Err(error));
        return;
    }
    if pieces.finish().is_err() {
        return;
    }
    metrics::global()
        .backend_snapshot
        .observe_duration(started.elapsed());
    tracing::info!(
        "total-bytes" = total_bytes,
        size = %HumanBytes(total_bytes),
        took = %GoDuration::from(started.elapsed()),
        "storage-version" = version,
        "successfully sent database snapshot to client"
    );
}

/// Cuts what is written into messages.
struct Pieces {
    replies: mpsc::Sender<Reply>,
    version: String,
    piece: BytesMut,
    /// Bytes of the file.
    total_bytes: u64,
    /// Those that are not in a message yet.
    remaining_bytes: u64,
    digest: Sha256,
}

impl Pieces {
    fn send(&mut self, blob: Bytes) -> io::Result<()> {
        let reply = SnapshotResponse {
            header: None,
            remaining_bytes: self.remaining_bytes,
            blob,
            version: self.version.clone(),
        };
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.replies.blocking_send(Ok(reply)).map_err(gone)
    }

    fn send_piece(&mut self) -> io::Result<()> {
        let blob =
            std::mem::replace(&mut self.piece, BytesMut::with_capacity(PIECE_BYTES)).freeze();
        self.remaining_bytes = self.remaining_bytes.saturating_sub(blob.len() as u64);
        self.digest.update(&blob);
        self.send(blob)
    }

    /// Sends what is left, and the checksum.
    fn finish(mut self) -> io::Result<()> {
        if !self.piece.is_empty() {
            self.send_piece()?;
        }
        let checksum = Bytes::copy_from_slice(&self.digest.clone().finalize());
        tracing::info!(
            "total-bytes" = self.total_bytes,
            "checksum-size" = checksum.len(),
            "sending database sha256 checksum to client"
        );
        self.send(checksum)
    }
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.send_piece()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
