//! The getters and setters the `raft` crate calls, and its size and codec trait.

use bytes::Bytes;

use crate::eraftpb::*;

macro_rules! accessors {
    ($message:ident { $($kind:ident $field:ident $(: $type:ty)? => $($name:ident)+;)* }) => {
        impl $message {
            $(accessors!(@$kind $field $(: $type)? => $($name)+);)*

            /// The empty message.
            pub fn default_ref() -> &'static Self {
                ::protobuf::Message::default_instance()
            }

            /// The empty message.
            pub fn new_() -> Self {
                Self::default()
            }
        }

        impl ::protobuf::Clear for $message {
            fn clear(&mut self) {
                ::prost::Message::clear(self);
            }
        }

        impl ::protobuf::Message for $message {
            fn compute_size(&self) -> u32 {
                ::prost::Message::encoded_len(self) as u32
            }
            fn get_cached_size(&self) -> u32 {
                ::prost::Message::encoded_len(self) as u32
            }
            fn as_any(&self) -> &dyn ::std::any::Any {
                self
            }
            fn descriptor(&self) -> &'static ::protobuf::reflect::MessageDescriptor {
                unreachable!("the raft crate asks for no descriptors")
            }
            fn new() -> Self {
                Self::default()
            }
            fn default_instance() -> &'static Self {
                static INSTANCE: ::std::sync::LazyLock<$message> =
                    ::std::sync::LazyLock::new($message::default);
                &INSTANCE
            }
            fn is_initialized(&self) -> bool {
                true
            }
            fn write_to_with_cached_sizes(
                &self,
                stream: &mut ::protobuf::CodedOutputStream<'_>,
            ) -> ::protobuf::ProtobufResult<()> {
                stream.write_raw_bytes(&::prost::Message::encode_to_vec(self))
            }
            fn merge_from(
                &mut self,
                _: &mut ::protobuf::CodedInputStream<'_>,
            ) -> ::protobuf::ProtobufResult<()> {
                // Bytes are decoded by prost alone.
                Err(decode_error())
            }
            fn get_unknown_fields(&self) -> &::protobuf::UnknownFields {
                static NONE: ::std::sync::LazyLock<::protobuf::UnknownFields> =
                    ::std::sync::LazyLock::new(::protobuf::UnknownFields::new);
                &NONE
            }
            fn mut_unknown_fields(&mut self) -> &mut ::protobuf::UnknownFields {
                unreachable!("the raft crate keeps no unknown fields")
            }
            fn write_to_bytes(&self) -> ::protobuf::ProtobufResult<Vec<u8>> {
                Ok(::prost::Message::encode_to_vec(self))
            }
            fn merge_from_bytes(&mut self, bytes: &[u8]) -> ::protobuf::ProtobufResult<()> {
                ::prost::Message::merge(self, bytes).map_err(|_| decode_error())
            }
        }
    };
    (@copy $field:ident: $type:ty => $get:ident $set:ident) => {
        pub fn $get(&self) -> $type {
            self.$field
        }
        pub fn $set(&mut self, value: $type) {
            self.$field = value;
        }
    };
    // The setter comes with prost's derive.
    (@enumeration $field:ident: $type:ty => $get:ident) => {
        /// The zero variant where the number is unknown.
        pub fn $get(&self) -> $type {
            <$type>::try_from(self.$field).unwrap_or_default()
        }
    };
    (@bytes $field:ident => $get:ident $set:ident $take:ident) => {
        pub fn $get(&self) -> &[u8] {
            &self.$field
        }
        pub fn $set(&mut self, value: impl Into<Bytes>) {
            self.$field = value.into();
        }
        pub fn $take(&mut self) -> Bytes {
            ::std::mem::take(&mut self.$field)
        }
    };
    (@list $field:ident: $type:ty => $get:ident $set:ident $change:ident $take:ident) => {
        pub fn $get(&self) -> &[$type] {
            &self.$field
        }
        pub fn $set(&mut self, value: Vec<$type>) {
            self.$field = value;
        }
        pub fn $change(&mut self) -> &mut Vec<$type> {
            &mut self.$field
        }
        pub fn $take(&mut self) -> Vec<$type> {
            ::std::mem::take(&mut self.$field)
        }
    };
    (@message $field:ident: $type:ty => $get:ident $set:ident $change:ident $take:ident $has:ident) => {
        pub fn $get(&self) -> &$type {
            self.$field.as_ref().unwrap_or_else(|| <$type>::default_ref())
        }
        pub fn $set(&mut self, value: $type) {
            self.$field = Some(value);
        }
        pub fn $change(&mut self) -> &mut $type {
            self.$field.get_or_insert_default()
        }
        pub fn $take(&mut self) -> $type {
            self.$field.take().unwrap_or_default()
        }
        pub fn $has(&self) -> bool {
            self.$field.is_some()
        }
    };
}

