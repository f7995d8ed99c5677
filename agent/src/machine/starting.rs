//! Arming and Trial: the device is asked for the last time, restarted and watched.

use ampoule_protocol::time::UtcTime;

use super::track::Installing;
use super::{
    Action, Arming, BootViews, Event, FALLBACK_REST_SECS, FALLBACKS_MAX, Facts, Fault, Health,
    Outcome, Pending, Phase, Running, Turn, activating, give_up,
};

pub(super) fn arming(facts: &mut Facts, arming: Arming, event: Event, now: UtcTime) -> Turn {
    let Arming { pending, armed } = arming;
    match event {
        Event::Started(views) => arming_started(facts, pending, &views, now),
        Event::Armed => {
            // The point of no return: the gates are asked once more.
            let arming = Arming {
                pending,
                armed: true,
            };
            (Phase::Arming(arming), vec![Action::AskGates])
        }
        Event::Tick if armed => {
            let arming = Arming { pending, armed };
            (Phase::Arming(arming), vec![Action::AskGates])
        }
        Event::GatesOpen if armed && pending.plan.is_activated() => activating::begin(pending),
        Event::GatesOpen if armed => {
            let arming = Arming { pending, armed };
            (Phase::Arming(arming), vec![Action::Restart])
        }
        // Not to Waiting before the arming is taken back: a device that restarts by itself while
        // a gate is closed must come up as it was.
        Event::GatesClosed(_) => {
            let arming = Arming { pending, armed };
            (Phase::Arming(arming), vec![Action::Disarm])
        }
        Event::Disarmed(_) if armed => (Phase::Waiting(pending), Vec::new()),
        // After a cut: the proof is gone too.
        Event::Disarmed(_) => (Phase::Verifying(pending), vec![Action::Verify]),
        Event::Failed(fault) => give_up(pending, Outcome::Failed, fault),
        _ => (Phase::Arming(Arming { pending, armed }), Vec::new()),
    }
}

fn arming_started(facts: &mut Facts, pending: Pending, views: &BootViews, now: UtcTime) -> Turn {
    let installing = facts.installing(&pending.plan);
    match pending.plan.running(views) {
        // A cut after the arming: the slots came up, and the modules beside them were never let
        // loose.
        Running::New if installing.is_some_and(|it| it != Installing::Whole) => {
            fell_back(facts, pending, now)
        }
        Running::New => on_trial(pending, views),
        Running::Old if pending.plan.is_exhausted(views) => fell_back(facts, pending, now),
        // A cut between arming and restart: nothing stays armed that no gate was asked for.
        Running::Old if pending.plan.attempts_left(views).is_some() => {
            let arming = Arming {
                pending,
                armed: false,
            };
            (Phase::Arming(arming), vec![Action::Disarm])
        }
        // A cut before the arming, or modules alone: the proof is gone.
        Running::Old | Running::Unbooted => (Phase::Verifying(pending), vec![Action::Verify]),
        Running::Mixed => fell_back(facts, pending, now),
    }
}

/// The new image runs. A boot is told from a mere restart of the agent by the loader's count.
pub(super) fn on_trial(mut pending: Pending, views: &BootViews) -> Turn {
    let left = pending.plan.attempts_left(views);
    if pending.boots == 0 || left != pending.attempts_left {
        pending.boots += 1;
        pending.attempts_left = left;
    }
    (Phase::Trial(pending), vec![Action::AskHealth])
}

pub(super) fn trial(facts: &mut Facts, pending: Pending, event: Event, now: UtcTime) -> Turn {
    match event {
        // A cut while a module looked at its reboot: nobody knows what it saw.
        Event::Started(_) if facts.is_interrupted(&pending.plan) => fell_back(facts, pending, now),
        Event::Started(views) => match pending.plan.running(&views) {
            Running::New if !pending.plan.is_live() => on_trial(pending, &views),
            Running::New | Running::Unbooted => activating::again(facts, pending, now),
            Running::Old | Running::Mixed => fell_back(facts, pending, now),
        },
        Event::Tick => (Phase::Trial(pending), vec![Action::AskHealth]),
        Event::Verdict(Health::Good) => (Phase::Committing(pending), vec![Action::Commit]),
        Event::Verdict(Health::Bad(fault)) => {
            facts.refuse(&pending.plan, &fault.code, None);
            give_up(pending, Outcome::Reverted, fault)
        }
        _ => (Phase::Trial(pending), Vec::new()),
    }
}

/// Counts an end without a verdict, and rests the update after some; gives the count.
pub(super) fn count_fallback(facts: &mut Facts, pending: &Pending, now: UtcTime) -> u32 {
    let digest = pending.plan.digest();
    let count = facts.fallbacks.entry(digest).or_default();
    *count += 1;
    let count = *count;
    if count >= FALLBACKS_MAX {
        facts.fallbacks.remove(&digest);
        let until = now.plus_secs(FALLBACK_REST_SECS);
        facts.refuse(&pending.plan, "fell-back", Some(until));
    }
    count
}

/// The loader went back without a verdict. A power cut looks the same, so this is counted and
/// rests the update only when it happens again and again.
pub(super) fn fell_back(facts: &mut Facts, pending: Pending, now: UtcTime) -> Turn {
    let count = count_fallback(facts, &pending, now);
    let text = format!(
        "the new image used up its boots without a verdict (time {count} of {FALLBACKS_MAX})"
    );
    give_up(
        pending,
        Outcome::Reverted,
        Fault::device("fell-back", &text),
    )
}
