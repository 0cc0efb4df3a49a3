//! `txn`: three sections on standard input, each ended by an empty line: comparisons, requests for when all of
//! them hold, requests for when one does not.

use super::cli::{Command, Flag, Flags, Invocation, find, flags, help};
use super::exit::{Failure, code};
use super::go::number;
use super::go::quote::{quote, unquote_prefix};
use super::input::Lines;
use super::print::complain;
use super::{del, get, print, put, words};
use crate::pb::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "txn",
    usage: "[options]",
    group: super::commands::KEY_VALUE,
    short: "Makes several requests as one transaction",
    long: "Reads a transaction from standard input and executes it.

It has three parts, each ended by an empty line: comparisons, requests that are made when all
of them hold, and requests that are made otherwise.

$ etcdctl txn -i
compares:
mod(\"key1\") > \"0\"

success requests (get, put, del):
put key1 \"changed\"

failure requests (get, put, del):
put key1 \"created\"
put key2 \"created too\"

Comparisons look at value, version, create, mod or lease of a key; the operators are = != < >.",
    flags: &[Flag::bool("interactive", "say what comes next").short('i')],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

/// What a request line is looked up in.
static REQUESTS: Command = Command {
    children: &[&put::COMMAND, &get::COMMAND, &del::COMMAND],
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    if !invocation.args.is_empty() {
        return Err(Failure::args("txn command does not accept argument"));
    }
    let (client, display) = invocation.connect().await?;
    let interactive = invocation.flags.bool("interactive");
    let prompt = |text: &str| {
        if interactive {
            print::say(text)
        } else {
            Ok(())
        }
    };
    let mut lines = Lines::open()?;
    prompt("compares:")?;
    let compare = section(&mut lines, parse_compare)?;
    prompt("success requests (get, put, del):")?;
    let success = section(&mut lines, parse_request)?;
    prompt("failure requests (get, put, del):")?;
    let failure = section(&mut lines, parse_request)?;
    let request = pb::TxnRequest {
        compare,
        success,
        failure,
    };
    display.show(&client.txn(request, None).await?)
}

/// Reads lines up to an empty one.
fn section<T>(
    lines: &mut Lines,
    parse: impl Fn(&[u8]) -> Result<T, Failure>,
) -> Result<Vec<T>, Failure> {
    let mut items = Vec::new();
    loop {
        let Some(line) = lines.next()? else {
            return Err(Failure::new(code::INVALID_INPUT, "EOF"));
        };
        match line.trim_ascii() {
            b"" => return Ok(items),
            line => items.push(parse(line)?),
        }
    }
}

fn invalid(what: &str, line: &[u8]) -> Failure {
    let line = String::from_utf8_lossy(line);
    Failure::new(code::INVALID_INPUT, format!("{what}: {line}"))
}

/// Reads `put k v`, `get k`, `del k`, with the flags of these commands.
fn parse_request(line: &[u8]) -> Result<pb::RequestOp, Failure> {
    let words = words::split(line)?;
    if words.len() < 2 {
        return Err(invalid("invalid txn compare request", line));
    }
    let unknown = || invalid("invalid txn request", line);
    let (path, rest) = find::find(&REQUESTS, &words).map_err(|_| unknown())?;
    let mut flags = Flags::new(path.local_flags().chain([&flags::HELP]));
    let Ok(args) = flags.parse(&rest) else {
        complain(format_args!("{}", help::usage(&path, help::Reader::Script)));
        return Err(unknown());
    };
    let request = match path.command().name {
        "put" => Request::RequestPut(put::request(&args, &flags)?),
        "get" => Request::RequestRange(get::request(&args, &flags)?),
        "del" => Request::RequestDeleteRange(del::request(&args, &flags)?),
        _ => return Err(unknown()),
    };
    Ok(pb::RequestOp {
        request: Some(request),
    })
}

/// Reads `target("key") op "value"`.
fn parse_compare(line: &[u8]) -> Result<pb::Compare, Failure> {
    let malformed = |what: &str| {
        let line = String::from_utf8_lossy(line);
        Failure::new(
            code::INVALID_INPUT,
            format!("malformed comparison: {line}{what}"),
        )
    };
    let open = line
        .iter()
        .position(|byte| *byte == b'(')
        .ok_or_else(|| malformed(""))?;
    let (target, rest) = (String::from_utf8_lossy(&line[..open]), &line[open + 1..]);
    let parts = Parts::scan(rest);
    let Some(value) = parts.value else {
        let (key, operator) = (quote(&parts.key), String::from_utf8_lossy(parts.operator));
        return Err(malformed(&format!("; got {target}({key}) {operator} \"\"")));
    };
    let text = String::from_utf8_lossy(&value).into_owned();
    let number = |radix| {
        number::parse_int(&text, radix).map_err(|_| invalid("invalid txn compare request", line))
    };
    let (target, target_union) = match target.as_ref() {
        "ver" | "version" => (CompareTarget::Version, TargetUnion::Version(number(10)?)),
        "c" | "create" => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(number(10)?),
        ),
        "m" | "mod" => (CompareTarget::Mod, TargetUnion::ModRevision(number(10)?)),
        "val" | "value" => (CompareTarget::Value, TargetUnion::Value(value.into())),
        // etcd's own program crashes on these; a lease is written in hexadecimal everywhere else.
        "lease" => (CompareTarget::Lease, TargetUnion::Lease(number(16)?)),
        other => return Err(malformed(&format!(" (unknown target {other})"))),
    };
    let result = match parts.operator {
        b"=" => CompareResult::Equal,
        b"!=" => CompareResult::NotEqual,
        b"<" => CompareResult::Less,
        b">" => CompareResult::Greater,
        // And on these.
        other => {
            let operator = String::from_utf8_lossy(other);
            return Err(malformed(&format!(
                " (unknown operator {operator}, use = != < or >)"
            )));
        }
    };
    Ok(pb::Compare {
        result: result as i32,
        target: target as i32,
        key: parts.key.into(),
        range_end: Default::default(),
        target_union: Some(target_union),
    })
}

