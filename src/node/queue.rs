//! Bounded queues between threads.
//!
//! A queue keeps what is in it when its receiver ends, and with it the way to whoever waits for an answer. Here
//! the end of the receiver drops what is left, and what comes after it: nobody waits for a thread that is gone.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A queue with room for `limit` messages.
pub(crate) fn queue<T>(limit: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = flume::bounded(limit);
    let end = Arc::new(End {
        reached: AtomicBool::new(false),
        left: receiver.clone(),
    });
    let sender = Sender {
        queue: sender,
        end: end.clone(),
    };
    let receiver = Receiver {
        queue: receiver,
        end,
    };
    (sender, receiver)
}

/// What both sides know of the receiver's end.
struct End<T> {
    reached: AtomicBool,
    /// Keeps the queue open beyond its receiver, so that every sender can empty it.
    left: flume::Receiver<T>,
}

impl<T> End<T> {
    /// Also lets go of senders that wait for room.
    fn empty(&self) {
        while self.left.try_recv().is_ok() {}
    }
}

/// The receiver is gone, and the message with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended;

/// Why a message was not taken.
#[derive(Debug)]
pub(crate) enum Refused<T> {
    /// There is no room; the message comes back.
    Full(T),
    /// There is no receiver.
    Ended,
}

/// Puts messages into a queue.
pub(crate) struct Sender<T> {
    queue: flume::Sender<T>,
    end: Arc<End<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self {
            queue: self.queue.clone(),
            end: self.end.clone(),
        }
    }
}

impl<T> Sender<T> {
    /// Waits for room.
    pub(crate) fn send(&self, message: T) -> Result<(), Ended> {
        let _ = self.queue.send(message); // never refused: `End` holds a receiver
        self.not_ended()
    }

    /// Does not wait.
    pub(crate) fn try_send(&self, message: T) -> Result<(), Refused<T>> {
        let sent = self.queue.try_send(message);
        if self.not_ended().is_err() {
            return Err(Refused::Ended);
        }
        sent.map_err(|refused| Refused::Full(refused.into_inner()))
    }

    /// Whether the next message would have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.queue.is_full()
    }

    /// Looked at after a message is in the queue: either the receiver's end comes later and drops it, or it is
    /// seen here. The queue's lock orders the two.
    fn not_ended(&self) -> Result<(), Ended> {
        if self.end.reached.load(Ordering::Acquire) {
            self.end.empty();
            return Err(Ended);
        }
        Ok(())
    }
}

/// Takes messages out of a queue; dropping it ends the queue.
pub(crate) struct Receiver<T> {
    queue: flume::Receiver<T>,
    end: Arc<End<T>>,
}

impl<T> Deref for Receiver<T> {
    type Target = flume::Receiver<T>;

    fn deref(&self) -> &Self::Target {
        &self.queue
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.end.reached.store(true, Ordering::Release);
        self.end.empty();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_left_at_the_end_is_dropped() {
        let (sender, receiver) = queue(2);
        let (reply, answer) = flume::bounded::<()>(1);
        sender.send(Some(reply)).unwrap();
        drop(receiver);
        assert_eq!(answer.recv(), Err(flume::RecvError::Disconnected));
        assert_eq!(sender.send(None), Err(Ended));
        assert!(matches!(sender.try_send(None), Err(Refused::Ended)));
    }

    #[test]
    fn a_message_without_room_comes_back() {
        let (sender, receiver) = queue(1);
        sender.try_send(1).unwrap();
        assert!(sender.is_full());
        assert!(matches!(sender.try_send(2), Err(Refused::Full(2))));
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.try_recv(), Err(flume::TryRecvError::Empty));
    }

    #[test]
    fn a_receiver_sees_the_end_of_the_last_sender() {
        let (sender, receiver) = queue(1);
        sender.send(1).unwrap();
        drop(sender.clone());
        drop(sender);
        assert_eq!(receiver.recv(), Ok(1));
        assert_eq!(receiver.recv(), Err(flume::RecvError::Disconnected));
    }

    #[test]
    fn nobody_who_sends_while_the_receiver_ends_waits_for_ever() {
        for _ in 0..200 {
            let (sender, receiver) = queue(2);
            let senders: Vec<_> = (0..4)
                .map(|_| {
                    let sender = sender.clone();
                    thread::spawn(move || {
                        // A sender stays, as it does in a handle: the queue itself is never gone.
                        let (reply, answer) = flume::bounded::<()>(1);
                        while sender.send(reply.clone()).is_ok() {}
                        drop(reply);
                        answer.recv_timeout(Duration::from_secs(20))
                    })
                })
                .collect();
            receiver.recv().unwrap();
            drop(receiver);
            for sender in senders {
                let outcome = sender.join().unwrap();
                assert_eq!(outcome, Err(flume::RecvTimeoutError::Disconnected));
            }
        }
    }
}
