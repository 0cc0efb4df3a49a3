//! `version` and `options`.

use super::cli::{Invocation, help};
use super::exit::Failure;
use super::{global, print};

/// The etcd version whose behaviour this program has.
pub(super) const VERSION: &str = "3.7.1";

/// Prints the versions.
pub(super) async fn run(_: Invocation) -> Result<(), Failure> {
    print::say(format_args!("etcdctl version: {VERSION}\nAPI version: 3.7"))
}

/// Lists the flags of every command.
pub(super) async fn options(_: Invocation) -> Result<(), Failure> {
    let usages = help::flag_usages(global::FLAGS.iter());
    let usages = usages.trim_end();
    print::say(format_args!(
        "The following options can be passed to any command:\n\n{usages}"
    ))
}
