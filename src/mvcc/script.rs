//! Runs the scripts under `scripts/`: what the store does, told by example.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;

use bytes::Bytes;
use goldenscript::{Argument, Command, Context};
use prost::Message;

use super::*;
use crate::pb::KeyValue;
use crate::pb::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::response_op::Response;
use crate::pb::etcdserverpb::*;
use crate::store::{Change, Values};

macro_rules! scripts {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mvcc/scripts/");
            let path = format!("{directory}{}.txt", stringify!($name));
            goldenscript::run(&mut Script::new(), path).expect("script runs");
        })+
    };
}

scripts! { changes compaction hash ranges revisions streams transactions views }

/// Leases that exist.
const LEASES: std::ops::Range<i64> = 1..20;

struct Script {
    mvcc: Mvcc,
    views: BTreeMap<String, View>,
}

type Output = Result<String, Box<dyn Error>>;

impl Script {
    fn new() -> Self {
        Self {
            mvcc: Mvcc::new(Values::new(None, 1, 0)),
            views: BTreeMap::new(),
        }
    }

    fn view(&self, args: &mut Args) -> Result<View, Box<dyn Error>> {
        match args.word("view") {
            None => Ok(self.mvcc.view()),
            Some(name) => Ok(self.views.get(&name).ok_or("no such view")?.clone()),
        }
    }

    fn execute(&mut self, name: &str, args: &mut Args) -> Output {
        let lease_exists = |lease| LEASES.contains(&lease);
        match name {
            "put" => {
                let (response, changes) = self.mvcc.put(&args.put()?, &lease_exists)?;
                Ok(put_text(&response) + &changes_text(changes.as_deref()))
            }
            "delete" => {
                let (response, changes) = self.mvcc.delete_range(&args.delete()?)?;
                Ok(delete_text(&response) + &changes_text(changes.as_deref()))
            }
            "get" => {
                let view = self.view(args)?;
                let request = args.range()?;
                let response = view.range(&request)?;
                let encoded = view.range_encoded(&request)?;
                let decoded = RangeResponse {
                    header: response.header,
                    ..RangeResponse::decode(encoded.fields)?
                };
                assert_eq!(decoded, response, "{request:?}, encoded");
                assert_eq!(encoded.pairs, response.kvs.len());
                assert_eq!(encoded.count, response.count);
                Ok(range_text(&response))
            }
            "txn" => {
                let request = args.txn()?;
                check_txn(&request, 128)?;
                let (response, changes) = self.mvcc.txn(&request, &lease_exists)?;
                Ok(txn_text(&response) + &changes_text(changes.as_deref()))
            }
            "read-txn" => {
                let request = args.txn()?;
                Ok(txn_text(&self.mvcc.view().txn_read_only(&request)?))
            }
            "compact" => {
                let (revision, previous) = (args.number("")?, self.mvcc.compact_revision());
                self.mvcc.compact(revision)?;
                let hash = self.mvcc.view().hash_compaction(previous, revision)?;
                Ok(format!("{}\n", hash_text(&hash)))
            }
            "prune" => {
                let pruned = self.mvcc.prune(args.number("")? as usize);
                let removed = pruned
                    .removed
                    .iter()
                    .map(|at| format!("{}.{}", at.main, at.sub));
                let removed = removed.collect::<Vec<_>>().join(" ");
                let done = if pruned.done { "done" } else { "not done" };
                Ok(format!("removed [{removed}], {done}\n"))
            }
            "hash" => {
                let hash = self.mvcc.view().hash_kv(args.number("")?)?;
                Ok(format!("{}\n", hash_text(&hash)))
            }
            "changes" => self.changes(args),
            "stream" => self.stream(args),
            "hold" => {
                self.views.insert(args.next()?, self.mvcc.view());
                Ok(String::new())
            }
            "sizes" => Ok(format!(
                "revision {}, compacted {}, live {}, {} bytes stored, {} live\n",
                self.mvcc.revision(),
                self.mvcc.compact_revision(),
                self.mvcc.view().live_count(),
                self.mvcc.stored_bytes(),
                self.mvcc.live_bytes(),
            )),
            _ => Err(format!("no command {name}").into()),
        }
    }

    fn changes(&self, args: &mut Args) -> Output {
        let (key, end) = args.keys()?;
        let (mut next, max) = (args.number("from")?, args.number("max")?);
        let view = self.mvcc.view();
        let mut text = String::new();
        while next <= view.revision() {
            let some = view.changes(&KeyRange::new(&key, &end), next, max as usize)?;
            for change in &some.changes {
                let what = match change.row.tombstone {
                    true => format!("deleted {}", text_of(&change.row.key)),
                    false => pair_text(&KeyValue::from_encoded(change.record.clone())),
                };
                let at = change.row.revision;
                writeln!(text, "{}.{} {what}", at.main, at.sub)?;
            }
            next = some.next;
            writeln!(text, "next {next}")?;
        }
        Ok(text)
    }

