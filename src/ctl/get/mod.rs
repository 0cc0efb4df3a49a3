//! `get`.

mod decode;
mod tree;

use crate::client::{ALL_KEYS, prefix_end};
use crate::ctl::cli::{Arg, Command, Flag, Flags, Invocation};
use crate::ctl::exit::{Failure, code};
use crate::ctl::print::{Format, emit};
use crate::pb::etcdserverpb::RangeRequest;
use crate::pb::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::pb::{EncodedRangeResponse, KeyValue};

/// The command.
pub(super) static COMMAND: Command = Command {
    name: "get",
    usage: "[options] <key> [range_end]",
    group: crate::ctl::commands::KEY_VALUE,
    short: "Reads a key or a range of keys",
    flags: &[
        Flag::text(
            "consistency",
            "l: linearizable, s: serializable (from one member, may be old)",
        )
        .or("l")
        .offering(&["l", "s"]),
        Flag::text("order", "ASCEND or DESCEND").offering(&["ASCEND", "DESCEND"]),
        Flag::text(
            "sort-by",
            "what to order by: CREATE, KEY, MODIFY, VALUE or VERSION",
        )
        .offering(&["CREATE", "KEY", "MODIFY", "VALUE", "VERSION"]),
        Flag::int("limit", "most results to return"),
        Flag::bool("prefix", "all keys that begin with <key>"),
        Flag::bool("from-key", "all keys from <key> on, in byte order"),
        Flag::int("rev", "read as of this revision"),
        Flag::bool("keys-only", "no values"),
        Flag::bool("count-only", "only the number of keys"),
        Flag::bool("print-value-only", "print only values (simple format)"),
        Flag::int(
            "min-create-rev",
            "leave out keys created before this revision",
        ),
        Flag::int(
            "max-create-rev",
            "leave out keys created after this revision",
        ),
        Flag::int(
            "min-mod-rev",
            "leave out keys last changed before this revision",
        ),
        Flag::int(
            "max-mod-rev",
            "leave out keys last changed after this revision",
        ),
        Flag::bool("stream", "have the server send the result in pieces"),
        Flag::bool("tree", "draw the keys as a tree, with sizes").beyond(),
        Flag::bool("decode", "lay out JSON and Kubernetes values").beyond(),
    ],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::NEW
};

async fn run(mut invocation: Invocation) -> Result<(), Failure> {
    let request = request(&invocation.args, &invocation.flags)?;
    let deadline = invocation.deadline();
    let (client, mut display) = invocation.connect().await?;
    let flags = &invocation.flags;
    let response = match flags.bool("stream") {
        true => client.range_stream(request, deadline).await?.into(),
        false => client.range_encoded(request, deadline).await?,
    };
    if flags.bool("tree") {
        return emit(&tree::draw(&pairs(&response)?));
    }
    if flags.bool("decode") {
        return emit(&decode::show(&pairs(&response)?));
    }
    if flags.bool("count-only") && display.format != Format::Fields {
        return Err(Failure::args(
            "--count-only is only for `--write-out=fields`",
        ));
    }
    if flags.bool("print-value-only") {
        if display.format != Format::Simple {
            return Err(Failure::args(
                "print-value-only is only for `--write-out=simple`",
            ));
        }
        display.value_only = true;
    }
    display.show(&response)
}

fn pairs(response: &EncodedRangeResponse) -> Result<Vec<KeyValue>, Failure> {
    let decoded = response.decoded();
    Ok(decoded
        .map_err(|error| Failure::new(code::ERROR, error))?
        .kvs)
}

