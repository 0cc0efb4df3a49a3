//! [`KeyValue`] and [`Event`]: messages that are served as the bytes they were stored as.
//!
//! A range of ten thousand keys, or one event for a thousand watchers, is assembled from encoded records
//! by copying bytes; nothing is encoded twice. A message that came off the wire keeps its fields instead,
//! so clients decode without a copy either.

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};
use prost::{DecodeError, Message};

/// The fields of `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct KeyValueFields {
    /// The key, never empty.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Main revision of the first put of this generation.
    #[prost(int64, tag = "2")]
    pub create_revision: i64,
    /// Main revision of the last put.
    #[prost(int64, tag = "3")]
    pub mod_revision: i64,
    /// Puts in this generation, from 1.
    #[prost(int64, tag = "4")]
    pub version: i64,
    /// The value.
    #[prost(bytes = "bytes", tag = "5")]
    pub value: Bytes,
    /// The lease the key hangs on, 0 for none.
    #[prost(int64, tag = "6")]
    pub lease: i64,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum EventType {
    /// The key was put.
    Put = 0,
    /// The key was deleted, by a request or with its lease.
    Delete = 1,
}

/// The fields of `mvccpb.Event`.
#[derive(Clone, PartialEq, Message)]
pub struct EventFields {
    /// An [`EventType`].
    #[prost(enumeration = "EventType", tag = "1")]
    pub r#type: i32,
    /// The pair after the event; of a deleted key only key and mod revision.
    #[prost(message, optional, tag = "2")]
    pub kv: Option<KeyValue>,
    /// The pair before the event, where it was asked for and still exists.
    #[prost(message, optional, tag = "3")]
    pub prev_kv: Option<KeyValue>,
}

/// A message held as its encoding, or, when it was decoded from a stream, as its fields.
macro_rules! encoded_message {
    ($(#[$doc:meta])* $name:ident, $repr:ident, $fields:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name($repr);

        #[derive(Clone)]
        enum $repr {
            Encoded(Bytes),
            Fields(Box<$fields>),
        }

        impl $name {
            /// Wraps bytes that are a valid encoding. Bytes from disk or a peer go through
            #[doc = concat!("[`", stringify!($fields), "::decode`] first.")]
            pub fn from_encoded(encoded: Bytes) -> Self {
                Self($repr::Encoded(encoded))
            }

            /// The encoding; free of copy unless the message was decoded from a stream.
            pub fn encoded(&self) -> Bytes {
                match &self.0 {
                    $repr::Encoded(bytes) => bytes.clone(),
                    $repr::Fields(fields) => fields.encode_to_vec().into(),
                }
            }

            /// The fields. Byte fields share this message's buffer.
            pub fn fields(&self) -> $fields {
                match &self.0 {
                    // Only encodings this program wrote or checked get here.
                    $repr::Encoded(bytes) => $fields::decode(bytes.clone()).unwrap_or_default(),
                    $repr::Fields(fields) => (**fields).clone(),
                }
            }

            /// The fields, without a copy where the message already holds them.
            pub fn into_fields(self) -> $fields {
                match self.0 {
                    $repr::Encoded(bytes) => $fields::decode(bytes).unwrap_or_default(),
                    $repr::Fields(fields) => *fields,
                }
            }
        }

        impl From<$fields> for $name {
            fn from(fields: $fields) -> Self {
                Self($repr::Encoded(fields.encode_to_vec().into()))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self($repr::Encoded(Bytes::new()))
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.fields() == other.fields()
            }
        }

        impl Eq for $name {}

        impl std::hash::Hash for $name {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                // Equal fields may have unequal encodings; what is hashed is the canonical one.
                self.fields().encode_to_vec().hash(state);
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.fields().fmt(f)
            }
        }

        impl Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                match &self.0 {
                    $repr::Encoded(bytes) => buf.put_slice(bytes),
                    $repr::Fields(fields) => fields.encode_raw(buf),
                }
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buf: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), DecodeError> {
                if let $repr::Encoded(bytes) = &self.0 {
                    self.0 = $repr::Fields(Box::new($fields::decode(bytes.clone())?));
                }
                let $repr::Fields(fields) = &mut self.0 else { unreachable!() };
                fields.merge_field(tag, wire_type, buf, context)
            }

            fn encoded_len(&self) -> usize {
                match &self.0 {
                    $repr::Encoded(bytes) => bytes.len(),
                    $repr::Fields(fields) => fields.encoded_len(),
                }
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
}

encoded_message!(
    /// `mvccpb.KeyValue`: a pair with its revisions.
    KeyValue,
    KeyValueRepr,
    KeyValueFields
);

encoded_message!(
    /// `mvccpb.Event`: one change of one key.
    Event,
    EventRepr,
    EventFields
);

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> KeyValueFields {
        KeyValueFields {
            key: Bytes::from_static(b"k"),
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: Bytes::from_static(b"v"),
            lease: 7,
        }
    }

    #[test]
    fn a_pair_survives_the_wire_in_both_forms() {
        let stored = KeyValue::from(pair());
        let received = KeyValue::decode(stored.encoded()).unwrap();
        assert_eq!(received.fields(), pair());
        assert_eq!(received.encoded(), stored.encoded());
        assert_eq!(received.encoded_len(), stored.encoded_len());
        assert_eq!(received.encode_to_vec(), stored.encode_to_vec());
    }

    #[test]
    fn an_event_nests_encoded_pairs() {
        let event = Event::from(EventFields {
            r#type: EventType::Delete as i32,
            kv: Some(pair().into()),
            prev_kv: None,
        });
        let received = EventFields::decode(event.encoded()).unwrap();
        assert_eq!(received.r#type(), EventType::Delete);
        assert_eq!(received.kv.unwrap().into_fields(), pair());
    }

    #[test]
    fn a_broken_pair_is_an_error() {
        assert!(KeyValue::decode(&[0x0a, 0x05, b'x'][..]).is_err());
    }
}
