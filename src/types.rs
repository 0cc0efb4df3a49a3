//! Words every layer uses: identifiers and revisions. No logic beyond their text and byte forms.

use std::fmt;

/// A member's id. Text form: lower-case hexadecimal without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(pub u64);

/// A cluster's id. Text form: lower-case hexadecimal without padding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(pub u64);

/// A lease's id; 0 is no lease. Text form: lower-case hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

macro_rules! hexadecimal {
    ($($id:ident)+) => {
        $(impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        })+
    };
}
hexadecimal!(MemberId ClusterId LeaseId);

/// The place of one change in the store's history.
///
/// `main` counts write transactions (the first is 2), `sub` the changes inside one, from 0.
/// The derived order is the order of history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision {
    /// The write transaction.
    pub main: i64,
    /// The change inside it.
    pub sub: i64,
}

impl Revision {
    /// Bytes of [`Revision::to_key`] without a tombstone mark.
    pub const KEY_BYTES: usize = 17;

    /// A revision by its two parts.
    pub fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }

    /// etcd's key for this revision in its `key` bucket: both parts big-endian with `_` between them.
    pub fn to_key(self) -> [u8; Self::KEY_BYTES] {
        let mut key = [0; Self::KEY_BYTES];
        key[..8].copy_from_slice(&self.main.to_be_bytes());
        key[8] = b'_';
        key[9..].copy_from_slice(&self.sub.to_be_bytes());
        key
    }

    /// Reads a `key` bucket key: the revision, and whether a tombstone mark (`t`) follows it.
    pub fn from_key(key: &[u8]) -> Option<(Self, bool)> {
        let (head, tombstone) = match key.len() {
            Self::KEY_BYTES => (key, false),
            n if n == Self::KEY_BYTES + 1 && key[n - 1] == b't' => (&key[..n - 1], true),
            _ => return None,
        };
        if head[8] != b'_' {
            return None;
        }
        let part = |bytes: &[u8]| bytes.try_into().ok().map(i64::from_be_bytes);
        Some((
            Self {
                main: part(&head[..8])?,
                sub: part(&head[9..])?,
            },
            tombstone,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_keys_are_etcds() {
        let revision = Revision::new(258, 1);
        let key = revision.to_key();
        assert_eq!(
            &key,
            b"\x00\x00\x00\x00\x00\x00\x01\x02_\x00\x00\x00\x00\x00\x00\x00\x01"
        );
        assert_eq!(Revision::from_key(&key), Some((revision, false)));
        let mut tombstone = key.to_vec();
        tombstone.push(b't');
        assert_eq!(Revision::from_key(&tombstone), Some((revision, true)));
        assert_eq!(Revision::from_key(b"short"), None);
    }

    #[test]
    fn ids_print_as_unpadded_hexadecimal() {
        assert_eq!(MemberId(0xa8f3458387986d).to_string(), "a8f3458387986d");
        assert_eq!(LeaseId(0x10).to_string(), "10");
    }
}
