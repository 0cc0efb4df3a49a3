//! `check datascale`: how much memory a server takes for so many keys.

use super::{
    AUTO_COMPACT, AUTO_DEFRAG, Puts, Summary, delete_all, prepare, say, size, tidy, writers,
};
use crate::client::{Client, Endpoint, TlsOptions, http_get};
use crate::ctl::cli::{Command, Flag, Invocation};
use crate::ctl::exit::{Failure, code};
use crate::ctl::progress::Bar;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "datascale",
    usage: "[options]",
    short: "Checks how much memory a server takes for a load of keys",
    long: "Checks how much memory a server takes for a load of keys. Of several endpoints the first is looked at.",
    flags: &[
        Flag::text(
            "load",
            "s(mall): 10000 keys, m(edium): 100000, l(arge): 1000000, xl (xLarge): 3000000",
        )
        .or("s"),
        Flag::text("prefix", "prefix of the keys that are written").or("/etcdctl-check-datascale/"),
        AUTO_COMPACT,
        AUTO_DEFRAG,
    ],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

/// A load.
struct Load {
    pairs: u64,
    clients: usize,
}

const LOADS: [Load; 4] = [
    Load {
        pairs: 10_000,
        clients: 50,
    },
    Load {
        pairs: 100_000,
        clients: 200,
    },
    Load {
        pairs: 1_000_000,
        clients: 500,
    },
    Load {
        pairs: 3_000_000,
        clients: 1000,
    },
];

const KEY_BYTES: usize = 512;
const VALUE_BYTES: usize = 512;
const MEMORY: &str = "process_resident_memory_bytes";

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let load = size(&invocation.flags.text("load"), LOADS)?;
    let (spec, clients, prefix) = prepare(&mut invocation, load.clients, "").await?;
    let server = spec.endpoints.first().cloned().unwrap_or_default();
    let before = memory_bytes(&server, &spec.tls, "before").await?;
    let pair_bytes = KEY_BYTES + VALUE_BYTES;
    say(format_args!(
        "Start data scale check for work load [{} key-value pairs, {pair_bytes} bytes per key-value, \
         {} concurrent clients].",
        load.pairs, load.clients
    ))?;
    let summary = write(&clients, load.pairs, &prefix).await;
    let after = memory_bytes(&server, &spec.tls, "after").await?;
    let revision = delete_all(&clients[0], &prefix).await?;
    tidy(&invocation, &clients[0], Some(revision)).await?;
    if summary.report_errors()? {
        return Err(Failure::silent(code::ERROR));
    }
    let used = (after - before) / (1024.0 * 1024.0);
    say(format_args!(
        "PASS: Approximate system memory used : {used:.2} MB."
    ))
}

async fn write(clients: &[Client], pairs: u64, prefix: &[u8]) -> Summary {
    let (requests, mut made) = writers(clients);
    let puts = Puts::new(prefix, KEY_BYTES, VALUE_BYTES);
    tokio::spawn(async move {
        for _ in 0..pairs {
            if requests.send(puts.next()).await.is_err() {
                return;
            }
        }
    });
    let bar = Bar::always(pairs, "keys");
    let mut summary = Summary::default();
    while let Some(put) = made.recv().await {
        summary.add(put);
        bar.add(1);
    }
    bar.finish();
    summary
}

/// The server's resident memory, or the end of the check.
async fn memory_bytes(server: &str, tls: &TlsOptions, moment: &str) -> Result<f64, Failure> {
    if let Some(bytes) = read_memory(server, tls).await? {
        return Ok(bytes);
    }
    say(format_args!(
        "FAIL: Could not read {MEMORY} {moment} the put operations."
    ))?;
    Err(Failure::silent(code::ERROR))
}

/// `None`: it could not be read, which has been said.
async fn read_memory(server: &str, tls: &TlsOptions) -> Result<Option<f64>, Failure> {
    let url = match server.starts_with("http://") || server.starts_with("https://") {
        true => server.to_owned(),
        false => format!("http://{server}"),
    };
    let tls = match url.starts_with("https://") {
        true => TlsOptions {
            insecure_transport: false,
            ..tls.clone()
        }
        .load()?,
        false => None,
    };
    let body = match http_get(&Endpoint::parse(&url), "/metrics", tls.as_deref()).await {
        Ok(answer) => answer.body,
        Err(error) => {
            say(format_args!("fetch error: Get \"{url}/metrics\": {error}"))?;
            return Ok(None);
        }
    };
    let found = body
        .lines()
        .find_map(|line| line.strip_prefix(MEMORY))
        .unwrap_or_default();
    match found.trim() {
        "" => {
            say(format_args!("could not find: {MEMORY}"))?;
            Ok(None)
        }
        number => match number.parse::<f64>() {
            Ok(bytes) => Ok(Some(bytes).filter(|bytes| *bytes != 0.0)),
            Err(error) => {
                say(format_args!("parse error: {error}"))?;
                Ok(None)
            }
        },
    }
}
