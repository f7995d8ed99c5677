//! What an operator wants: a rollout's plan, and the release that it spreads.
//!
//! A plan never changes once it is made; what happens to it is [`super::Status`]. The release is
//! named by path *and* digest: a step opens for the very release that the step before ran, never
//! for another one of the same name.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{DeviceId, HardwareId, ProductName, TargetPath};
use ampoule_protocol::release::{FileRef, Release, Requirement};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::share::Share;
use super::statistics::Test;

/// Steps of one rollout.
pub const STEPS_MAX: usize = 32;
/// Approvals that may be asked for.
pub const APPROVALS_MAX: u32 = 8;
/// The greatest weight; each unit is one hash per device.
pub const WEIGHT_MAX: u8 = 16;
/// Offers of one rollout to one device.
pub const ATTEMPTS_MAX: u8 = 10;
/// The longest time in a plan: 400 days.
pub const SECS_MAX: u32 = 400 * 86_400;

/// The name of a rollout; made of what a device id may be made of.
pub type RolloutId = DeviceId;

/// A plan, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Its name.
    pub name: RolloutId,
    /// The release target.
    pub release: TargetPath,
    /// Its digest.
    pub sha256: Digest,
    /// What kind of campaign it is.
    #[serde(default)]
    pub kind: Kind,
    /// Releases that no rollout may offer any more, by digest; for recalls.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub recalls: BTreeSet<Digest>,
    /// Which devices.
    pub filter: Filter,
    /// Nothing is offered earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<UtcTime>,
    /// Nothing new is offered from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<UtcTime>,
    /// Of two rollouts for one device, the higher one.
    #[serde(default)]
    pub priority: i32,
    /// Of several with one priority, each gets devices in this proportion; 1 to [`WEIGHT_MAX`].
    #[serde(default = "one")]
    pub weight: u8,
    /// Who made the plan; nobody approves their own.
    pub author: String,
    /// Approvals that it needs before it runs.
    #[serde(default)]
    pub approvals: u32,
    /// What becomes of devices that were enrolled after the start.
    #[serde(default)]
    pub late: Late,
    /// Offers to one device; 1 means that whoever failed is not asked again.
    #[serde(default = "one")]
    pub attempts: u8,
    /// A device may begin (leave service) within this time from its offer; not later.
    #[serde(default = "week")]
    pub begin_within_secs: u32,
    /// Who took the offer and did not answer within this time has failed.
    #[serde(default = "two_weeks")]
    pub answer_within_secs: u32,
    /// From the smallest to the largest.
    #[serde(rename = "step")]
    pub steps: Vec<Step>,
    /// The sequential test over the whole rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
}

/// What a rollout is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// To something newer.
    #[default]
    Forward,
    /// To something below the floor of devices that hold a signed downgrade record; the device
    /// asks for that record, we only do not stand in the way.
    Downgrade,
    /// Away from the releases in `recalls`: only devices that run one of them are asked, and every
    /// rollout of one of them is halted.
    Recall,
}

/// Devices that come after the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// They take their place like all others.
    #[default]
    Join,
    /// They are not asked.
    Refuse,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StepWords", into = "StepWords")]
pub struct Step {
    /// How many devices.
    pub size: Size,
    /// How long it must have been good before the next one opens.
    pub bake_secs: u32,
    /// Of those offered so far, the share that must have committed before the bake time begins.
    pub success_min: Share,
    /// Failures, silence among them, that are borne; one more halts.
    pub failures_max: u32,
}

/// A step as it is written: `share` or `count`, and what the others default to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StepWords {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<Share>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    count: Option<u32>,
    #[serde(default)]
    bake_secs: u32,
    #[serde(default = "whole")]
    success_min: Share,
    #[serde(default)]
    failures_max: u32,
}

impl TryFrom<StepWords> for Step {
    type Error = &'static str;

    fn try_from(words: StepWords) -> Result<Self, Self::Error> {
        let size = match (words.share, words.count) {
            (Some(share), None) => Size::Share(share),
            (None, Some(count)) => Size::Count(count),
            _ => return Err("a step has either a share or a count"),
        };
        Ok(Self {
            size,
            bake_secs: words.bake_secs,
            success_min: words.success_min,
            failures_max: words.failures_max,
        })
    }
}

impl From<Step> for StepWords {
    fn from(step: Step) -> Self {
        let (share, count) = match step.size {
            Size::Share(share) => (Some(share), None),
            Size::Count(count) => (None, Some(count)),
        };
        Self {
            share,
            count,
            bake_secs: step.bake_secs,
            success_min: step.success_min,
            failures_max: step.failures_max,
        }
    }
}

/// The size of a step, counted from the beginning of the rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// Of all devices that the rollout is for; at least one.
    Share(Share),
    /// So many.
    Count(u32),
}

