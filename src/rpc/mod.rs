//! The client API: gRPC services over a [`NodeHandle`].
//!
//! [`Services::call`] takes one HTTP/2 request and gives the reply; the listener (module `http`) calls it. A
//! call goes: `routes` (which method) → `wire` (read the request, deadline, counters) → a handler in the file
//! of its service → `status` (errors in etcd's words). Every handler begins with [`Server::admit`], then checks
//! its arguments, then asks the member; nothing is wrapped around that.
//!
//! Handlers run inside the connection's own task: a unary call spawns nothing, and neither does a watch. What
//! reads many keys goes to the blocking pool, so that others on the same threads are not held up.
//!
//! Deliberately absent: HTTP/1 and JSON (module `http`), users and permissions, changes of membership, the
//! services Lock and Election.

mod auth;
mod cluster;
mod health;
mod kv;
mod lease;
mod maintenance;
mod routes;
mod server;
mod slow;
mod snapshot;
mod status;
mod watch;
mod wire;

#[cfg(test)]
mod tests;

pub use routes::Services;
pub use server::Limits;
pub use wire::ReplyBody;
#[cfg(any(test, feature = "fuzz"))]
pub use wire::read_messages;
