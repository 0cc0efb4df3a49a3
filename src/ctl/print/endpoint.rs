//! Answers of single endpoints, and of leader moves and downgrades.

use super::json::{Object, push_text};
use super::{Display, Out, Printable, Printed, complain, fields, header_of, table};
use crate::ctl::go::{bytes, duration};
use crate::pb::etcdserverpb::{
    DowngradeResponse, HashKvResponse, MoveLeaderResponse, StatusResponse,
};
use prost::Message;

/// How one endpoint is.
pub struct EndpointHealth {
    /// As it was given.
    pub endpoint: String,
    /// Whether it serves.
    pub healthy: bool,
    /// Nanoseconds its answer took; `None`: no client could be made.
    pub took: Option<i64>,
    /// What is wrong; empty: nothing.
    pub error: String,
}

impl EndpointHealth {
    fn took(&self) -> String {
        self.took.map(duration::print).unwrap_or_default()
    }
}

/// A JSON list; Go's empty one is `null`.
fn list<T>(out: &mut String, items: &[T], mut write: impl FnMut(&mut Object<'_>, &T)) -> Printed {
    if items.is_empty() {
        out.push_str("null");
        return Ok(());
    }
    for (index, item) in items.iter().enumerate() {
        out.push(if index == 0 { '[' } else { ',' });
        Object::write(out, |object| write(object, item));
    }
    out.push(']');
    Ok(())
}

impl Printable for Vec<EndpointHealth> {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        for health in self {
            let endpoint = &health.endpoint;
            if health.error.is_empty() {
                let took = health.took();
                writeln!(
                    out,
                    "{endpoint} is healthy: successfully committed proposal: took = {took}"
                )?;
            } else {
                // The two streams are one to who watches a terminal: keep the order.
                out.flush()?;
                let error = &health.error;
                complain(format_args!(
                    "{endpoint} is unhealthy: failed to commit proposal: {error}"
                ));
            }
        }
        Ok(())
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        list(out, self, |object, health| {
            object.text_always("endpoint", &health.endpoint);
            object.number_always("health", health.healthy);
            object.text_always("took", &health.took());
            object.text("error", &health.error);
        })
    }

    fn fields(&self, out: Out<'_>, _hex: bool) -> Printed {
        for health in self {
            fields::quoted(out, "Endpoint", &health.endpoint)?;
            fields::plain(out, "Health", health.healthy)?;
            fields::plain(out, "Took", health.took())?;
            fields::plain(out, "Error", &health.error)?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn table(&self, out: Out<'_>) -> Printed {
        let row = |health: &EndpointHealth| {
            let (endpoint, error) = (health.endpoint.clone(), health.error.clone());
            vec![endpoint, health.healthy.to_string(), health.took(), error]
        };
        let rows: Vec<_> = self.iter().map(row).collect();
        table::draw(out, &["endpoint", "health", "took", "error"], &rows)
    }
}

/// What one endpoint says of itself.
pub struct EndpointStatus {
    /// As it was given.
    pub endpoint: String,
    /// Its answer.
    pub response: StatusResponse,
}

const STATUS_COLUMNS: [&str; 16] = [
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
];

fn status_row(status: &EndpointStatus) -> Vec<String> {
    let response = &status.response;
    let member = header_of(response.header).member_id;
    let downgrade = response.downgrade_info.clone().unwrap_or_default();
    let used = response
        .db_size_in_use
        .saturating_mul(100)
        .checked_div(response.db_size);
    let size = |bytes: i64| bytes::human(bytes as u64);
    vec![
        status.endpoint.clone(),
        format!("{member:x}"),
        response.version.clone(),
        response.storage_version.clone(),
        size(response.db_size),
        size(response.db_size_in_use),
        format!("{}%", 100 - used.unwrap_or_default()),
        size(response.db_size_quota),
        (response.leader == member).to_string(),
        response.is_learner.to_string(),
        response.raft_term.to_string(),
        response.raft_index.to_string(),
        response.raft_applied_index.to_string(),
        response.errors.join(", "),
        downgrade.target_version,
        downgrade.enabled.to_string(),
    ]
}

impl Printable for Vec<EndpointStatus> {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(self
            .iter()
            .try_for_each(|s| writeln!(out, "{}", status_row(s).join(", ")))?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        list(out, self, |object, status| {
            let response = &status.response;
            object.text_always("Endpoint", &status.endpoint);
            Object::write(object.value("Status"), |object| {
                object.header("header", response.header);
                object.text("version", &response.version);
                object.number("dbSize", response.db_size);
                object.number("leader", response.leader);
                object.number("raftIndex", response.raft_index);
                object.number("raftTerm", response.raft_term);
                object.number("raftAppliedIndex", response.raft_applied_index);
                object.texts("errors", &response.errors);
                object.number("dbSizeInUse", response.db_size_in_use);
                object.flag("isLearner", response.is_learner);
                object.text("storageVersion", &response.storage_version);
                object.number("dbSizeQuota", response.db_size_quota);
                if let Some(downgrade) = &response.downgrade_info {
                    Object::write(object.value("downgradeInfo"), |object| {
                        object.flag("enabled", downgrade.enabled);
                        object.text("targetVersion", &downgrade.target_version);
                    });
                }
            });
        })
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        for status in self {
            let response = &status.response;
            let downgrade = response.downgrade_info.clone().unwrap_or_default();
            fields::header(out, response.header, hex)?;
            fields::quoted(out, "Version", &response.version)?;
            fields::quoted(out, "StorageVersion", &response.storage_version)?;
            fields::plain(out, "DBSize", response.db_size)?;
            fields::plain(out, "DBSizeInUse", response.db_size_in_use)?;
            fields::plain(out, "DBSizeQuota", response.db_size_quota)?;
            fields::plain(out, "Leader", response.leader)?;
            fields::plain(out, "IsLearner", response.is_learner)?;
            fields::plain(out, "RaftIndex", response.raft_index)?;
            fields::plain(out, "RaftTerm", response.raft_term)?;
            fields::plain(out, "RaftAppliedIndex", response.raft_applied_index)?;
            fields::plain(
                out,
                "Errors",
                format_args!("[{}]", response.errors.join(" ")),
            )?;
            fields::quoted(out, "Endpoint", &status.endpoint)?;
            fields::quoted(out, "DowngradeTargetVersion", &downgrade.target_version)?;
            fields::plain(out, "DowngradeEnabled", downgrade.enabled)?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn table(&self, out: Out<'_>) -> Printed {
        let rows: Vec<_> = self.iter().map(status_row).collect();
        table::draw(out, &STATUS_COLUMNS, &rows)
    }
}

/// One endpoint's hash.
pub struct EndpointHash {
    /// As it was given.
    pub endpoint: String,
    /// Its answer.
    pub response: HashKvResponse,
}

fn hash_row(hash: &EndpointHash) -> Vec<String> {
    let response = &hash.response;
    vec![
        hash.endpoint.clone(),
        response.hash.to_string(),
        response.hash_revision.to_string(),
    ]
}

impl Printable for Vec<EndpointHash> {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(self
            .iter()
            .try_for_each(|h| writeln!(out, "{}", hash_row(h).join(", ")))?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        list(out, self, |object, hash| {
            let response = &hash.response;
            object.text_always("Endpoint", &hash.endpoint);
            Object::write(object.value("HashKV"), |object| {
                object.header("header", response.header);
                object.number("hash", response.hash);
                object.number("compact_revision", response.compact_revision);
                object.number("hash_revision", response.hash_revision);
            });
        })
    }

    fn fields(&self, out: Out<'_>, hex: bool) -> Printed {
        for hash in self {
            fields::header(out, hash.response.header, hex)?;
            fields::quoted(out, "Endpoint", &hash.endpoint)?;
            fields::plain(out, "Hash", hash.response.hash)?;
            fields::plain(out, "HashRevision", hash.response.hash_revision)?;
            writeln!(out)?;
        }
        Ok(())
    }

    fn table(&self, out: Out<'_>) -> Printed {
        let rows: Vec<_> = self.iter().map(hash_row).collect();
        table::draw(out, &["endpoint", "hash", "hash_revision"], &rows)
    }
}

/// An answer to `move-leader`.
pub(crate) struct MovedLeader {
    /// Who led.
    pub from: u64,
    /// Who leads now.
    pub to: u64,
    /// The answer.
    pub response: MoveLeaderResponse,
}

impl Printable for MovedLeader {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        Ok(writeln!(
            out,
            "Leadership transferred from {:x} to {:x}",
            self.from, self.to
        )?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        super::json::push_header_only(out, self.response.header);
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.response.encode_to_vec())
    }
}

/// A downgrade action's name and its answer.
impl Printable for (&'static str, DowngradeResponse) {
    fn simple(&self, out: Out<'_>, _: &Display) -> Printed {
        let (action, response) = self;
        Ok(writeln!(
            out,
            "Downgrade {action} success, cluster version {}",
            response.version
        )?)
    }

    fn json(&self, out: &mut String, _hex: bool) -> Printed {
        let (_, response) = self;
        Object::write(out, |object| {
            object.header("header", response.header);
            if !response.version.is_empty() {
                push_text(object.value("version"), &response.version);
            }
        });
        Ok(())
    }

    fn protobuf(&self) -> Option<Vec<u8>> {
        Some(self.1.encode_to_vec())
    }
}