/// What could be read of `"key") op "value"`.
#[derive(Default)]
struct Parts<'a> {
    key: Vec<u8>,
    operator: &'a [u8],
    value: Option<Vec<u8>>,
}

impl<'a> Parts<'a> {
    fn scan(text: &'a [u8]) -> Self {
        let mut parts = Self::default();
        let Some((key, rest)) = quoted(text) else {
            return parts;
        };
        parts.key = key;
        let Some(rest) = rest.strip_prefix(b")").and_then(after_blanks) else {
            return parts;
        };
        let end = rest
            .iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(rest.len());
        let (operator, rest) = rest.split_at(end);
        parts.operator = operator;
        parts.value = after_blanks(rest).and_then(quoted).map(|(value, _)| value);
        parts
    }
}

/// A quoted string after any blanks.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let text = text.trim_ascii_start();
    match text.strip_prefix(b"`") {
        Some(raw) => {
            let end = raw.iter().position(|byte| *byte == b'`')?;
            Some((raw[..end].to_vec(), &raw[end + 1..]))
        }
        None => unquote_prefix(text),
    }
}

/// What follows at least one blank.
fn after_blanks(text: &[u8]) -> Option<&[u8]> {
    let rest = text.trim_ascii_start();
    (rest.len() < text.len()).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(line: &str) -> String {
        parse_compare(line.as_bytes()).unwrap_err().message.unwrap()
    }

    #[test]
    fn comparisons() {
        let compare = parse_compare(br#"value("k\x31")   =   "over" junk"#).unwrap();
        assert_eq!(compare.key, &b"k1"[..]);
        assert_eq!(compare.result(), CompareResult::Equal);
        assert_eq!(
            compare.target_union,
            Some(TargetUnion::Value("over".into()))
        );
        let compare = parse_compare(br#"m("k") > "7""#).unwrap();
        assert_eq!(compare.target_union, Some(TargetUnion::ModRevision(7)));
        let compare = parse_compare(br#"lease("k") != "1f""#).unwrap();
        assert_eq!(compare.target_union, Some(TargetUnion::Lease(31)));
    }

    #[test]
    fn malformed_comparisons_say_how_far_they_could_be_read() {
        let bad = "malformed comparison: ";
        for (line, rest) in [
            (r#"value("k1")="v""#, r#"; got value("k1")  """#),
            (r#"value("k1") = over"#, r#"; got value("k1") = """#),
            (r#"value(k1) = "v""#, r#"; got value("")  """#),
            (r#"value("k1") ="#, r#"; got value("k1") = """#),
            (r#"value "k1" = "v""#, ""),
            (r#"bogus("k1") = "1""#, " (unknown target bogus)"),
        ] {
            assert_eq!(error(line), format!("{bad}{line}{rest}"));
        }
        assert_eq!(
            error(r#"mod("k") = "x""#),
            r#"invalid txn compare request: mod("k") = "x""#
        );
        assert!(error(r#"mod("k") == "1""#).contains("unknown operator =="));
    }

    #[test]
    fn requests_have_the_flags_of_their_commands() {
        let request = parse_request(br#"del k9 --prefix --prev-kv"#)
            .unwrap()
            .request
            .unwrap();
        let Request::RequestDeleteRange(delete) = request else {
            panic!("{request:?}")
        };
        assert_eq!(
            (&delete.key[..], &delete.range_end[..]),
            (&b"k9"[..], &b"k:"[..])
        );
        assert!(delete.prev_kv);
        let request = parse_request(br#"put k -- -v"#).unwrap().request.unwrap();
        let Request::RequestPut(put) = request else {
            panic!("{request:?}")
        };
        assert_eq!(put.value, &b"-v"[..]);
        let message = |line: &[u8]| parse_request(line).unwrap_err().message.unwrap();
        assert_eq!(message(b"get"), "invalid txn compare request: get");
        assert_eq!(message(b"bogus k1"), "invalid txn request: bogus k1");
    }
}
