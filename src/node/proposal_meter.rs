//! A proposal as its caller sees it: how long it waited, and whether it came to an answer.

use std::time::Instant;

use super::NodeError;
use crate::metrics::{self, Request};

/// Counts a proposal as pending while it lives, and its time and outcome when it ends. One that is dropped
/// before that has failed: its client has gone.
pub(super) struct ProposalMeter {
    request: Request,
    began: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    /// An answer, be it a refusal.
    Answered,
    /// Refused without having been proposed.
    Refused,
    /// None, or none in time.
    Failed,
    /// Turned away at the door, which etcd does not count.
    TurnedAway,
}

impl ProposalMeter {
    pub(super) fn begin(request: Request, began: Instant) -> Self {
        metrics::global().proposals_pending.add(1);
        Self {
            request,
            began,
            outcome: Outcome::Failed,
        }
    }

    pub(super) fn end<T>(mut self, result: &Result<T, NodeError>) {
        self.judge(result);
    }

    fn judge<T>(&mut self, result: &Result<T, NodeError>) {
        self.outcome = match result {
            Ok(_) | Err(NodeError::Apply(_)) => Outcome::Answered,
            Err(NodeError::RequestTooLarge | NodeError::Stopped) => Outcome::Refused,
            Err(NodeError::TooManyRequests) => Outcome::TurnedAway,
            Err(_) => Outcome::Failed,
        };
    }
}

impl Drop for ProposalMeter {
    fn drop(&mut self) {
        let metrics = metrics::global();
        metrics.proposals_pending.add(-1);
        if self.outcome == Outcome::Failed {
            metrics.proposals_failed.inc();
        }
        if self.outcome != Outcome::TurnedAway {
            let success = self.outcome == Outcome::Answered;
            let seconds = self.began.elapsed().as_secs_f64();
            metrics.request.observe(self.request, success, seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ApplyError;

    #[test]
    fn outcomes_are_told_apart() {
        let meter = || ProposalMeter::begin(Request::DowngradeVersionTest, Instant::now());
        let outcome = |result: Result<(), NodeError>| {
            let mut meter = meter();
            meter.judge(&result);
            meter.outcome
        };
        assert!(outcome(Ok(())) == Outcome::Answered);
        assert!(outcome(Err(ApplyError::NoSpace.into())) == Outcome::Answered);
        assert!(outcome(Err(NodeError::RequestTooLarge)) == Outcome::Refused);
        assert!(outcome(Err(NodeError::TooManyRequests)) == Outcome::TurnedAway);
        assert!(outcome(Err(NodeError::Timeout)) == Outcome::Failed);
        assert!(outcome(Err(NodeError::LeaderChanged)) == Outcome::Failed);
        let failed = metrics::global().proposals_failed.get();
        drop(meter());
        assert!(metrics::global().proposals_failed.get() > failed);
    }
}