fn decode_error() -> ::protobuf::ProtobufError {
    ::protobuf::ProtobufError::WireError(::protobuf::error::WireError::Other)
}

accessors!(Entry {
    enumeration entry_type: EntryType => get_entry_type;
    copy term: u64 => get_term set_term;
    copy index: u64 => get_index set_index;
    bytes data => get_data set_data take_data;
    bytes context => get_context set_context take_context;
});
accessors!(SnapshotMetadata {
    message conf_state: ConfState => get_conf_state set_conf_state mut_conf_state take_conf_state has_conf_state;
    copy index: u64 => get_index set_index;
    copy term: u64 => get_term set_term;
});
accessors!(Snapshot {
    bytes data => get_data set_data take_data;
    message metadata: SnapshotMetadata => get_metadata set_metadata mut_metadata take_metadata has_metadata;
});
accessors!(Message {
    enumeration msg_type: MessageType => get_msg_type;
    copy to: u64 => get_to set_to;
    copy from: u64 => get_from set_from;
    copy term: u64 => get_term set_term;
    copy log_term: u64 => get_log_term set_log_term;
    copy index: u64 => get_index set_index;
    list entries: Entry => get_entries set_entries mut_entries take_entries;
    copy commit: u64 => get_commit set_commit;
    copy commit_term: u64 => get_commit_term set_commit_term;
    message snapshot: Snapshot => get_snapshot set_snapshot mut_snapshot take_snapshot has_snapshot;
    copy request_snapshot: u64 => get_request_snapshot set_request_snapshot;
    copy reject: bool => get_reject set_reject;
    copy reject_hint: u64 => get_reject_hint set_reject_hint;
    bytes context => get_context set_context take_context;
    copy priority: i64 => get_priority set_priority;
    copy deprecated_priority: u64 => get_deprecated_priority set_deprecated_priority;
});
accessors!(HardState {
    copy term: u64 => get_term set_term;
    copy vote: u64 => get_vote set_vote;
    copy commit: u64 => get_commit set_commit;
});
accessors!(ConfState {
    list voters: u64 => get_voters set_voters mut_voters take_voters;
    list learners: u64 => get_learners set_learners mut_learners take_learners;
    list voters_outgoing: u64 => get_voters_outgoing set_voters_outgoing mut_voters_outgoing take_voters_outgoing;
    list learners_next: u64 => get_learners_next set_learners_next mut_learners_next take_learners_next;
    copy auto_leave: bool => get_auto_leave set_auto_leave;
});
accessors!(ConfChange {
    enumeration change_type: ConfChangeType => get_change_type;
    copy node_id: u64 => get_node_id set_node_id;
    bytes context => get_context set_context take_context;
    copy id: u64 => get_id set_id;
});
accessors!(ConfChangeSingle {
    enumeration change_type: ConfChangeType => get_change_type;
    copy node_id: u64 => get_node_id set_node_id;
});
accessors!(ConfChangeV2 {
    enumeration transition: ConfChangeTransition => get_transition;
    list changes: ConfChangeSingle => get_changes set_changes mut_changes take_changes;
    bytes context => get_context set_context take_context;
});