fn one() -> u8 {
    1
}
fn week() -> u32 {
    7 * 86_400
}
fn two_weeks() -> u32 {
    14 * 86_400
}
fn whole() -> Share {
    Share::WHOLE
}

/// A plan that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("plan, {place}: {what}")]
pub struct PlanError {
    /// Which member.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl PlanError {
    pub(super) fn new(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            what: what.into(),
        }
    }
}

impl Plan {
    /// Reads a plan in TOML.
    ///
    /// # Errors
    /// What cannot be read, with its place, and what cannot be followed.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        let plan: Self = toml::from_str(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            let mut what = error.message().replace('\n', " ");
            if what.contains("missing field `sha256`") {
                what.push_str(": the digest of the release target, which stands before its name in the published tree");
            }
            PlanError::new(format!("line {line}"), what)
        })?;
        plan.check()?;
        Ok(plan)
    }

    /// Whether it can be followed.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), PlanError> {
        let wrong = |place: &str, what: &str| Err(PlanError::new(place, what));
        if self.steps.is_empty() || self.steps.len() > STEPS_MAX {
            return wrong("step", "expected 1 to 32 steps");
        }
        for (number, pair) in (2..).zip(self.steps.windows(2)) {
            let grows = match (pair[0].size, pair[1].size) {
                (Size::Share(before), Size::Share(after)) => before < after,
                (Size::Count(before), Size::Count(after)) => before < after,
                (Size::Count(_), Size::Share(_)) => true,
                (Size::Share(_), Size::Count(_)) => false,
            };
            if !grows {
                let what = "it must be larger than the one before; counts come before shares";
                return Err(PlanError::new(format!("step {number}"), what));
            }
        }
        for (number, step) in (1..).zip(&self.steps) {
            if matches!(step.size, Size::Count(0)) || step.size == Size::Share(Share::default()) {
                return Err(PlanError::new(
                    format!("step {number}"),
                    "it has no devices",
                ));
            }
            if step.bake_secs > SECS_MAX {
                return Err(PlanError::new(
                    format!("step {number}"),
                    "it bakes for too long",
                ));
            }
        }
        if !(1..=WEIGHT_MAX).contains(&self.weight) {
            return wrong("weight", "expected 1 to 16");
        }
        if !(1..=ATTEMPTS_MAX).contains(&self.attempts) {
            return wrong("attempts", "expected 1 to 10");
        }
        if self.approvals > APPROVALS_MAX {
            return wrong("approvals", "expected 0 to 8");
        }
        let times = [self.begin_within_secs, self.answer_within_secs];
        if times.iter().any(|secs| !(1..=SECS_MAX).contains(secs)) {
            return wrong(
                "begin_within_secs, answer_within_secs",
                "expected 1 s to 400 days",
            );
        }
        if self.author.is_empty() || self.author.len() > 128 {
            return wrong("author", "expected a name of at most 128 bytes");
        }
        if (self.kind == Kind::Recall) == self.recalls.is_empty() {
            return wrong("recalls", "a recall names releases, and only a recall does");
        }
        if self.recalls.contains(&self.sha256) {
            return wrong("recalls", "it recalls the release that it offers");
        }
        self.test.as_ref().map_or(Ok(()), Test::check)
    }

    /// The digest of the plan: what an approval is bound to.
    pub fn digest(&self) -> Digest {
        Digest::of(&serde_json::to_vec(self).expect("a plan is plain data"))
    }
}

/// What the decision reads of a release; taken from the verified tree when the rollout is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseFacts {
    /// The release target, with length and digest.
    pub target: FileRef,
    /// The product.
    pub product: ProductName,
    /// The version.
    pub version: String,
    /// For machines.
    pub rollback_index: RollbackIndex,
    /// How long a device is out of service.
    pub downtime_secs: u32,
    /// Where it is cleared; empty excludes nowhere.
    pub regions: BTreeSet<String>,
    /// Its parts.
    pub components: Vec<ComponentFacts>,
}

/// What the decision reads of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentFacts {
    /// Its name.
    pub name: String,
    /// What it fits.
    pub hardware: BTreeSet<HardwareId>,
    /// The digest of its artifact.
    pub sha256: Digest,
    /// What must be there already.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requires: BTreeMap<String, Requirement>,
}

impl ReleaseFacts {
    /// Of a release and the target that carries it.
    pub fn of(target: FileRef, release: &Release) -> Self {
        let components = release.components.iter().map(|component| ComponentFacts {
            name: component.name.to_string(),
            hardware: component.hardware.iter().cloned().collect(),
            sha256: component.artifact.sha256,
            requires: component.requires.clone(),
        });
        Self {
            target,
            product: release.product.clone(),
            version: release.version.to_string(),
            rollback_index: release.rollback_index,
            downtime_secs: release.downtime_secs,
            regions: release.regions.iter().cloned().collect(),
            components: components.collect(),
        }
    }
}