    fn stream(&self, args: &mut Args) -> Output {
        let keys_max = args.number("keys_max")? as usize;
        let request = args.range()?;
        check_range_stream(&request)?;
        let mut stream = self.mvcc.view().range_stream(&request)?;
        let mut text = String::new();
        while let Some(message) = stream.next(keys_max)? {
            text += &range_text(&message);
        }
        Ok(text)
    }
}

impl goldenscript::Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Output {
        let mut args = Args(command.args.clone());
        let output = self.execute(&command.name, &mut args);
        if let Some(left) = args.0.first() {
            return Err(format!("unexpected argument {left}").into());
        }
        self.mvcc.tree.check();
        Ok(output.unwrap_or_else(|error| format!("{error}\n")))
    }
}

struct Args(Vec<Argument>);

impl Args {
    /// Splits an operation of a transaction into words; `''` is an empty one.
    fn of(line: &str) -> Self {
        let word = |word: &str| match word.split_once('=') {
            Some((key, value)) => Argument::KeyValue(key.into(), value.into()),
            None if word == "''" => Argument::Positional(String::new()),
            None => Argument::Positional(word.into()),
        };
        Self(line.split_whitespace().map(word).collect())
    }

    fn next(&mut self) -> Result<String, Box<dyn Error>> {
        let at = self
            .0
            .iter()
            .position(|arg| matches!(arg, Argument::Positional(_)));
        match self.0.remove(at.ok_or("an argument is missing")?) {
            Argument::Positional(word) => Ok(word),
            _ => Err("an argument is missing".into()),
        }
    }

    fn word(&mut self, key: &str) -> Option<String> {
        let is_it = |arg: &Argument| matches!(arg, Argument::KeyValue(name, _) if name == key);
        match self.0.remove(self.0.iter().position(is_it)?) {
            Argument::KeyValue(_, value) => Some(value),
            _ => None,
        }
    }

    /// The number of a `key=`, 0 if it is not there; the next argument if `key` is empty.
    fn number(&mut self, key: &str) -> Result<i64, Box<dyn Error>> {
        let word = match key {
            "" => Some(self.next()?),
            key => self.word(key),
        };
        Ok(word.map_or(Ok(0), |word| word.parse())?)
    }

    fn flag(&mut self, name: &str) -> bool {
        let is_it = |arg: &Argument| matches!(arg, Argument::Positional(word) if word == name);
        let at = self.0.iter().position(is_it);
        at.map(|at| self.0.remove(at)).is_some()
    }

    fn keys(&mut self) -> Result<(Bytes, Bytes), Box<dyn Error>> {
        let key = self.next()?;
        Ok((key.into(), self.next().unwrap_or_default().into()))
    }

    fn put(&mut self) -> Result<PutRequest, Box<dyn Error>> {
        Ok(PutRequest {
            prev_kv: self.flag("prev_kv"),
            ignore_value: self.flag("ignore_value"),
            ignore_lease: self.flag("ignore_lease"),
            lease: self.number("lease")?,
            key: self.next()?.into(),
            value: self.next().unwrap_or_default().into(),
        })
    }

    fn delete(&mut self) -> Result<DeleteRangeRequest, Box<dyn Error>> {
        let prev_kv = self.flag("prev_kv");
        let (key, range_end) = self.keys()?;
        Ok(DeleteRangeRequest {
            key,
            range_end,
            prev_kv,
        })
    }

    fn range(&mut self) -> Result<RangeRequest, Box<dyn Error>> {
        let mut request = RangeRequest {
            keys_only: self.flag("keys_only"),
            count_only: self.flag("count_only"),
            limit: self.number("limit")?,
            revision: self.number("revision")?,
            min_mod_revision: self.number("min_mod")?,
            max_mod_revision: self.number("max_mod")?,
            min_create_revision: self.number("min_create")?,
            max_create_revision: self.number("max_create")?,
            ..RangeRequest::default()
        };
        if let Some(order) = self.word("order") {
            let order = SortOrder::from_str_name(&order).ok_or("no such order")?;
            request.sort_order = order.into();
        }
        if let Some(target) = self.word("target") {
            let target = SortTarget::from_str_name(&target).ok_or("no such target")?;
            request.sort_target = target.into();
        }
        (request.key, request.range_end) = self.keys()?;
        Ok(request)
    }

    fn txn(&mut self) -> Result<TxnRequest, Box<dyn Error>> {
        let mut request = TxnRequest::default();
        for arg in std::mem::take(&mut self.0) {
            match arg {
                Argument::KeyValue(key, line) if key == "if" => {
                    request.compare.push(compare(&line)?);
                }
                Argument::KeyValue(key, line) if key == "then" => request.success.push(op(&line)?),
                Argument::KeyValue(key, line) if key == "else" => request.failure.push(op(&line)?),
                other => return Err(format!("unexpected argument {other}").into()),
            }
        }
        Ok(request)
    }
}

