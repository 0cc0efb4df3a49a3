//! Ids for requests and leases, unique across members and restarts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::MemberId;

/// Bits of the suffix that counts: 40 bits of start time in milliseconds, then 8 bits.
const SUFFIX_BITS: u32 = 48;

/// Hands out ids: the member's low 16 bits, the start time, a counter. etcd's layout, so that ids of both
/// implementations never meet in one cluster.
#[derive(Debug)]
pub struct RequestIds {
    prefix: u64,
    suffix: AtomicU64,
}

impl RequestIds {
    /// Ids of a process that started at this Unix time in milliseconds.
    pub(crate) fn new(member: MemberId, started_unix_milliseconds: u64) -> Self {
        let suffix = (started_unix_milliseconds & ((1 << 40) - 1)) << 8;
        Self {
            prefix: member.0 << SUFFIX_BITS,
            suffix: AtomicU64::new(suffix),
        }
    }

    /// The next id; never 0.
    pub fn next(&self) -> u64 {
        let suffix = self.suffix.fetch_add(1, Ordering::Relaxed) + 1;
        self.prefix | (suffix & ((1 << SUFFIX_BITS) - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_count_up_behind_member_and_time() {
        let ids = RequestIds::new(MemberId(0xabcd_1234), 0x01_0203_0405);
        assert_eq!(ids.next(), 0x1234_0102_0304_0501);
        assert_eq!(ids.next(), 0x1234_0102_0304_0502);
    }
}