/// The request that arguments and flags describe.
pub(super) fn request(args: &[Arg], flags: &Flags) -> Result<RangeRequest, Failure> {
    let Some(key) = args.first() else {
        return Err(Failure::args(
            "get command needs one argument as key and an optional argument as range_end",
        ));
    };
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    let (keys_only, count_only) = (flags.bool("keys-only"), flags.bool("count-only"));
    if prefix && from_key {
        return Err(Failure::args(CHOOSE_ONE));
    }
    if keys_only && count_only {
        return Err(Failure::args(
            "`--keys-only` and `--count-only` cannot be set at the same time, choose one",
        ));
    }
    let serializable = is_serializable(&flags.text("consistency"), &flags.text("consistency"))?;
    if args.len() > 1 && (prefix || from_key) {
        return Err(Failure::args(TOO_MANY_ARGUMENTS));
    }
    let (sort_order, sort_target) = sorting(&flags.text("order"), &flags.text("sort-by"))?;
    let (key, range_end) = range(key, args.get(1), prefix, from_key);
    let mut request = RangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        limit: flags.int("limit"),
        revision: flags.int("rev").max(0),
        sort_order: sort_order as i32,
        sort_target: sort_target as i32,
        serializable,
        keys_only,
        count_only,
        ..Default::default()
    };
    (request.min_create_revision, request.max_create_revision) = bounds(
        flags,
        ["min-create-rev", "max-create-rev"],
        ["getMinCreateRev", "getMaxCreateRev"],
    )?;
    (request.min_mod_revision, request.max_mod_revision) = bounds(
        flags,
        ["min-mod-rev", "max-mod-rev"],
        ["getMinModRev", "getMaxModRev"],
    )?;
    Ok(request)
}

/// The error of `--prefix` with `--from-key`.
pub(super) const CHOOSE_ONE: &str =
    "`--prefix` and `--from-key` cannot be set at the same time, choose one";

/// The error of a range end where the range follows from the key.
pub(super) const TOO_MANY_ARGUMENTS: &str =
    "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";

/// Key and range end. An empty key stands for all keys where a range is asked for.
pub(super) fn range(
    key: &[u8],
    range_end: Option<&Arg>,
    prefix: bool,
    from_key: bool,
) -> (Vec<u8>, Vec<u8>) {
    match (prefix || from_key, key.is_empty()) {
        (true, true) => (b"\0".to_vec(), ALL_KEYS.to_vec()),
        (true, false) if prefix => (key.to_vec(), prefix_end(key)),
        (true, false) => (key.to_vec(), ALL_KEYS.to_vec()),
        (false, _) => (key.to_vec(), range_end.cloned().unwrap_or_default()),
    }
}

/// Reads `--consistency`; `shown` is what the error quotes.
pub(super) fn is_serializable(consistency: &str, shown: &str) -> Result<bool, Failure> {
    match consistency {
        "l" => Ok(false),
        "s" => Ok(true),
        _ => {
            let shown = crate::ctl::go::quote::quote(shown.as_bytes());
            Err(Failure::new(
                code::BAD_FEATURE,
                format!("unknown consistency flag {shown}"),
            ))
        }
    }
}

fn sorting(order: &str, target: &str) -> Result<(SortOrder, SortTarget), Failure> {
    let bad = |what: &str, given: &str| {
        Failure::new(code::BAD_FEATURE, format!("bad sort {what} {given}"))
    };
    let sort_order = match order.to_uppercase().as_str() {
        "" => SortOrder::None,
        "ASCEND" => SortOrder::Ascend,
        "DESCEND" => SortOrder::Descend,
        _ => return Err(bad("order", order)),
    };
    let sort_target = match target.to_uppercase().as_str() {
        "" | "KEY" => SortTarget::Key,
        "CREATE" => SortTarget::Create,
        "MODIFY" => SortTarget::Mod,
        "VALUE" => SortTarget::Value,
        "VERSION" => SortTarget::Version,
        _ => return Err(bad("target", target)),
    };
    // Ascending keys are what the server returns anyway; asking for them would have it sort all of them.
    Ok(match (sort_order, sort_target) {
        (SortOrder::Ascend, SortTarget::Key) => (SortOrder::None, SortTarget::Key),
        sorting => sorting,
    })
}

fn bounds(flags: &Flags, names: [&str; 2], shown: [&str; 2]) -> Result<(i64, i64), Failure> {
    let [min, max] = names.map(|name| flags.int(name));
    if max > 0 && min > max {
        let [min_name, max_name] = shown;
        let message = format!("{min_name}(={min}) > {max_name}(={max})");
        return Err(Failure::new(code::BAD_FEATURE, message));
    }
    Ok((min.max(0), max.max(0)))
}
