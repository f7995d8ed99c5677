//! The life of an update, pure: `step(state, event, now)` gives the next state and what to do.
//!
//! ```text
//!  Idle ─► Checking ─► Filling ─► Verifying ─► Staged ─► Waiting ─► Arming ─► Trial ─► Committing ─► Idle
//!             │           │           │           │          ▲         │  │       │          │
//!             ▼           ▼           ▼           ▼          └─(gates)─┘  ▼       ▼          ▼
//!            Idle        Idle      ───┴───────────┴──────────────────► Reverting ──────────► Idle
//! ```
//!
//! The driver's contract: after each step the state is made durable *before* any of its actions is
//! performed; an action's result comes back as an event. After a restart the first event is
//! [`Event::Started`], and every action that may have been under way is given again: each may be
//! replayed.
//!
//! Invariants:
//! - The floor rises in the one transition that ends a commit. There it falls, too, where the
//!   update was asked for by a signed downgrade record with a higher serial than any that was used;
//!   the serial is noted in the same write. Nothing else lowers it.
//! - A slot is filled only while it is neither running nor armed; its record is gone before the
//!   first byte is written.
//! - Only what was verified since this process started is armed: proofs are not stored, so a
//!   restart leads back to Verifying.
//! - A bad verdict refuses an update for ever; falling back without one is counted, and then rests it.
//! - Whatever fails, the machine comes to rest in Idle.
//!
//! A file per state family: `looking` (Idle, Checking), `filling` (Filling, Verifying, Staged),
//! `waiting` (Waiting), `starting` (Arming, Trial), `activating` (Activating, between the two where
//! something is done before or without a restart), `ending` (Committing, Reverting). `track` is how
//! far update modules have come.

mod activating;
mod ending;
mod filling;
mod generations;
mod looking;
mod plan;
mod starting;
mod state;
#[cfg(test)]
mod tests;
mod track;
mod waiting;

use std::collections::BTreeMap;

pub use ampoule_protocol::device::{Check, Outcome, Via};
use ampoule_protocol::device::{REPORT_LIST_MAX, REPORT_TEXT_MAX};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::ComponentName;
use ampoule_protocol::time::UtcTime;

pub use activating::LIVE_STARTS_MAX;
pub use generations::{Generation, Generations, TrialGeneration};
pub use plan::{Notice, Part, Plan, Whole};
pub use state::{
    Activating, Answers, Arming, BootView, CodedError, Facts, Fault, Filling, Health, Installed,
    Mark, Method, Party, PassedOver, Pending, Phase, Refused, Report, Reverting, Slot, State,
};

/// Network faults without progress after which a fill is given up until the next check.
pub const FILL_TRIES_MAX: u32 = 20;
/// Fills from the beginning: one delta, one full, one more after a bad read-back.
pub const FILLS_MAX: u32 = 3;
/// Failed patches that are remembered: a journal stays short.
const BAD_PATCHES_MAX: usize = 8;
/// Trials of one update that may fall back without a verdict (power cuts look the same).
pub const FALLBACKS_MAX: u32 = 3;
/// For how long an update rests that fell back so often. Not for ever: it may have been the power,
/// and a good image must not be lost to it; not at once: a device must not restart all day.
pub const FALLBACK_REST_SECS: i64 = 86_400;
/// Refused updates that are remembered; the oldest go.
pub const REFUSED_MAX: usize = 64;
/// Releases passed over that are remembered for people, newest first.
pub const PASSED_MAX: usize = 16;
/// Reports kept for a server that does not answer; the oldest go.
pub const OUTBOX_MAX: usize = 64;

pub use track::{Reboot, Stage, Track};

