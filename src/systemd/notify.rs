//! State datagrams to the service manager.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use sd_notify::NotifyState;

/// Where datagrams go. Replaced in tests; a service has the one in its environment.
type Send = fn(&[NotifyState<'_>]) -> io::Result<()>;

/// Tells the service manager what this process is doing. All methods are cheap and never fail: without a
/// manager nothing is sent, and one that cannot be reached is logged once.
pub struct Notifier {
    send: Send,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    status: String,
    /// Shown instead of the status while it lasts.
    trouble: Option<String>,
    failed: bool,
}

impl Default for Notifier {
    fn default() -> Self {
        Self {
            send: sd_notify::notify,
            state: Mutex::default(),
        }
    }
}

/// While it lives the manager shows the service as reloading.
#[must_use]
pub struct ReloadNotice<'a>(&'a Notifier);

impl Drop for ReloadNotice<'_> {
    /// Also after a failed reload: the service goes on with what it had.
    fn drop(&mut self) {
        self.0.ready();
    }
}

impl Notifier {
    /// The service answers requests, with the status last told.
    pub fn ready(&self) {
        let status = self.state.lock().status.clone();
        match status.is_empty() {
            true => self.tell(&[NotifyState::Ready]),
            false => self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]),
        }
    }

    /// The line of `systemctl status`; sent only when it differs from the last one, and not while there is
    /// trouble.
    pub fn status(&self, text: &str) {
        {
            let mut state = self.state.lock();
            if state.status == text {
                return;
            }
            text.clone_into(&mut state.status);
            if state.trouble.is_some() {
                return;
            }
        }
        self.tell(&[NotifyState::Status(text)]);
    }

    /// Shows trouble instead of the status, until there is `None`. Sent only when it differs.
    pub fn trouble(&self, trouble: Option<String>) {
        let shown = {
            let mut state = self.state.lock();
            if state.trouble == trouble {
                return;
            }
            state.trouble.clone_from(&trouble);
            trouble.unwrap_or_else(|| state.status.clone())
        };
        self.tell(&[NotifyState::Status(&shown)]);
    }

    /// The service has begun to stop.
    pub fn stopping(&self, text: &str) {
        text.clone_into(&mut self.state.lock().status);
        self.tell(&[NotifyState::Stopping, NotifyState::Status(text)]);
    }

    /// The service re-reads its files until the notice is dropped. The time stamp goes with it: without
    /// one, `systemctl reload` of a `notify-reload` unit would wait for ever.
    pub fn reloading(&self) -> ReloadNotice<'_> {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(_) => self.tell(&[NotifyState::Reloading]),
        }
        ReloadNotice(self)
    }

    /// Asks for this much more time to start, reload or stop, counted from now.
    pub fn extend_timeout(&self, more: Duration) {
        let microseconds = u32::try_from(more.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
    }

    /// The process is alive, by [`super::Watchdog`]'s judgement.
    pub fn watchdog(&self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// The process ends for this reason; `errno` as the operating system numbers it.
    pub fn failed(&self, errno: i32, text: &str) {
        text.clone_into(&mut self.state.lock().status);
        let errno = NotifyState::Errno(errno.unsigned_abs());
        self.tell(&[errno, NotifyState::Status(text)]);
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        let result = (self.send)(states);
        let mut state = self.state.lock();
        if let Err(error) = &result
            && !state.failed
        {
            tracing::warn!(%error, "cannot reach the service manager");
        }
        state.failed = result.is_err();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::OnceLock;

    use super::*;

    /// The manager's end of a socket of our own: tests must not change the environment.
    static SOCKETS: OnceLock<(UnixDatagram, UnixDatagram)> = OnceLock::new();

    fn sockets() -> &'static (UnixDatagram, UnixDatagram) {
        SOCKETS.get_or_init(|| UnixDatagram::pair().unwrap())
    }

    fn send_to_test(states: &[NotifyState<'_>]) -> io::Result<()> {
        let text: String = states.iter().map(|state| format!("{state}\n")).collect();
        sockets().0.send(text.as_bytes()).map(drop)
    }

    fn received() -> String {
        let mut bytes = [0; 500];
        let length = sockets().1.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn datagrams_in_the_order_of_a_life() {
        let notifier = Notifier {
            send: send_to_test,
            state: Mutex::default(),
        };
        notifier.status("replaying WAL 61%");
        assert_eq!(received(), "STATUS=replaying WAL 61%\n");
        notifier.status("replaying WAL 61%");
        notifier.extend_timeout(Duration::from_secs(30));
        assert_eq!(received(), "EXTEND_TIMEOUT_USEC=30000000\n");
        notifier.ready();
        assert_eq!(received(), "READY=1\nSTATUS=replaying WAL 61%\n");

        let notice = notifier.reloading();
        let text = received();
        let stamp = text
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .unwrap()
            .trim();
        assert!(stamp.parse::<u64>().unwrap() > 0);
        drop(notice);
        assert_eq!(received(), "READY=1\nSTATUS=replaying WAL 61%\n");

        notifier.watchdog();
        assert_eq!(received(), "WATCHDOG=1\n");
        notifier.trouble(Some("STALLED".into()));
        assert_eq!(received(), "STATUS=STALLED\n");
        notifier.status("leader");
        notifier.trouble(Some("STALLED".into()));
        notifier.trouble(None);
        assert_eq!(received(), "STATUS=leader\n");
        notifier.stopping("stopping");
        assert_eq!(received(), "STOPPING=1\nSTATUS=stopping\n");
        notifier.failed(30, "read-only file system");
        assert_eq!(received(), "ERRNO=30\nSTATUS=read-only file system\n");
    }
}
