//! The line of `systemctl status`, for an operator in a hurry.

use std::fmt;
use std::time::Duration;

/// What the line tells. Parts that are not known are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StatusText {
    /// `leader`, `follower of n2`, `learner`, `NO LEADER since 12s`, `replaying WAL 61%`, ….
    pub role: String,
    /// The raft term.
    pub term: u64,
    /// The store's revision.
    pub revision: i64,
    /// Members reachable, and all; None before they are known.
    pub members: Option<(usize, usize)>,
    /// Database size and quota in bytes; a quota of 0 is none.
    pub db_bytes: Option<(u64, u64)>,
    /// 99 % of the log's recent syncs took no longer.
    pub fsync_p99: Option<Duration>,
    /// Days until the first certificate runs out.
    pub certificate_days: Option<i64>,
    /// Active alarms, such as `NOSPACE`.
    pub alarms: Vec<String>,
}

impl fmt::Display for StatusText {
    /// `leader term 7 rev 1234567 1/1 healthy, db 412M/2G, fsync p99 3ms, cert 41d`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} term {} rev {}", self.role, self.term, self.revision)?;
        if let Some((healthy, all)) = self.members {
            write!(f, " {healthy}/{all} healthy")?;
        }
        if let Some((size, quota)) = self.db_bytes {
            write!(f, ", db {}", human_bytes(size))?;
            if quota > 0 {
                write!(f, "/{}", human_bytes(quota))?;
            }
        }
        if let Some(p99) = self.fsync_p99 {
            match p99.as_millis() {
                0 => write!(f, ", fsync p99 <1ms")?,
                milliseconds => write!(f, ", fsync p99 {milliseconds}ms")?,
            }
        }
        if let Some(days) = self.certificate_days {
            match days {
                ..0 => f.write_str(", cert EXPIRED")?,
                _ => write!(f, ", cert {days}d")?,
            }
        }
        if !self.alarms.is_empty() {
            write!(f, ", ALARM {}", self.alarms.join(" "))?;
        }
        Ok(())
    }
}

/// A size in at most four signs: `412M`, `1.5G`, `2G`, `17K`, `96B`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] = [
        (1 << 40, "T"),
        (1 << 30, "G"),
        (1 << 20, "M"),
        (1 << 10, "K"),
    ];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return match (tenths / 10, tenths % 10) {
                (whole, tenth) if whole < 10 && tenth > 0 => format!("{whole}.{tenth}{name}"),
                (whole, _) => format!("{whole}{name}"),
            };
        }
    }
    format!("{bytes}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_is_known() {
        let full = StatusText {
            role: "leader".into(),
            term: 7,
            revision: 1234567,
            members: Some((1, 1)),
            db_bytes: Some((412 << 20, 2 << 30)),
            fsync_p99: Some(Duration::from_millis(3)),
            certificate_days: Some(41),
            alarms: Vec::new(),
        };
        assert_eq!(
            full.to_string(),
            "leader term 7 rev 1234567 1/1 healthy, db 412M/2G, fsync p99 3ms, cert 41d"
        );
        let bare = StatusText {
            role: "NO LEADER since 12s".into(),
            ..StatusText::default()
        };
        assert_eq!(bare.to_string(), "NO LEADER since 12s term 0 rev 0");
        let alarmed = StatusText {
            db_bytes: Some((20480, 0)),
            fsync_p99: Some(Duration::from_micros(400)),
            certificate_days: Some(-1),
            alarms: vec!["NOSPACE".into(), "CORRUPT".into()],
            ..full
        };
        assert_eq!(
            alarmed.to_string(),
            "leader term 7 rev 1234567 1/1 healthy, db 20K, fsync p99 <1ms, cert EXPIRED, \
             ALARM NOSPACE CORRUPT"
        );
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1K"),
            (1536, "1.5K"),
            (10 << 20, "10M"),
            ((2 << 30) - 1, "1.9G"),
            (3 << 40, "3T"),
        ] {
            assert_eq!(human_bytes(bytes), text, "{bytes}");
        }
    }
}