/// What the boot loader says of every component.
pub type BootViews = BTreeMap<ComponentName, BootView>;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The process started; this is what the boot loader says.
    Started(BootViews),
    /// Time to look for an update.
    CheckDue,
    /// Time to try again what waits.
    Tick,
    /// There is an update.
    Offered(Box<Plan>),
    /// There is none. The images are those that were recognised in running slots.
    NothingNew(Vec<(ComponentName, Slot, Installed)>),
    /// More of the slot is durable.
    Progress {
        /// What of the slot is durable.
        mark: Mark,
        /// Bytes that came over the wire since the last event.
        fetched: u64,
    },
    /// The whole part is durable.
    Filled {
        /// Bytes that came over the wire since the last event.
        fetched: u64,
    },
    /// All slots were read back and are what was signed.
    Verified,
    /// Trees are unpacked.
    Prepared,
    /// Every gate says yes.
    GatesOpen,
    /// These say no.
    GatesClosed(Vec<String>),
    /// The director took its offer back before the device left service.
    Withdrawn(Fault),
    /// All slots are armed.
    Armed,
    /// Modules have installed, and what is live is visible.
    Activated {
        /// Whether the device has to restart for the rest.
        restart: bool,
    },
    /// A module came so far.
    Tracked(ComponentName, Track),
    /// A recovery image found these slots without the image that was known in them.
    Lost(Vec<(ComponentName, Slot)>, Fault),
    /// Which state belongs to which version.
    StateOf(Generations),
    /// All modules that were under way have had their `Cleanup`.
    CleanedUp,
    /// A verdict on the trial.
    Verdict(Health),
    /// All new slots are the default.
    Committed,
    /// All armings are taken back, and this is what the boot loader says.
    Disarmed(BootViews),
    /// The action under way failed.
    Failed(Fault),
    /// The server has these reports.
    Acknowledged(Vec<u64>),
    /// The last look passed these releases over.
    PassedOver(Vec<PassedOver>),
    /// These gates were asked about the update under way.
    GatesAnswered(Vec<Check>),
    /// These health commands were run in its trial, which must stay good for so many seconds.
    HealthAnswered(Vec<Check>, u64),
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Refresh the metadata and look for a release.
    Check,
    /// Fill the part that the phase names.
    Fill,
    /// Read the slots back.
    Verify,
    /// Unpack trees.
    Prepare,
    /// Ask the gates.
    AskGates,
    /// Arm the slots.
    Arm,
    /// Let modules install, and make visible what needs no restart.
    Activate,
    /// Restart the device.
    Restart,
    /// Ask for a verdict.
    AskHealth,
    /// Make the new slots the default.
    Commit,
    /// Take the armings back, and let modules roll back.
    Disarm,
    /// Give every module that was under way its `Cleanup`.
    Cleanup,
    /// Send what is in the outbox.
    SendReports,
}

/// A step's outcome: the state to journal, then the actions to perform.
pub type Next = (State, Vec<Action>);

/// One step. An event that does not belong to the phase changes nothing.
pub fn step(mut state: State, event: Event, now: UtcTime) -> Next {
    if let Event::Lost(slots, fault) = event {
        state.facts.lose(&slots, fault, now);
        return (state, Vec::new());
    }
    let Some(event) = note(&mut state, event) else {
        return (state, Vec::new());
    };
    let State { mut facts, phase } = state;
    if let Event::Withdrawn(fault) = event {
        let (phase, actions) = withdrawn(phase, fault);
        return (State { facts, phase }, actions);
    }
    let (phase, actions) = match phase {
        Phase::Idle => looking::idle(&mut facts, &event),
        Phase::Checking => looking::checking(&mut facts, event, now),
        Phase::Filling(filling) => filling::filling(&mut facts, filling, event),
        Phase::Verifying(pending) => filling::verifying(&mut facts, pending, event),
        Phase::Staged(pending) => filling::staged(&mut facts, pending, event),
        Phase::Waiting(pending) => waiting::waiting(&mut facts, pending, event, now),
        Phase::Arming(arming) => starting::arming(&mut facts, arming, event, now),
        Phase::Activating(it) => activating::activating(&mut facts, it, event, now),
        Phase::Trial(pending) => starting::trial(&mut facts, pending, event, now),
        Phase::Committing(pending) => ending::committing(&mut facts, pending, event, now),
        Phase::Reverting(reverting) => ending::reverting(&mut facts, reverting, event, now),
    };
    let actions = with_cleanup(&facts, &phase, actions);
    (State { facts, phase }, actions)
}

