//! The table of members.

use super::{Reading, Watched};
use crate::ctl::doctor::in_colour;
use crate::ctl::go::bytes::human;
use crate::pb::etcdserverpb::StatusResponse;
use std::fmt::Write as _;

const COLUMNS: [&str; 11] = [
    "MEMBER",
    "ROLE",
    "TERM",
    "INDEX",
    "BEHIND",
    "DB SIZE",
    "IN USE",
    "REQ/S",
    "P99",
    "WATCHERS",
    "FSYNC P99",
];

/// Draws the table of two readings.
pub(super) fn draw(members: &[Watched], before: &[Reading], now: &[Reading]) -> String {
    let ahead = now
        .iter()
        .filter_map(|reading| Some(reading.status.as_ref()?.raft_index))
        .max();
    let rows: Vec<_> = members
        .iter()
        .zip(before.iter().zip(now))
        .map(|(member, (before, now))| row(&member.name, before, now, ahead.unwrap_or_default()))
        .collect();
    let mut out = String::new();
    lay_out(&mut out, &rows);
    for (member, reading) in members.iter().zip(now) {
        if let Some(error) = &reading.error {
            let _ = writeln!(out, "{}: {error}", member.name);
        }
    }
    out
}

fn row(name: &str, before: &Reading, now: &Reading, ahead: u64) -> Vec<String> {
    let Some(status) = &now.status else {
        let mut row = vec![name.to_owned(), "down".to_owned()];
        row.resize(COLUMNS.len(), "-".to_owned());
        return row;
    };
    let metric = |name: &str| now.metrics.as_ref().and_then(|metrics| metrics.value(name));
    let p99 = |name: &str| {
        let (now, before) = (now.metrics.as_ref()?, before.metrics.as_ref()?);
        now.histogram(name)
            .since(&before.histogram(name))
            .quantile(0.99)
    };
    let watchers = metric("etcd_debugging_mvcc_watcher_total");
    vec![
        name.to_owned(),
        role(status).to_owned(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        ahead.saturating_sub(status.raft_applied_index).to_string(),
        human(status.db_size as u64),
        human(status.db_size_in_use as u64),
        requests_per_second(before, now).map_or("-".to_owned(), |rate| format!("{rate:.0}")),
        p99("etcd_server_request_duration_seconds").map_or("-".to_owned(), milliseconds),
        watchers.map_or("-".to_owned(), |count| format!("{count:.0}")),
        p99("etcd_disk_wal_fsync_duration_seconds").map_or("-".to_owned(), milliseconds),
    ]
}

fn role(status: &StatusResponse) -> &'static str {
    match status.header.unwrap_or_default().member_id {
        id if id == status.leader => "leader",
        _ if status.is_learner => "learner",
        _ if status.leader == 0 => "no leader",
        _ => "follower",
    }
}

fn requests_per_second(before: &Reading, now: &Reading) -> Option<f64> {
    let count = |reading: &Reading| reading.metrics.as_ref()?.value("grpc_server_handled_total");
    let seconds = now.at?.duration_since(before.at?).as_secs_f64();
    Some(((count(now)? - count(before)?) / seconds).max(0.0))
}

fn milliseconds(seconds: f64) -> String {
    match seconds.is_finite() {
        true => format!("{} ms", seconds * 1000.0),
        false => "slow".to_owned(),
    }
}

/// Columns as wide as their widest cell, the first to the left.
fn lay_out(out: &mut String, rows: &[Vec<String>]) {
    let (bold, end) = if in_colour() {
        ("\x1b[1m", "\x1b[0m")
    } else {
        ("", "")
    };
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells.max().unwrap_or_default().max(COLUMNS[column].len())
    };
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        for (column, cell) in cells.enumerate() {
            let width = width(column);
            let _ = match column {
                0 => write!(out, "{cell:<width$}"),
                _ => write!(out, "  {cell:>width$}"),
            };
        }
        out.push('\n');
    };
    line(&mut COLUMNS.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    let head = out.find('\n').unwrap_or_default();
    out.insert_str(head, end);
    out.insert_str(0, bold);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::prometheus::Metrics;
    use crate::pb::etcdserverpb::ResponseHeader;
    use std::time::{Duration, Instant};

    fn reading(handled: u64, slow: u64, at: Instant) -> Reading {
        let header = ResponseHeader {
            member_id: 7,
            ..Default::default()
        };
        let status = StatusResponse {
            header: Some(header),
            leader: 7,
            raft_term: 3,
            raft_index: 100,
            raft_applied_index: 90,
            db_size: 20_480,
            ..Default::default()
        };
        let text = format!(
            "grpc_server_handled_total {handled}\n\
             etcd_server_request_duration_seconds_bucket{{le=\"0.001\"}} 10\n\
             etcd_server_request_duration_seconds_bucket{{le=\"0.004\"}} {slow}\n"
        );
        let metrics = Some(Metrics::new(text));
        Reading {
            status: Some(status),
            metrics,
            at: Some(at),
            error: None,
        }
    }

    #[test]
    fn rates_and_latencies_are_between_the_readings() {
        let start = Instant::now();
        let (before, now) = (
            reading(10, 10, start),
            reading(210, 60, start + Duration::from_secs(2)),
        );
        let row = row("m1", &before, &now, 100);
        assert_eq!(
            row,
            [
                "m1", "leader", "3", "100", "10", "20 kB", "0 B", "100", "4 ms", "-", "-"
            ]
        );
    }

    #[test]
    fn a_member_that_is_down_has_a_row() {
        let row = row("m2", &Reading::default(), &Reading::default(), 0);
        assert_eq!((row[1].as_str(), row.len()), ("down", COLUMNS.len()));
    }
}
