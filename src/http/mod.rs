//! Listeners, and everything that is answered over HTTP.
//!
//! A port carries several protocols. The first bytes of a connection decide (`sniff`): an HTTP/2 preface
//! is gRPC and goes to the service the caller passed in, an HTTP/1 request line goes to the endpoints
//! here, a TLS record to the handshake if the port has TLS, and anything else is closed without a word,
//! as etcd does. After a handshake the negotiated protocol and the content type decide.
//!
//! Flow: `bind` makes a [`Bound`] (a URL's socket, or one the service manager handed over) → `accept`
//! counts and spawns connections → `connection` runs hyper on one → the closures of [`client`], metrics
//! (also in [`client`]) or [`peer`] answer. What answers asks the member through the trait [`Member`],
//! which `NodeHandle` implements, as do tests.
//!
//! Invariants: connections never outlive [`Shutdown::finish`]; no endpoint here waits for anything but a
//! linearizable read; a plain port never answers a TLS hello and the reverse.
//!
//! Deliberately absent: the gRPC services (module `rpc`), the JSON gateway, raft's streams between peers,
//! profiles of the process (`perf` does that better than a server can), and enforcement of
//! `grpc-keepalive-min-time` with `GOAWAY too_many_pings`: hyper answers pings below every layer that
//! could count them, at a cost that makes counting pointless.

mod accept;
mod access;
mod bind;
pub mod client;
mod connection;
mod debug;
mod health;
mod member;
pub mod peer;
mod reply;
mod scrape;
mod sniff;
mod socket;

#[cfg(test)]
mod tests;

pub use accept::{Serving, Shutdown};
pub use access::Access;
pub use bind::{Address, BindError, Bound, SocketOptions, bind};
pub use connection::{Http2Settings, Peer};
pub use member::Member;
pub use reply::{Body, Reply};
