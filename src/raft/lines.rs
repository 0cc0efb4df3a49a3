//! What `raft` logs, in etcd's words.
//!
//! The crate logs through `slog`; a drain collects its lines here and the core hands them out with its
//! output, so that nothing below the shell needs a logging framework. Texts follow etcd's raft: the
//! member's id first, ids in hexadecimal, message types by their short names. Where the crate says less
//! than etcd does, the missing lines are added; where it only says it differently, they are rewritten.
//!
//! The mutex is here because `slog` wants a drain that could be shared between threads. Drain and core
//! live on one thread, so it is never contended.

use std::sync::{Arc, Mutex, PoisonError};

use raft_proto::eraftpb::ConfState;
use slog::{Drain, KV, Key, Level, Never, OwnedKVList, Record, Serializer};

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineLevel {
    /// Worth a line in a normal log.
    Info,
    /// Something an operator may want to look at.
    Warn,
    /// Something is wrong.
    Error,
}

/// What a line is about, where that is more than its text to someone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// Anything.
    General,
    /// The member follows another leader than before.
    NewLeader,
}

/// One line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Its level.
    pub level: LineLevel,
    /// Its kind.
    pub kind: LineKind,
    /// Its text, the member's id included.
    pub text: String,
}

/// Where lines gather until the next output.
#[derive(Clone)]
pub(super) struct Lines {
    id: u64,
    gathered: Arc<Mutex<Vec<LogLine>>>,
}

