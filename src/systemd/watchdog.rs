//! Whether the process may claim to be alive.
//!
//! Each part shows a counter of rounds it went, idle rounds included. A part that has not moved since the
//! last look may be waiting for something legal; one that has not moved for longer than the manager's
//! limit allows is hung, and then nothing is claimed any more and the manager restarts the service.

use std::time::Duration;

use super::Notifier;

/// Signs of life of the parts, all counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Rounds of the raft thread, which ticks even when nothing happens.
    pub raft: u64,
    /// Rounds of the apply thread.
    pub apply: u64,
    /// Rounds of the log thread.
    pub log: u64,
    /// How long the log write or sync in flight has taken; zero for none.
    pub log_write_age: Duration,
    /// Moves while long legal work (a checkpoint, a step of a defragmentation) goes on.
    pub long_work: u64,
}

/// What a look at the counters says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Tell the manager.
    Alive,
    /// Tell it nothing: this part stands still.
    Stalled(&'static str),
}

/// Compares counters from look to look.
#[derive(Debug)]
pub struct Watchdog {
    limit: Duration,
    parts: [Part; 3],
    long_work: Part,
}

/// A counter and how long it has stood.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    seen: u64,
    standing: Duration,
}

impl Part {
    fn look(&mut self, now: u64, since_last: Duration) -> Duration {
        if now == self.seen {
            self.standing += since_last;
        } else {
            *self = Part {
                seen: now,
                standing: Duration::ZERO,
            };
        }
        self.standing
    }
}

/// How long work that moves may hold up the apply thread before it counts as a stall all the same.
const LONG_WORK_MAX: Duration = Duration::from_secs(600);

impl Watchdog {
    /// A watchdog for a manager that waits `limit` (`WatchdogSec=`) for a sign.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            parts: Default::default(),
            long_work: Part::default(),
        }
    }

    /// How often to look: three chances within the limit.
    pub fn interval(&self) -> Duration {
        self.limit / 3
    }

    /// Judges the counters `since_last` after the last look.
    ///
    /// A part may stand for a third of the limit, so that with the silence that follows the manager's
    /// limit is about what an operator set. A log write may take two thirds: slow disks are slow, not
    /// hung.
    pub fn look(&mut self, progress: Progress, since_last: Duration) -> Verdict {
        let works = self.long_work.look(progress.long_work, since_last) < self.interval()
            && progress.long_work > 0;
        let counters = [
            ("raft", progress.raft),
            ("apply", progress.apply),
            ("log", progress.log),
        ];
        let mut verdict = Verdict::Alive;
        for (part, (name, counter)) in self.parts.iter_mut().zip(counters) {
            let standing = part.look(counter, since_last);
            let writing = name == "log" && progress.log_write_age > Duration::ZERO;
            let allowed = match name {
                // Raft neither works long nor waits for disks.
                "raft" => self.limit / 3,
                _ if works => LONG_WORK_MAX,
                _ if writing => self.limit,
                _ => self.limit / 3,
            };
            if standing > allowed && verdict == Verdict::Alive {
                verdict = Verdict::Stalled(name);
            }
        }
        if progress.log_write_age > self.limit * 2 / 3 && verdict == Verdict::Alive {
            verdict = Verdict::Stalled("log write");
        }
        verdict
    }
}

/// Feeds the manager's watchdog for as long as it is polled; ends at once where there is none. Start it
/// only when the service is ready: replay and the wait for a quorum have the start timeout.
pub async fn feed_watchdog(notifier: &Notifier, progress: impl Fn() -> Progress) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut watchdog = Watchdog::new(limit);
    let mut last = tokio::time::Instant::now();
    let mut stalled = None;
    let mut ticks = tokio::time::interval(watchdog.interval());
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        match watchdog.look(progress(), now - last) {
            Verdict::Alive => {
                notifier.watchdog();
                notifier.trouble(None);
                stalled = None;
            }
            Verdict::Stalled(part) if stalled != Some(part) => {
                tracing::error!(
                    part,
                    "a part of the process stands still; not feeding the watchdog"
                );
                notifier.trouble(Some(format!("STALLED: {part} stands still")));
                stalled = Some(part);
            }
            Verdict::Stalled(_) => {}
        }
        last = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);
    const STEP: Duration = Duration::from_secs(20);

    fn all(rounds: u64) -> Progress {
        Progress {
            raft: rounds,
            apply: rounds,
            log: rounds,
            ..Progress::default()
        }
    }

    #[test]
    fn what_moves_is_alive() {
        let mut watchdog = Watchdog::new(LIMIT);
        for round in 1..50 {
            assert_eq!(watchdog.look(all(round), STEP), Verdict::Alive);
        }
    }

    #[test]
    fn each_part_that_stands_is_found_and_recovers() {
        type Stop = fn(&mut Progress);
        let stand: [(&str, Stop); 3] = [
            ("raft", |progress| progress.raft = 1),
            ("apply", |progress| progress.apply = 1),
            ("log", |progress| progress.log = 1),
        ];
        for (name, stop) in stand {
            let mut watchdog = Watchdog::new(LIMIT);
            watchdog.look(all(1), STEP);
            for (round, wanted) in [(2, Verdict::Alive), (3, Verdict::Stalled(name))] {
                let mut progress = all(round);
                stop(&mut progress);
                assert_eq!(watchdog.look(progress, STEP), wanted, "{name} {round}");
            }
            assert_eq!(
                watchdog.look(all(4), STEP),
                Verdict::Alive,
                "{name} moves again"
            );
        }
    }

    #[test]
    fn a_slow_sync_is_alive_and_an_endless_one_is_not() {
        let mut watchdog = Watchdog::new(LIMIT);
        watchdog.look(all(1), STEP);
        let mut look = |age, round| {
            let log_write_age = Duration::from_secs(age);
            watchdog.look(
                Progress {
                    log: 1,
                    log_write_age,
                    ..all(round)
                },
                STEP,
            )
        };
        assert_eq!(look(15, 2), Verdict::Alive);
        assert_eq!(look(35, 3), Verdict::Alive);
        assert_eq!(look(55, 4), Verdict::Stalled("log write"));
    }

    #[test]
    fn work_that_moves_may_hold_apply_up_but_not_raft_and_not_for_ever() {
        let mut watchdog = Watchdog::new(LIMIT);
        watchdog.look(all(1), STEP);
        let mut look = |raft, long_work| {
            watchdog.look(
                Progress {
                    raft,
                    long_work,
                    ..all(1)
                },
                STEP,
            )
        };
        for step in 1..=30 {
            assert_eq!(look(step + 1, step), Verdict::Alive, "{step}");
        }
        assert_eq!(look(40, 31), Verdict::Stalled("apply"), "after ten minutes");
        let mut watchdog = Watchdog::new(LIMIT);
        watchdog.look(all(1), STEP);
        for (step, wanted) in [(1, Verdict::Alive), (2, Verdict::Stalled("raft"))] {
            let progress = Progress {
                long_work: step,
                ..all(1)
            };
            assert_eq!(watchdog.look(progress, STEP), wanted);
        }
    }
}
