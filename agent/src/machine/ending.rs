//! Committing and Reverting: the default changes, or stays.

use ampoule_protocol::time::UtcTime;

use super::starting::fell_back;
use super::{Action, Event, Facts, Outcome, Pending, Phase, Reverting, Running, Turn};

pub(super) fn committing(facts: &mut Facts, pending: Pending, event: Event, now: UtcTime) -> Turn {
    match event {
        Event::Started(views) => {
            let parts = &pending.plan.parts;
            let any_new_default = parts.iter().any(|part| {
                let view = views.get(&part.component);
                view.is_some_and(|view| view.default == part.slot)
            });
            match pending.plan.running(&views) {
                // Cut after the verdict and before any write, and the last boot was used up: the
                // old image runs, and the update is tried again another time.
                Running::Old | Running::Mixed if !any_new_default => fell_back(facts, pending, now),
                Running::New | Running::Old | Running::Mixed => {
                    (Phase::Committing(pending), vec![Action::Commit])
                }
            }
        }
        Event::Tick => (Phase::Committing(pending), vec![Action::Commit]),
        Event::Committed => {
            // Only now: a floor that rose before the commit would refuse the image that runs.
            facts.floor = facts.floor.max(pending.plan.rollback_index);
            facts.fallbacks.remove(&pending.plan.digest());
            facts.report(&pending, Outcome::Committed, None, now);
            (Phase::Idle, vec![Action::SendReports])
        }
        Event::Failed(fault) => {
            // The device runs the new image; the write is tried again with the next tick.
            facts.last_fault = Some(fault);
            (Phase::Committing(pending), Vec::new())
        }
        _ => (Phase::Committing(pending), Vec::new()),
    }
}

pub(super) fn reverting(
    facts: &mut Facts,
    reverting: Reverting,
    event: Event,
    now: UtcTime,
) -> Turn {
    match event {
        Event::Started(_) | Event::Tick => (Phase::Reverting(reverting), vec![Action::Disarm]),
        Event::Disarmed(views) => match reverting.pending.plan.running(&views) {
            Running::Old => {
                let Reverting {
                    pending,
                    fault,
                    outcome,
                } = reverting;
                facts.report(&pending, outcome, Some(fault), now);
                (Phase::Idle, vec![Action::SendReports])
            }
            Running::New | Running::Mixed => (Phase::Reverting(reverting), vec![Action::Restart]),
        },
        Event::Failed(fault) => {
            facts.last_fault = Some(fault);
            (Phase::Reverting(reverting), Vec::new())
        }
        _ => (Phase::Reverting(reverting), Vec::new()),
    }
}