/// A module is owed its `Cleanup` once its update is over, or is begun anew.
fn with_cleanup(facts: &Facts, phase: &Phase, mut actions: Vec<Action>) -> Vec<Action> {
    let is_over = matches!(phase, Phase::Idle | Phase::Filling(_) | Phase::Verifying(_));
    if is_over && !facts.modules.is_empty() {
        actions.insert(0, Action::Cleanup);
    }
    actions
}

/// Takes the events that are told in any phase, and change no course.
fn note(state: &mut State, event: Event) -> Option<Event> {
    match event {
        Event::Acknowledged(seqs) => {
            let outbox = &mut state.facts.outbox;
            outbox.retain(|report| !seqs.contains(&report.seq));
        }
        Event::PassedOver(mut passed) => {
            passed.truncate(PASSED_MAX);
            state.facts.passed = passed;
        }
        Event::Tracked(component, track) => {
            state.facts.modules.insert(component, track);
        }
        Event::StateOf(known) => state.facts.generations = Some(known),
        Event::CleanedUp => state.facts.modules.clear(),
        Event::GatesAnswered(checks) => {
            if let Some(pending) = state.phase.pending_mut() {
                pending.answers.gates = bounded(checks);
            }
        }
        Event::HealthAnswered(checks, bake_secs) => {
            if let Some(pending) = state.phase.pending_mut() {
                pending.answers.health = bounded(checks);
                pending.answers.bake_secs = bake_secs;
            }
        }
        other => return Some(other),
    }
    None
}

/// What a receipt takes, and the journal with it.
fn bounded(mut checks: Vec<Check>) -> Vec<Check> {
    checks.truncate(REPORT_LIST_MAX);
    for text in checks
        .iter_mut()
        .flat_map(|check| [&mut check.name, &mut check.detail])
    {
        text.truncate(text.floor_char_boundary(REPORT_TEXT_MAX));
    }
    checks
}

/// An update whose offer was taken back ends where it has not begun; later it goes on to its
/// verdict, since a device is not left in between.
fn withdrawn(phase: Phase, fault: Fault) -> Turn {
    match phase {
        Phase::Waiting(pending) | Phase::Arming(Arming { pending, .. }) => {
            give_up(pending, Outcome::Refused, fault)
        }
        phase => (phase, Vec::new()),
    }
}

/// A phase and what to do in it.
type Turn = (Phase, Vec<Action>);

/// Which image a device came up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    /// Every part of the update.
    New,
    /// What was there before.
    Old,
    /// Some of both.
    Mixed,
    /// No boot settings say so: all parts are of modules.
    Unbooted,
}

impl Plan {
    fn running(&self, views: &BootViews) -> Running {
        let is_new = |part: &Part| {
            let view = views.get(&part.component);
            view.is_some_and(|view| view.running == part.slot)
        };
        let new = self.booted().filter(|part| is_new(part)).count();
        match (new, self.booted().count()) {
            (_, 0) => Running::Unbooted,
            (0, _) => Running::Old,
            (new, all) if new == all => Running::New,
            _ => Running::Mixed,
        }
    }

    /// The attempts that the loader has left.
    fn attempts_left(&self, views: &BootViews) -> Option<u32> {
        let armed = |part: &Part| views.get(&part.component)?.armed.map(|(_, left)| left);
        self.booted().find_map(armed)
    }

    /// Whether the loader tried the update for all its boots and went back.
    fn is_exhausted(&self, views: &BootViews) -> bool {
        self.booted().any(|part| {
            let view = views.get(&part.component);
            view.is_some_and(|view| view.armed == Some((part.slot, 0)) && view.running != part.slot)
        })
    }
}

impl Facts {
    /// Whether an update is not to be tried.
    pub fn refuses(&self, plan: &Plan, now: UtcTime) -> Option<&str> {
        let may_fall = plan
            .downgrade
            .is_some_and(|serial| serial > self.downgrades);
        if plan.rollback_index < self.floor && !may_fall {
            return Some("rollback-index");
        }
        let digest = plan.digest();
        let refused = self.refused.iter().find(|refused| {
            refused.digest == digest && refused.until.is_none_or(|until| now < until)
        });
        refused.map(|refused| refused.code.as_str())
    }

