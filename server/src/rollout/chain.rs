//! Nobody takes two steps of one rollout's chain: whoever made the plan does not approve it, and
//! whoever made or approved it does not let it go on when it has stopped.
//!
//! Stopping is no step: everybody who may stop may do so whatever they did before.

use super::Rollout;

/// A step of the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Writing the plan.
    Make,
    /// Approving it.
    Approve,
    /// Letting it go on after a pause or a halt.
    Resume,
    /// Asking devices again that failed.
    Retry,
}

impl Step {
    /// What is done.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Approve => "approve",
            Self::Resume => "resume",
            Self::Retry => "retry",
        }
    }

    /// What was done.
    pub const fn done(self) -> &'static str {
        match self {
            Self::Make => "made",
            Self::Approve => "approved",
            Self::Resume => "resumed",
            Self::Retry => "retried",
        }
    }
}

/// The step that `who` has taken already and that excludes `wanted`.
pub fn taken_by(rollout: &Rollout, who: &str, wanted: Step) -> Option<Step> {
    let made = || rollout.plan.author == who;
    let approved = || rollout.status.approvals.contains_key(who);
    match wanted {
        Step::Make => None,
        Step::Approve => made().then_some(Step::Make),
        Step::Resume | Step::Retry if made() => Some(Step::Make),
        Step::Resume | Step::Retry => approved().then_some(Step::Approve),
    }
}
