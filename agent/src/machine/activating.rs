//! Activating: what is done before a restart, or without one.
//!
//! Update modules install here, and files and trees that need no restart become visible. The gates
//! were asked twice by then, and are not asked again: what was begun is brought to its end or
//! taken back. A cut between two modules, or within one, takes all of them back and is no verdict;
//! after the last it goes on to the trial.

use ampoule_protocol::time::UtcTime;

use super::starting::{count_fallback, fell_back, on_trial};
use super::track::Installing;
use super::{
    Action, Activating, Arming, BootViews, Event, Facts, Outcome, Pending, Phase, Running, Turn,
    give_up,
};

/// Starts of the agent in one trial that no boot loader counts. A device that an update lets
/// restart again and again goes back after these.
pub const LIVE_STARTS_MAX: u32 = 10;

pub(super) fn begin(pending: Pending) -> Turn {
    let activating = Activating {
        pending,
        restart_due: false,
    };
    (Phase::Activating(activating), vec![Action::Activate])
}

pub(super) fn activating(
    facts: &mut Facts,
    activating: Activating,
    event: Event,
    now: UtcTime,
) -> Turn {
    match event {
        Event::Started(views) => started(facts, activating, &views, now),
        Event::Activated { restart: true } => {
            let due = Activating {
                restart_due: true,
                ..activating
            };
            (Phase::Activating(due), vec![Action::Restart])
        }
        Event::Activated { restart: false } => again(facts, activating.pending, now),
        Event::Tick if activating.restart_due => {
            (Phase::Activating(activating), vec![Action::Restart])
        }
        Event::Tick => (Phase::Activating(activating), vec![Action::Activate]),
        // It may be the disk or the hour: counted like a fall-back, and rested after some.
        Event::Failed(fault) => {
            count_fallback(facts, &activating.pending, now);
            give_up(activating.pending, Outcome::Failed, fault)
        }
        _ => (Phase::Activating(activating), Vec::new()),
    }
}

fn started(facts: &mut Facts, activating: Activating, views: &BootViews, now: UtcTime) -> Turn {
    let plan = &activating.pending.plan;
    let running = plan.running(views);
    // A reboot that a module began itself ends the activation wherever it was.
    let is_through = activating.restart_due || facts.has_rebooted(plan);
    match (facts.installing(plan), running) {
        (_, Running::Old) if plan.is_exhausted(views) => fell_back(facts, activating.pending, now),
        // Nothing was done yet: as if the gates had closed after the arming.
        (Some(Installing::Untouched), Running::Old | Running::Unbooted) | (None, Running::Old) => {
            let arming = Arming {
                pending: activating.pending,
                armed: false,
            };
            (Phase::Arming(arming), vec![Action::Disarm])
        }
        (Some(Installing::Whole), Running::New | Running::Unbooted) if is_through => {
            on_trial(activating.pending, views)
        }
        // The agent started again, the device has not yet.
        (Some(Installing::Whole), Running::Old) if activating.restart_due => {
            (Phase::Activating(activating), vec![Action::Restart])
        }
        // Visible already, and whoever has to hear of it may not have.
        (None, Running::New | Running::Unbooted) => {
            (Phase::Activating(activating), vec![Action::Activate])
        }
        (
            Some(Installing::Untouched | Installing::Partly | Installing::Whole),
            Running::Old | Running::New | Running::Unbooted,
        )
        | (None | Some(_), Running::Mixed) => fell_back(facts, activating.pending, now),
    }
}

/// On trial, where no boot loader counts.
pub(super) fn again(facts: &mut Facts, mut pending: Pending, now: UtcTime) -> Turn {
    if pending.boots >= LIVE_STARTS_MAX {
        return fell_back(facts, pending, now);
    }
    pending.boots += 1;
    (Phase::Trial(pending), vec![Action::AskHealth])
}