    /// Whether a patch failed before and is not to be fetched again.
    pub fn forgoes_patch(&self, patch: &Digest) -> bool {
        self.bad_patches.contains(patch)
    }

    fn forgo_patch(&mut self, pending: &Pending, part: usize) {
        let delta = pending
            .plan
            .parts
            .get(part)
            .and_then(|part| part.delta.as_ref());
        if let Some(delta) = delta {
            self.bad_patches.push(delta.file.sha256);
            let surplus = self.bad_patches.len().saturating_sub(BAD_PATCHES_MAX);
            self.bad_patches.drain(..surplus);
        }
    }

    fn refuse(&mut self, plan: &Plan, code: &str, until: Option<UtcTime>) {
        let digest = plan.digest();
        self.refused.retain(|refused| refused.digest != digest);
        self.refused.push(Refused {
            digest,
            version: plan.version.clone(),
            code: code.to_owned(),
            until,
        });
        let excess = self.refused.len().saturating_sub(REFUSED_MAX);
        self.refused.drain(..excess);
    }

    fn report(&mut self, pending: &Pending, outcome: Outcome, fault: Option<Fault>, now: UtcTime) {
        let plan = &pending.plan;
        let before = |part: &Part| (part.component.clone(), part.before.clone());
        let offered = |part: &Part| (part.component.clone(), Some(part.installed(plan)));
        let before: Vec<_> = plan.parts.iter().map(before).collect();
        let spoilt = self.forget_spoilt();
        let mut after = match outcome {
            Outcome::Committed => plan.parts.iter().map(offered).collect(),
            Outcome::Reverted | Outcome::Refused | Outcome::Failed => before.clone(),
        };
        for (component, image) in &mut after {
            if spoilt.contains(component) {
                *image = None;
            }
        }
        self.last_fault.clone_from(&fault);
        self.queue(Report {
            seq: 0,
            outcome,
            version: Some(plan.version.clone()),
            before,
            after,
            floor: self.floor,
            via: pending.via,
            fault,
            started: pending.since,
            ended: now,
            fetched: pending.fetched,
            boots: pending.boots,
            answers: pending.answers.clone(),
        });
    }

    /// A check that was refused before there was an update: told once, not at every poll.
    fn report_refusal(&mut self, fault: &Fault, now: UtcTime) {
        if self
            .last_fault
            .as_ref()
            .is_some_and(|last| last.code == fault.code)
        {
            return;
        }
        self.queue(Report {
            seq: 0,
            outcome: Outcome::Refused,
            version: None,
            before: Vec::new(),
            after: Vec::new(),
            floor: self.floor,
            via: None,
            fault: Some(fault.clone()),
            started: now,
            ended: now,
            fetched: 0,
            boots: 0,
            answers: Answers::default(),
        });
    }

    /// Images that are not where they were: they are nobody's base any more, and people are told.
    fn lose(&mut self, slots: &[(ComponentName, Slot)], fault: Fault, now: UtcTime) {
        for (component, slot) in slots {
            if let Some(known) = self.slots.get_mut(component) {
                known.remove(slot);
            }
        }
        self.last_fault = None;
        self.report_refusal(&fault, now);
        if let Some(report) = self.outbox.last_mut() {
            report.outcome = Outcome::Failed;
        }
        self.last_fault = Some(fault);
    }

    fn queue(&mut self, mut report: Report) {
        self.report_seq += 1;
        report.seq = self.report_seq;
        self.outbox.push(report);
        let excess = self.outbox.len().saturating_sub(OUTBOX_MAX);
        self.outbox.drain(..excess);
    }
}

/// Gives an update up that may have armed something: the way back is always the same.
fn give_up(pending: Pending, outcome: Outcome, fault: Fault) -> Turn {
    let reverting = Reverting {
        pending,
        fault,
        outcome,
    };
    (Phase::Reverting(reverting), vec![Action::Disarm])
}
