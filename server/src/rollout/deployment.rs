//! One device's share in a rollout.
//!
//! ```text
//!   offer -> Offered -> Committed
//!               |  \--> Failed     the device said so, or did not answer in time (silent)
//!               \-----> Withdrawn  halted, aborted, or never taken before its time ran out
//! ```
//!
//! An offer is also a *permit*: it names the time before which the device must have begun, so
//! that the server knows, without hearing of it, from when on the device cannot be out of service
//! because of it. That time is in the signed metadata, and in the store before it is signed.

use std::sync::Arc;

use ampoule_protocol::name::HardwareId;
use serde::{Deserialize, Serialize};

use super::plan::{Plan, ReleaseFacts};

/// Beside the release's own downtime, for boots, trials and one fall back.
pub const RETURN_SECS: i64 = 3600;

/// See the module's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Where it stands.
    pub phase: Phase,
    /// The hardware that the device reported before the offer; the offer is for no other.
    #[serde(with = "shared")]
    pub hardware: Arc<HardwareId>,
    /// Offers so far, from 1.
    pub attempt: u8,
    /// Attempts that failed.
    #[serde(default)]
    pub failures: u8,
    /// Failures that were silence.
    #[serde(default)]
    pub silent: u8,
    /// Unix time of the offer.
    pub offered_at: i64,
    /// Unix time from which on the device may not begin.
    pub begin_before: i64,
    /// Unix time from which on it holds no permit, whatever became of it.
    pub lease_until: i64,
    /// Unix time at which the device was seen to have the offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<i64>,
    /// Unix time of the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<i64>,
    /// The device's code for what went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Where a deployment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The director names the release to the device.
    Offered,
    /// It runs there.
    Committed,
    /// It does not.
    Failed,
    /// The offer was taken back.
    Withdrawn,
}

impl Deployment {
    /// Unix time at which it last changed what the director says.
    pub fn changed_at(&self) -> i64 {
        self.settled_at
            .unwrap_or(self.offered_at)
            .max(self.offered_at)
    }

    /// A new offer to a device of this hardware; `before` is what became of earlier ones.
    pub fn offer(
        (plan, release): (&Plan, &ReleaseFacts),
        hardware: &HardwareId,
        before: Option<&Self>,
        now: i64,
    ) -> Self {
        let begin_before = now.saturating_add(plan.begin_within_secs.into());
        let away = i64::from(release.downtime_secs).saturating_add(RETURN_SECS);
        Self {
            phase: Phase::Offered,
            hardware: Arc::new(hardware.clone()),
            attempt: before.map_or(1, Self::next_attempt),
            failures: before.map_or(0, |before| before.failures),
            silent: before.map_or(0, |before| before.silent),
            offered_at: now,
            begin_before,
            lease_until: begin_before.saturating_add(away),
            taken_at: None,
            settled_at: None,
            code: None,
        }
    }

    /// An offer that was taken back was no attempt.
    fn next_attempt(&self) -> u8 {
        match self.phase {
            Phase::Failed => self.attempt.saturating_add(1),
            Phase::Offered | Phase::Committed | Phase::Withdrawn => self.attempt,
        }
    }

    /// Whether the device may be offered the release once more.
    pub fn may_repeat(&self, plan: &Plan, now: i64) -> bool {
        match self.phase {
            Phase::Offered | Phase::Committed => false,
            Phase::Withdrawn => true,
            Phase::Failed => self.attempt < plan.attempts && !self.holds_permit(now),
        }
    }

    /// Whether the device may be out of service because of it.
    pub fn holds_permit(&self, now: i64) -> bool {
        match self.phase {
            Phase::Offered => now < self.lease_until,
            // It may have begun before it heard.
            Phase::Withdrawn => self.taken_at.is_some() && now < self.lease_until,
            // A device that fell silent may lie there half updated.
            Phase::Failed => self.silent > 0 && self.code.is_none() && now < self.lease_until,
            Phase::Committed => false,
        }
    }

    /// Whether it took the offer, said nothing, and should have by now.
    pub fn is_silent(&self, plan: &Plan, now: i64) -> bool {
        let patience = i64::from(plan.answer_within_secs);
        let waited = |since: i64| now >= since.saturating_add(patience);
        self.phase == Phase::Offered && self.taken_at.is_some_and(waited)
    }

    /// Whether nobody ever took it and nobody may any more.
    pub fn is_unclaimed(&self, now: i64) -> bool {
        self.phase == Phase::Offered && self.taken_at.is_none() && now >= self.begin_before
    }

    /// Whether its last offer ended because nobody took it in time.
    pub fn was_unclaimed(&self) -> bool {
        let in_vain = |settled_at| settled_at >= self.begin_before;
        self.phase == Phase::Withdrawn
            && self.taken_at.is_none()
            && self.settled_at.is_some_and(in_vain)
    }

    /// Settled as good.
    pub fn committed(&self, now: i64) -> Self {
        Self {
            phase: Phase::Committed,
            settled_at: Some(now),
            ..self.clone()
        }
    }

    /// Settled as bad; no code means silence.
    pub fn failed(&self, code: Option<&str>, now: i64) -> Self {
        Self {
            phase: Phase::Failed,
            failures: self.failures.saturating_add(1),
            silent: self.silent.saturating_add(code.is_none().into()),
            settled_at: Some(now),
            code: code.map(str::to_owned),
            ..self.clone()
        }
    }

    /// Taken back.
    pub fn withdrawn(&self, now: i64) -> Self {
        Self {
            phase: Phase::Withdrawn,
            settled_at: Some(now),
            ..self.clone()
        }
    }
}

/// What many rows have in common, by itself in each row's text.
mod shared {
    use std::sync::Arc;

    use ampoule_protocol::name::HardwareId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(
        hardware: &Arc<HardwareId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        hardware.as_ref().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<HardwareId>, D::Error> {
        HardwareId::deserialize(deserializer).map(Arc::new)
    }
}
