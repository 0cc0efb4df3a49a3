//! Watching: who hears of which change, decided purely.
//!
//! The [`Hub`] owns every watcher of this member. It is fed the changes of each main revision in order
//! ([`Hub::publish`]) and hands each stream one [`Delivery`] a revision, however many watchers the stream has;
//! an event is encoded once for all of them.
//!
//! A watcher is either *synced*, which means everything before the hub's next revision has been handed over and
//! live changes reach it, or *unsynced*, which means its changes from [`Watcher::next`] on come from history
//! ([`Hub::catch_up`]). There is no third state. A stream that has no room ([`Outbox::try_send`]) makes the
//! watchers concerned unsynced at the revision that did not fit; nothing is kept for them, because history has
//! it. So the hub never waits, its memory does not grow with slow readers, and a watcher gets each of its
//! changes exactly once whatever it went through: `next` alone decides.
//!
//! What must hold:
//! - all changes of one main revision reach a watcher in one part of one delivery, in order;
//! - for each watcher revisions only rise, without gap or repeat;
//! - an empty delivery (progress) of revision R is queued behind every change up to R;
//! - one step of [`Hub::catch_up`] is bounded, and steps go round the streams and round a stream's watchers.
//!
//! Deliberately absent: time (progress intervals are the shell's), threads, queues (the shell has one a
//! stream), permissions, and the texts of refusals.

mod catch_up;
mod delivery;
mod hub;
mod index;
mod range_tree;
mod watcher;

#[cfg(test)]
mod tests;

pub use delivery::{Delivery, Events, Part, Refusal};
pub use hub::{Counts, Hub, StreamId};
pub use watcher::Watcher;

/// Where a stream's deliveries go.
pub trait Outbox {
    /// Queues a delivery behind everything queued before; `false` when the stream has no room for it. The hub
    /// then sends nothing more to the stream until [`Hub::drained`].
    fn try_send(&mut self, stream: StreamId, delivery: Delivery) -> bool;

    /// Queues the reply to a request, room or not. The stream must bound the requests it has open.
    fn send(&mut self, stream: StreamId, reply: Delivery);
}
