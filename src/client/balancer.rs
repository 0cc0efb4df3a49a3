//! Connections to all endpoints of a client, and whose turn it is.
//!
//! The first call starts a task per endpoint that connects, waits for the connection to end, and connects again;
//! calls take turns over the connections that are up and wait while none is. Dropping the balancer ends the tasks.

use super::connection::{Connection, Options};
use super::endpoint::Endpoint;
use parking_lot::Mutex;
use rand::Rng;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// First wait before connecting again, and the longest.
const RECONNECT_MIN: Duration = Duration::from_millis(20);
const RECONNECT_MAX: Duration = Duration::from_secs(2);

/// An attempt to connect is given up after so long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// All endpoints of a client.
pub(super) struct Balancer {
    shared: Arc<Shared>,
    options: Options,
    turn: AtomicUsize,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    endpoints: Vec<Endpoint>,
    slots: Mutex<Vec<Option<Connection>>>,
    last_error: Mutex<Option<String>>,
    changes: watch::Sender<()>,
}

impl Balancer {
    /// A balancer over these endpoints. Nothing connects yet.
    pub(super) fn new(endpoints: Vec<Endpoint>, options: Options) -> Self {
        let turn = match endpoints.len() {
            0 | 1 => 0,
            several => rand::rng().random_range(0..several),
        };
        let slots = Mutex::new(vec![None; endpoints.len()]);
        let shared = Shared {
            endpoints,
            slots,
            last_error: Mutex::default(),
            changes: watch::Sender::new(()),
        };
        Self {
            shared: Arc::new(shared),
            options,
            turn: AtomicUsize::new(turn),
            tasks: Mutex::default(),
        }
    }

    /// The endpoints.
    pub(super) fn endpoints(&self) -> &[Endpoint] {
        &self.shared.endpoints
    }

    /// The next connection that is up; waits until there is one.
    pub(super) async fn next(&self) -> Connection {
        self.start();
        let mut changes = self.shared.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(connection) = self.take_turn() {
                return connection;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// Why the last connection attempt failed.
    pub(super) fn last_error(&self) -> Option<String> {
        self.shared.last_error.lock().clone()
    }

    fn take_turn(&self) -> Option<Connection> {
        let slots = self.shared.slots.lock();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        (0..slots.len())
            .filter_map(|i| slots[first.wrapping_add(i) % slots.len()].as_ref())
            .find(|connection| connection.is_open())
            .cloned()
    }

    fn start(&self) {
        let mut tasks = self.tasks.lock();
        if !tasks.is_empty() {
            return;
        }
        for index in 0..self.shared.endpoints.len() {
            tasks.spawn(keep_connected(
                Arc::clone(&self.shared),
                index,
                self.options.clone(),
            ));
        }
    }
}

async fn keep_connected(shared: Arc<Shared>, index: usize, options: Options) {
    let mut pause = RECONNECT_MIN;
    loop {
        let opening = Connection::open(&shared.endpoints[index], &options);
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, opening).await;
        match opened.unwrap_or_else(|_| Err("context deadline exceeded".to_owned())) {
            Ok((connection, driver)) => {
                shared.slots.lock()[index] = Some(connection);
                shared.changes.send_replace(());
                driver.await;
                shared.slots.lock()[index] = None;
                pause = RECONNECT_MIN;
            }
            Err(error) => {
                let error = format!("connection error: desc = {error:?}");
                *shared.last_error.lock() = Some(error);
                let jitter = rand::rng().random_range(0.8..1.2);
                tokio::time::sleep(pause.mul_f64(jitter)).await;
                pause = pause.mul_f64(1.6).min(RECONNECT_MAX);
            }
        }
    }
}
