//! The wire types: everything `proto/` describes, generated at build time, and the two messages that
//! this server keeps encoded ([`KeyValue`], [`Event`]).
//!
//! These types are also the vocabulary of commands inside the server; there are no parallel structs.
//! Byte fields are [`bytes::Bytes`]: a decoded request shares the buffer it came in.

mod encoded;
mod entry_text;
mod range_answer;
pub mod text;

pub use encoded::{Event, EventFields, EventType, KeyValue, KeyValueFields};
pub use range_answer::EncodedRangeResponse;

/// Generated code of one proto package.
macro_rules! package {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[allow(missing_docs, clippy::all, unreachable_pub, unused_qualifications, elided_lifetimes_in_paths)]
        pub mod $name {
            include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
        }
    };
}

package!(
    /// Client API services and messages, and the raft log payload.
    etcdserverpb
);
package!(
    /// Users, roles and permissions as stored.
    authpb
);
package!(
    /// Membership commands in the raft log.
    membershippb
);
package!(
    /// Lease records as stored.
    leasepb
);
package!(
    /// The Lock service.
    v3lockpb
);
package!(
    /// The Election service.
    v3electionpb
);

/// The health service of gRPC.
#[allow(
    missing_docs,
    clippy::all,
    unreachable_pub,
    unused_qualifications,
    elided_lifetimes_in_paths
)]
pub mod health {
    include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
}

pub use raft_proto::eraftpb as raftpb;
