//! Waiting: the update stands ready, and the device is asked until it may be interrupted.
//!
//! Nothing is armed here, so a device that restarts meanwhile comes up as it was. Gates that close
//! after arming, at the point of no return, take the arming back before this phase is entered
//! again: see [`super::starting`].
//!
//! A wait may last for days, so the repository is looked at meanwhile: an update that it does not
//! offer any longer is not begun, and another one takes its place.

use ampoule_protocol::time::UtcTime;

use super::{Action, Arming, Event, Facts, Pending, Phase, Running, Turn, looking, starting};

pub(super) fn waiting(facts: &mut Facts, pending: Pending, event: Event, now: UtcTime) -> Turn {
    match event {
        // The journal lost its last step, and the new image runs already.
        Event::Started(views) if pending.plan.running(&views) == Running::New => {
            starting::on_trial(pending, &views)
        }
        // The proof went with the process.
        Event::Started(_) => (Phase::Verifying(pending), vec![Action::Verify]),
        Event::Tick => (Phase::Waiting(pending), vec![Action::AskGates]),
        Event::GatesOpen => {
            let arming = Arming {
                pending,
                armed: false,
            };
            (Phase::Arming(arming), vec![Action::Arm])
        }
        Event::CheckDue => {
            facts.inventory_seq += 1;
            (Phase::Waiting(pending), vec![Action::Check])
        }
        Event::Offered(plan) if plan.identity() == pending.plan.identity() => {
            looking::succeeded(facts);
            (Phase::Waiting(pending), Vec::new())
        }
        Event::Offered(_) | Event::NothingNew(_) => looking::checking(facts, event, now),
        // A check that failed says nothing of what waits.
        Event::Failed(_) => {
            let (_, actions) = looking::checking(facts, event, now);
            (Phase::Waiting(pending), actions)
        }
        _ => (Phase::Waiting(pending), Vec::new()),
    }
}
