//! `snapshot save`: the database of one member into a file.
//!
//! The file appears under its name only when it is whole, checked and on the disk.

use super::cli::{Command, Invocation};
use super::exit::{Failure, code};
use super::go::{bytes, duration};
use super::{print, progress};
use crate::bbolt::{SHA256_BYTES, has_sha256};
use crate::client::log::{Level, Logger};
use crate::client::{Client, Config, Deadline, Error, os_error_text};
use crate::pb::etcdserverpb::SnapshotResponse;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;
use tonic::{Code, Status, Streaming};

const EXAMPLES: &str = "  # Save a snapshot of the local member
  etcdctl snapshot save /backup/etcd.db

  # Save a snapshot of another member
  etcdctl snapshot save --endpoints=10.0.0.1:2379 /backup/etcd.db

  # With TLS, and a limit on the time it may take
  etcdctl --endpoints=https://10.0.0.1:2379 --cacert=ca.crt --cert=c.crt --key=c.key \\
    --command-timeout=10m snapshot save /backup/etcd.db";

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "snapshot",
    usage: "<subcommand>",
    group: super::commands::MAINTENANCE,
    short: "Saves snapshots of members",
    examples: EXAMPLES,
    children: &[&SAVE],
    ..Command::NEW
};

static SAVE: Command = Command {
    name: "save",
    usage: "<filename>",
    short: "Saves a snapshot of one member's database to a file",
    examples: EXAMPLES,
    run: Some(|invocation| Box::pin(save(invocation))),
    ..Command::NEW
};

async fn save(mut invocation: Invocation) -> Result<(), Failure> {
    if invocation.args.len() != 1 {
        return Err(Failure::args(
            "snapshot save expects one argument <filename>",
        ));
    }
    let (mut spec, _) = invocation.spec().await?;
    spec.log_name = "client";
    let config = spec.config()?;
    let limited = invocation.flags.is_given("command-timeout");
    let deadline = if limited { invocation.deadline() } else { None };
    let path = invocation.text(0).into_owned();
    let saved = download(config, deadline, &path).await;
    let version = saved.map_err(|message| Failure::new(code::INTERRUPTED, message))?;
    print::say(format_args!("Snapshot saved at {path}"))?;
    match version.as_str() {
        "" => Ok(()),
        version => print::say(format_args!("Server version {version}")),
    }
}

/// Saves a snapshot; returns the storage version of its server, if that names one.
async fn download(config: Config, deadline: Deadline, path: &str) -> Result<String, String> {
    let endpoint = match config.endpoints.as_slice() {
        [only] => only.clone(),
        several => {
            let list = several.join(" ");
            return Err(format!(
                "snapshot must be requested to one selected node, not multiple [{list}]"
            ));
        }
    };
    let client = Client::connect(config)
        .await
        .map_err(|error| error.to_string())?;
    let part = Part::create(path)?;
    let log = Logger::plain();
    log.log(
        Level::Info,
        "created temporary db file",
        &[("path", part.path.as_str().into())],
    );
    let start = Instant::now();
    let (mut stream, first) = open(&client, deadline).await?;
    log.log(
        Level::Info,
        "fetching snapshot",
        &[("endpoint", endpoint.as_str().into())],
    );
    let version = first.version.clone();
    let mut writer = Writer {
        file: &part.file,
        digest: Sha256::new(),
        tail: Vec::new(),
        size: 0,
    };
    let copied = copy(&client, &mut stream, first, &mut writer, deadline).await;
    copied.map_err(|why| format!("could not write snapshot: {why}"))?;
    writer.check()?;
    let size = writer.size;
    part.file
        .sync_all()
        .map_err(|e| format!("could not fsync snapshot: {}", os_error_text(&e)))?;
    let took = duration::print(start.elapsed().as_nanos() as i64);
    let fields = [
        ("endpoint", endpoint.as_str().into()),
        ("size", bytes::human(size).into()),
        ("took", took.into()),
        ("etcd-version", version.as_str().into()),
    ];
    log.log(Level::Info, "fetched snapshot", &fields);
    part.rename(path)?;
    log.log(Level::Info, "saved", &[("path", path.into())]);
    Ok(version)
}