/// `VERSION a EQUAL 3`, with an optional range end behind.
fn compare(line: &str) -> Result<Compare, Box<dyn Error>> {
    let mut args = Args::of(line);
    let target = CompareTarget::from_str_name(&args.next()?).ok_or("no such target")?;
    let key = args.next()?;
    let result = CompareResult::from_str_name(&args.next()?).ok_or("no such result")?;
    let operand = args.next()?;
    let union = match target {
        CompareTarget::Version => TargetUnion::Version(operand.parse()?),
        CompareTarget::Create => TargetUnion::CreateRevision(operand.parse()?),
        CompareTarget::Mod => TargetUnion::ModRevision(operand.parse()?),
        CompareTarget::Lease => TargetUnion::Lease(operand.parse()?),
        CompareTarget::Value => TargetUnion::Value(operand.into()),
    };
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        range_end: args.next().unwrap_or_default().into(),
        target_union: Some(union),
    })
}

/// A command, or a nested transaction: `txn if … ; then … ; else …`.
fn op(line: &str) -> Result<RequestOp, Box<dyn Error>> {
    let (name, rest) = line.split_once(' ').ok_or("an operation has arguments")?;
    let mut args = Args::of(rest);
    let request = match name {
        "put" => Request::RequestPut(args.put()?),
        "delete" => Request::RequestDeleteRange(args.delete()?),
        "get" => Request::RequestRange(args.range()?),
        "txn" => {
            let parts = rest.split(';').map(|part| {
                let (key, line) = part.trim().split_once(' ').unwrap_or_default();
                Argument::KeyValue(key.into(), line.into())
            });
            Request::RequestTxn(Args(parts.collect()).txn()?)
        }
        _ => return Err(format!("no operation {name}").into()),
    };
    Ok(RequestOp {
        request: Some(request),
    })
}

fn text_of(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn pair_text(pair: &KeyValue) -> String {
    let fields = pair.fields();
    let mut text = format!(
        "{}={:?} created {} modified {} version {}",
        text_of(&fields.key),
        text_of(&fields.value),
        fields.create_revision,
        fields.mod_revision,
        fields.version
    );
    if fields.lease != 0 {
        text += &format!(" lease {}", fields.lease);
    }
    text
}

fn previous_text<'a>(pairs: impl IntoIterator<Item = &'a KeyValue>) -> String {
    let pairs = pairs.into_iter();
    pairs
        .map(|pair| format!("was {}\n", pair_text(pair)))
        .collect()
}

fn revision_text(header: &Option<ResponseHeader>) -> String {
    match header {
        None => "no header".into(),
        Some(header) => format!("revision {}", header.revision),
    }
}

fn put_text(response: &PutResponse) -> String {
    format!("put, {}\n", revision_text(&response.header)) + &previous_text(&response.prev_kv)
}

fn delete_text(response: &DeleteRangeResponse) -> String {
    let revision = revision_text(&response.header);
    let head = format!("deleted {}, {revision}\n", response.deleted);
    head + &previous_text(&response.prev_kvs)
}

fn range_text(response: &RangeResponse) -> String {
    let mut text: String = response
        .kvs
        .iter()
        .map(|pair| pair_text(pair) + "\n")
        .collect();
    let revision = revision_text(&response.header);
    let more = if response.more { ", more" } else { "" };
    text += &format!("count {}{more}, {revision}\n", response.count);
    text
}

fn txn_text(response: &TxnResponse) -> String {
    let revision = revision_text(&response.header);
    let mut text = format!("succeeded {}, {revision}\n", response.succeeded);
    for response in &response.responses {
        let inner = match response.response.as_ref() {
            Some(Response::ResponseRange(range)) => range_text(range),
            Some(Response::ResponsePut(put)) => put_text(put),
            Some(Response::ResponseDeleteRange(delete)) => delete_text(delete),
            Some(Response::ResponseTxn(txn)) => txn_text(txn),
            None => "nothing\n".into(),
        };
        for line in inner.lines() {
            text += &format!("  {line}\n");
        }
    }
    text
}

fn changes_text(changes: Option<&[Change]>) -> String {
    let lines = changes.unwrap_or_default().iter().map(|change| {
        let at = change.row.revision;
        let sign = if change.row.tombstone { '-' } else { '+' };
        let mut line = format!("{sign}{} {}.{}", text_of(&change.row.key), at.main, at.sub);
        if let Some(previous) = change.previous {
            line += &format!(" after {}.{}", previous.main, previous.sub);
        }
        match (change.previous_lease, change.row.lease) {
            (0, 0) => {}
            (old, new) => line += &format!(" lease {old} -> {new}"),
        }
        line + "\n"
    });
    lines.collect()
}

fn hash_text(hash: &KvHash) -> String {
    let (compacted, revision) = (hash.compact_revision, hash.revision);
    format!("hash {} at {revision}, compacted {compacted}", hash.hash)
}