impl Lines {
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            gathered: Arc::default(),
        }
    }

    /// The logger `raft` is given.
    pub(super) fn logger(&self) -> slog::Logger {
        slog::Logger::root(self.clone(), slog::o!())
    }

    pub(super) fn take(&self) -> Vec<LogLine> {
        std::mem::take(&mut *self.lock())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// `<id> switched to configuration …`
    pub(super) fn configuration(&self, conf: &ConfState) {
        let mut text = format!(
            "{:x} switched to configuration voters=({})",
            self.id,
            list(&conf.voters)
        );
        if !conf.learners.is_empty() {
            text.push_str(&format!(" learners=({})", list(&conf.learners)));
        }
        self.push(LineLevel::Info, text);
    }

    /// `raft.node: <id> elected leader …` and its kin.
    pub(super) fn leader(&self, before: u64, now: u64, term: u64) {
        let id = self.id;
        let kind = match now {
            0 => LineKind::General,
            _ => LineKind::NewLeader,
        };
        let text = match (before, now) {
            (before, 0) => format!("raft.node: {id:x} lost leader {before:x} at term {term}"),
            (0, now) => format!("raft.node: {id:x} elected leader {now:x} at term {term}"),
            _ => format!(
                "raft.node: {id:x} changed leader from {before:x} to {now:x} at term {term}"
            ),
        };
        self.lock().push(LogLine {
            level: LineLevel::Info,
            kind,
            text,
        });
    }

    pub(super) fn push(&self, level: LineLevel, text: String) {
        self.lock().push(LogLine {
            level,
            kind: LineKind::General,
            text,
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<LogLine>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids as etcd lists them: hexadecimal, ascending.
fn list(ids: &[u64]) -> String {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    let texts: Vec<_> = ids.iter().map(|id| format!("{id:x}")).collect();
    texts.join(" ")
}

impl Drain for Lines {
    type Ok = ();
    type Err = Never;

    fn log(&self, record: &Record<'_>, _: &OwnedKVList) -> Result<(), Never> {
        let level = match record.level() {
            Level::Critical | Level::Error => LineLevel::Error,
            Level::Warning => LineLevel::Warn,
            Level::Info => LineLevel::Info,
            Level::Debug | Level::Trace => return Ok(()),
        };
        let mut fields = Fields::default();
        // Collecting strings cannot fail.
        let _ = record.kv().serialize(record, &mut fields);
        for text in rewrite(self.id, &record.msg().to_string(), &fields) {
            self.push(level, text);
        }
        Ok(())
    }
}

/// The named values of one record.
#[derive(Default)]
struct Fields(Vec<(Key, String)>);

impl Serializer for Fields {
    fn emit_arguments(&mut self, key: Key, value: &std::fmt::Arguments<'_>) -> slog::Result {
        self.0.push((key, value.to_string()));
        Ok(())
    }
}

impl Fields {
    fn get(&self, key: &str) -> &str {
        self.0
            .iter()
            .find(|(name, _)| *name == key)
            .map_or("", |(_, value)| value)
    }

    /// A message type by etcd's name.
    fn kind(&self, key: &str) -> String {
        short_kind(self.get(key))
    }

    fn hex(&self, key: &str) -> String {
        hexadecimal(self.get(key))
    }
}

fn short_kind(kind: &str) -> String {
    kind.replace("Request", "")
        .replace("Response", "Resp")
        .replace("Append", "App")
        .replace("Snapshot", "Snap")
        .replace("Propose", "Prop")
}

fn hexadecimal(decimal: &str) -> String {
    decimal
        .parse::<u64>()
        .map_or_else(|_| decimal.to_owned(), |id| format!("{id:x}"))
}

/// The lines etcd writes where the crate writes `text`.
fn rewrite(id: u64, text: &str, fields: &Fields) -> Vec<String> {
    let term = fields.get("term");
    let votes = |kind: &str, granted: &str, rejected: &str| {
        format!("{id:x} has received {granted} {kind} votes and {rejected} vote rejections")
    };
    if let Some(term) = text.strip_prefix("became pre-candidate at term ") {
        return own_vote(
            id,
            text,
            "MsgPreVoteResp",
            term,
            votes("MsgPreVoteResp", "1", "0"),
        );
    }
    if let Some(term) = text.strip_prefix("became candidate at term ") {
        return own_vote(
            id,
            text,
            "MsgVoteResp",
            term,
            votes("MsgVoteResp", "1", "0"),
        );
    }
    if let Some(from) = text.strip_prefix("received a message with higher term from ") {
        let (kind, theirs) = (fields.kind("msg type"), fields.get("message_term"));
        let from = hexadecimal(from);
        return vec![format!(
            "{id:x} [term: {term}] received a {kind} message with higher term from {from} [term: {theirs}]"
        )];
    }
    if let Some(from) = text.strip_prefix("ignored a message with lower term from ") {
        let (kind, theirs) = (fields.kind("msg type"), fields.get("msg term"));
        let from = hexadecimal(from);
        return vec![format!(
            "{id:x} [term: {term}] ignored a {kind} message with lower term from {from} [term: {theirs}]"
        )];
    }
    match text {
        // Written by the core itself, which knows more.
        "newRaft" | "switched to configuration" => Vec::new(),
        _ if text.starts_with("RawNode created") => Vec::new(),
        "starting a new election" => {
            vec![format!("{id:x} is starting a new election at term {term}")]
        }
        "broadcasting vote request" => {
            let (log_term, index) = (fields.get("log_term"), fields.get("log_index"));
            let kind = fields.kind("type");
            let to = fields.get("to").trim_matches(['[', ']']).split(", ");
            to.map(|to| {
                let to = hexadecimal(to);
                format!("{id:x} [logterm: {log_term}, index: {index}] sent {kind} request to {to} at term {term}")
            })
            .collect()
        }
        "received votes response" => {
            let kind = fields.kind("type");
            let refused = if fields.get("vote") == "true" {
                ""
            } else {
                " rejection"
            };
            let from = fields.hex("from");
            vec![
                format!("{id:x} received {kind}{refused} from {from} at term {term}"),
                votes(&kind, fields.get("approvals"), fields.get("rejections")),
            ]
        }
        _ => vec![rewrite_any(id, text, fields)],
    }
}

/// etcd logs a candidate's vote for itself like anybody's.
fn own_vote(id: u64, text: &str, kind: &str, term: &str, tally: String) -> Vec<String> {
    vec![
        format!("{id:x} {text}"),
        format!("{id:x} received {kind} from {id:x} at term {term}"),
        tally,
    ]
}

/// The general rule: id in front, ids within in hexadecimal, vote lines with the kind of vote, other
/// named values behind in brackets.
fn rewrite_any(id: u64, text: &str, fields: &Fields) -> String {
    let mut words = Vec::new();
    let mut before = "";
    for word in text.split(' ') {
        let number = word.trim_end_matches([',', ']', ';', ':']);
        let names_member = matches!(before, "from" | "to" | "for" | "vote:" | "as" | "node");
        words.push(match hexadecimal(number) {
            hex if names_member && hex != number => format!("{hex}{}", &word[number.len()..]),
            _ => word.to_owned(),
        });
        before = word;
    }
    let original = text;
    let mut text = words.join(" ");
    let kind = fields.kind("msg type");
    let is_vote = !kind.is_empty() && text.contains(" vote f");
    if is_vote {
        text = text.replace(" vote f", &format!(" {kind} f"));
    }
    // Named parts of the text come along as values, which are not said twice. slog hands values over
    // last first.
    let is_said = |value: &String| {
        original
            .split([' ', ',', ';', ':', '[', ']'])
            .any(|word| word == value)
    };
    let others: Vec<_> = fields
        .0
        .iter()
        .rev()
        .filter(|(key, value)| key.contains(' ') || !is_said(value))
        .filter(|(key, _)| !(is_vote && *key == "msg type"))
        .map(|(key, value)| format!("{key}: {value}"))
        .collect();
    if !others.is_empty() {
        text.push_str(&format!(" [{}]", others.join(", ")));
    }
    if text.starts_with("found conflict") || text.starts_with("log [") {
        text
    } else {
        format!("{id:x} {text}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(log: impl FnOnce(&slog::Logger)) -> Vec<String> {
        let lines = Lines::new(0xab);
        log(&lines.logger());
        lines.take().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_candidates_own_vote_is_told() {
        assert_eq!(
            texts(|log| slog::info!(log, "became pre-candidate at term {}", 1)),
            [
                "ab became pre-candidate at term 1",
                "ab received MsgPreVoteResp from ab at term 1",
                "ab has received 1 MsgPreVoteResp votes and 0 vote rejections",
            ]
        );
    }

    #[test]
    fn votes_name_their_kind_and_members_in_hexadecimal() {
        let cast = texts(|log| {
            slog::info!(log, "[logterm: {}, index: {}, vote: {}] cast vote for {} [logterm: {}, index: {}] at term {}",
                1, 2, 200, 171, 1, 2, 7; "msg type" => "MsgRequestVote");
        });
        assert_eq!(
            cast,
            [
                "ab [logterm: 1, index: 2, vote: c8] cast MsgVote for ab [logterm: 1, index: 2] at term 7"
            ]
        );
        let sent = texts(|log| {
            slog::info!(log, "broadcasting vote request"; "type" => "MsgRequestPreVote", "term" => 3,
                "log_term" => 1, "log_index" => 9, "to" => "[171, 12]");
        });
        assert_eq!(
            sent,
            [
                "ab [logterm: 1, index: 9] sent MsgPreVote request to ab at term 3",
                "ab [logterm: 1, index: 9] sent MsgPreVote request to c at term 3",
            ]
        );
        let won = texts(|log| {
            slog::info!(log, "received votes response"; "vote" => false, "from" => 12, "rejections" => 1,
                "approvals" => 1, "type" => "MsgRequestVoteResponse", "term" => 3);
        });
        assert_eq!(
            won,
            [
                "ab received MsgVoteResp rejection from c at term 3",
                "ab has received 1 MsgVoteResp votes and 1 vote rejections",
            ]
        );
    }

    #[test]
    fn terms_and_other_lines() {
        let higher = texts(|log| {
            slog::info!(log, "received a message with higher term from {}", 12; "term" => 1,
                "message_term" => 5, "msg type" => "MsgAppend");
        });
        assert_eq!(
            higher,
            ["ab [term: 1] received a MsgApp message with higher term from c [term: 5]"]
        );
        let conflict = texts(|log| {
            slog::info!(log, "found conflict at index {index}", index = 4; "existing term" => 1, "conflicting term" => 2);
        });
        assert_eq!(
            conflict,
            ["found conflict at index 4 [existing term: 1, conflicting term: 2]"]
        );
        assert!(texts(|log| slog::debug!(log, "chatter")).is_empty());
    }

    #[test]
    fn leaders_and_configurations() {
        let lines = Lines::new(10);
        lines.leader(0, 11, 2);
        lines.leader(11, 10, 3);
        lines.leader(10, 0, 3);
        lines.configuration(&ConfState {
            voters: vec![11, 10],
            learners: vec![12],
            ..ConfState::default()
        });
        let lines = lines.take();
        let lines: Vec<_> = lines.iter().map(|line| (line.kind, &*line.text)).collect();
        assert_eq!(
            lines,
            [
                (
                    LineKind::NewLeader,
                    "raft.node: a elected leader b at term 2"
                ),
                (
                    LineKind::NewLeader,
                    "raft.node: a changed leader from b to a at term 3"
                ),
                (LineKind::General, "raft.node: a lost leader a at term 3"),
                (
                    LineKind::General,
                    "a switched to configuration voters=(a b) learners=(c)"
                ),
            ]
        );
    }
}
