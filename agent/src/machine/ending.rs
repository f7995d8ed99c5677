//! Committing and Reverting: the default changes, or stays.

use ampoule_protocol::time::UtcTime;

use super::starting::fell_back;
use super::{
    Action, Event, Facts, Health, Outcome, Pending, Phase, Reverting, Running, Turn, give_up,
};

pub(super) fn committing(facts: &mut Facts, pending: Pending, event: Event, now: UtcTime) -> Turn {
    match event {
        // A cut while a module committed: nobody knows how far it came.
        Event::Started(_) if facts.is_interrupted(&pending.plan) => fell_back(facts, pending, now),
        Event::Started(views) => {
            let any_new_default = pending.plan.booted().any(|part| {
                let view = views.get(&part.component);
                view.is_some_and(|view| view.default == part.slot)
            });
            match pending.plan.running(&views) {
                // Cut after the verdict and before any write, and the last boot was used up: the
                // old image runs, and the update is tried again another time.
                Running::Old | Running::Mixed if !any_new_default => fell_back(facts, pending, now),
                Running::New | Running::Old | Running::Mixed | Running::Unbooted => {
                    (Phase::Committing(pending), vec![Action::Commit])
                }
            }
        }
        Event::Tick => (Phase::Committing(pending), vec![Action::Commit]),
        Event::Committed => {
            // Only now: a floor that rose before the commit would refuse the image that runs.
            facts.move_floor(&pending.plan);
            if let Some(known) = &mut facts.generations {
                known.commit();
            }
            facts.fallbacks.remove(&pending.plan.digest());
            facts.report(&pending, Outcome::Committed, None, now);
            (Phase::Idle, vec![Action::SendReports])
        }
        // A module does not commit, and nothing is the default yet: all go back.
        Event::Verdict(Health::Bad(fault)) => {
            facts.refuse(&pending.plan, &fault.code, None);
            give_up(pending, Outcome::Reverted, fault)
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
        Event::Started(_) => {
            facts.restarted();
            (Phase::Reverting(reverting), vec![Action::Disarm])
        }
        // A module's way back leads through a restart.
        Event::Tick | Event::Disarmed(_) if facts.awaits_restart() => {
            (Phase::Reverting(reverting), vec![Action::Restart])
        }
        Event::Tick => (Phase::Reverting(reverting), vec![Action::Disarm]),
        Event::Disarmed(views) => match reverting.pending.plan.running(&views) {
            Running::Old | Running::Unbooted => {
                let Reverting {
                    pending,
                    fault,
                    outcome,
                } = reverting;
                if let Some(known) = &mut facts.generations {
                    known.trial = None;
                }
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
