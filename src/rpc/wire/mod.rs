//! gRPC on HTTP/2 requests: message framing, request heads, statuses, deadlines, compression.
//!
//! Why not tonic's server: clients of etcd match on the exact texts of errors that arise below any handler
//! (size limits, broken messages, unknown methods, content types), and on when replies are compressed; tonic
//! words and decides these its own way. Here they are written once, where they arise. It also costs less: a
//! message that came in one frame is decoded in place, a reply is encoded into a buffer of its size, and a
//! stream that says nothing holds no buffer. tonic's [`Status`](tonic::Status) is the vocabulary, and tonic is
//! our client.
//!
//! HTTP/2 itself is the listener's (hyper).

mod call;
#[cfg(any(test, feature = "fuzz"))]
mod fuzz;
mod head;
mod messages;
mod reply;

pub(super) use call::{Call, Context, FromStream, Method, server_stream, stream, unary};
#[cfg(any(test, feature = "fuzz"))]
pub use fuzz::read_messages;
pub(super) use head::{check, refuse};
pub(super) use messages::Messages;
pub use reply::ReplyBody;
pub(super) use reply::{Outgoing, Reply, Source};
