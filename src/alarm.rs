//! Raised alarms: which member found what wrong.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use crate::pb::etcdserverpb::{AlarmMember, AlarmType};
use crate::store::{Bucket, BucketWrite};

/// The alarms that are up, by member and kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    raised: BTreeSet<(u64, i32)>,
}

impl Alarms {
    /// Takes a row of the alarm bucket at start. `None` when the row is not an alarm.
    pub fn restore(&mut self, row: &[u8]) -> Option<()> {
        let member = AlarmMember::decode(row).ok()?;
        self.raised.insert((member.member_id, member.alarm));
        Some(())
    }

    /// Raises an alarm; the row to store, unless it is up already.
    pub fn raise(&mut self, member_id: u64, kind: i32) -> Option<BucketWrite> {
        self.raised
            .insert((member_id, kind))
            .then(|| row(member_id, kind, Some(Bytes::new())))
    }

    /// Takes an alarm down; the row to delete, if it was up.
    pub fn clear(&mut self, member_id: u64, kind: i32) -> Option<BucketWrite> {
        self.raised
            .remove(&(member_id, kind))
            .then(|| row(member_id, kind, None))
    }

    /// Alarms of one kind, or of every kind for [`AlarmType::None`].
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let wanted = |k: i32| kind == AlarmType::None as i32 || kind == k;
        let members = self.raised.iter().filter(|(_, k)| wanted(*k));
        members
            .map(|&(member_id, alarm)| AlarmMember { member_id, alarm })
            .collect()
    }

    /// Whether any member raised this kind.
    pub fn is_raised(&self, kind: AlarmType) -> bool {
        self.raised.iter().any(|(_, k)| *k == kind as i32)
    }
}

fn row(member_id: u64, alarm: i32, value: Option<Bytes>) -> BucketWrite {
    let key = AlarmMember { member_id, alarm }.encode_to_vec().into();
    BucketWrite {
        bucket: Bucket::Alarm,
        key,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_stored_once_and_found_by_kind() {
        let mut alarms = Alarms::default();
        let row = alarms.raise(3, AlarmType::Nospace as i32).unwrap();
        assert_eq!(alarms.raise(3, AlarmType::Nospace as i32), None);
        assert!(alarms.is_raised(AlarmType::Nospace) && !alarms.is_raised(AlarmType::Corrupt));
        let mut restored = Alarms::default();
        restored.restore(&row.key).unwrap();
        assert_eq!(restored, alarms);
        assert_eq!(alarms.list(AlarmType::Corrupt as i32), []);
        assert_eq!(alarms.list(AlarmType::None as i32).len(), 1);
        assert_eq!(
            alarms.clear(3, AlarmType::Nospace as i32).unwrap().value,
            None
        );
        assert_eq!(alarms.clear(3, AlarmType::Nospace as i32), None);
    }
}