/// Opens the stream and reads its first message.
async fn open(
    client: &Client,
    deadline: Deadline,
) -> Result<(Streaming<SnapshotResponse>, SnapshotResponse), String> {
    let refused = |status: &Status| format!("rpc error: {}", describe(status));
    let opened = client.snapshot(deadline).await;
    if let Err(status) = &opened
        && status.code() == Code::DeadlineExceeded
    {
        // No connection came up in time.
        let fields = [("error", refused(status).into())];
        client.logger().log(
            Level::Error,
            "streamer failed to create ClientStream",
            &fields,
        );
        return Err(Error::DeadlineExceeded.to_string());
    }
    client
        .logger()
        .log(Level::Info, "opened snapshot stream; downloading", &[]);
    let first = async {
        let mut stream = opened?;
        let first = stream
            .message()
            .await?
            .ok_or_else(|| Status::unknown("EOF"))?;
        Ok::<_, Status>((stream, first))
    };
    first.await.map_err(|status| {
        log_broken(client, &status);
        refused(&status)
    })
}

async fn copy(
    client: &Client,
    stream: &mut Streaming<SnapshotResponse>,
    first: SnapshotResponse,
    writer: &mut Writer<'_>,
    deadline: Deadline,
) -> Result<(), String> {
    // What is left after a chunk comes with it.
    let bar = progress::bytes(first.remaining_bytes + first.blob.len() as u64);
    let mut next = Some(first);
    while let Some(chunk) = next {
        bar.add(chunk.blob.len() as u64);
        writer
            .write(&chunk.blob)
            .map_err(|error| os_error_text(&error))?;
        let message = match deadline {
            None => stream.message().await,
            Some(at) => match tokio::time::timeout_at(at, stream.message()).await {
                Ok(message) => message,
                Err(_) => return Err(Error::DeadlineExceeded.to_string()),
            },
        };
        next = message.map_err(|status| {
            log_broken(client, &status);
            Error::from_status(&status, false).to_string()
        })?;
    }
    drop(bar);
    client
        .logger()
        .log(Level::Info, "completed snapshot read; closing", &[]);
    Ok(())
}

fn log_broken(client: &Client, status: &Status) {
    let fields = [("error", format!("rpc error: {}", describe(status)).into())];
    let message = "failed to receive from snapshot stream; closing";
    client.logger().log(Level::Warn, message, &fields);
}

fn describe(status: &Status) -> String {
    let code = crate::client::code_name(status.code());
    format!("code = {code} desc = {}", status.message())
}

/// Writes the snapshot and knows the digest of all but its end, which is the digest the server sent.
struct Writer<'a> {
    file: &'a File,
    digest: Sha256,
    tail: Vec<u8>,
    size: u64,
}

impl Writer<'_> {
    fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        self.file.write_all(chunk)?;
        self.size += chunk.len() as u64;
        self.tail.extend_from_slice(chunk);
        let hashed = self.tail.len().saturating_sub(SHA256_BYTES);
        self.digest.update(&self.tail[..hashed]);
        self.tail.drain(..hashed);
        Ok(())
    }

    fn check(&mut self) -> Result<(), String> {
        if !has_sha256(self.size) {
            return Err(format!("sha256 checksum not found [bytes: {}]", self.size));
        }
        let received = self.digest.finalize_reset();
        if received[..] != self.tail[..] {
            let (expected, received) = (hex::encode(&self.tail), hex::encode(received));
            return Err(format!(
                "expected sha256 {expected}, got {received}: save it again"
            ));
        }
        Ok(())
    }
}

/// The file while it is not whole; removed unless it is renamed.
struct Part {
    path: String,
    file: File,
}

impl Part {
    fn create(path: &str) -> Result<Self, String> {
        let path = format!("{path}.part");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).map_err(|error| {
            let error = os_error_text(&error);
            format!("could not open {path} (open {path}: {error})")
        })?;
        Ok(Self { path, file })
    }

    fn rename(self, path: &str) -> Result<(), String> {
        std::fs::rename(&self.path, path).map_err(|error| {
            let (from, error) = (&self.path, os_error_text(&error));
            format!("could not rename {from} to {path} (rename {from} {path}: {error})")
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if Path::new(&self.path).exists() {
            // What is left of a failed download is of no use; nor is an error about it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
