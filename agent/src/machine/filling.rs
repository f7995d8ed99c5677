//! Filling, Verifying and Staged: inactive slots are written, read back and made ready.

use super::looking::{fresh_fill, method_for};
use super::{
    Action, Event, FILL_TRIES_MAX, FILLS_MAX, Facts, Fault, Filling, Method, Outcome, Party,
    Pending, Phase, Turn, Via, Whole, give_up,
};

/// Begins to fill a part; `method` overrides the cheapest one.
///
/// The record of what its slot held goes in the same step, before the first byte is written.
pub(super) fn fill_part(
    facts: &mut Facts,
    mut pending: Pending,
    part: usize,
    method: Option<Method>,
) -> Turn {
    if let Some(part) = pending.plan.parts.get(part)
        && let Some(slots) = facts.slots.get_mut(&part.component)
    {
        slots.remove(&part.slot);
    }
    if part == 0 {
        pending.fills += 1;
    }
    let method = method.unwrap_or_else(|| method_for(&pending, part));
    pending.via = Some(match method {
        Method::Full => Via::Full,
        Method::Delta => Via::Delta,
    });
    let filling = fresh_fill(pending, part, method);
    (Phase::Filling(filling), vec![Action::Fill])
}

pub(super) fn filling(facts: &mut Facts, mut filling: Filling, event: Event) -> Turn {
    match event {
        // Expiry is not asked again: the plan was fresh when it was made.
        Event::Started(_) | Event::Tick => (Phase::Filling(filling), vec![Action::Fill]),
        Event::Progress { mark, fetched } => {
            if mark.done > filling.mark.done {
                filling.tries = 0;
            }
            filling.pending.fetched = filling.pending.fetched.saturating_add(fetched);
            filling.mark = mark;
            (Phase::Filling(filling), Vec::new())
        }
        Event::Filled { fetched } => {
            let mut pending = filling.pending;
            pending.fetched = pending.fetched.saturating_add(fetched);
            let next = filling.part + 1;
            if next < pending.plan.parts.len() {
                fill_part(facts, pending, next, None)
            } else {
                (Phase::Verifying(pending), vec![Action::Verify])
            }
        }
        Event::Failed(fault) => fill_failed(facts, filling, fault),
        _ => (Phase::Filling(filling), Vec::new()),
    }
}

fn fill_failed(facts: &mut Facts, mut filling: Filling, fault: Fault) -> Turn {
    match (fault.guilty, filling.method) {
        (Party::Network, _) if filling.tries < FILL_TRIES_MAX => {
            // The driver waits, with back-off, and ticks.
            filling.tries += 1;
            facts.last_fault = Some(fault);
            (Phase::Filling(filling), Vec::new())
        }
        // Whatever is wrong with a patch or its base, the whole artifact does without both, where
        // the link is not too dear for it.
        (Party::Repository | Party::Device | Party::Ourselves, Method::Delta) => {
            facts.last_fault = Some(fault.clone());
            let part = filling.part;
            match whole_of(&filling) {
                Whole::Allowed => fill_part(facts, filling.pending, part, Some(Method::Full)),
                Whole::TooLong => {
                    facts.forgo_patch(&filling.pending, part);
                    give_up(filling.pending, Outcome::Failed, fault)
                }
            }
        }
        _ => give_up(filling.pending, Outcome::Failed, fault),
    }
}

fn whole_of(filling: &Filling) -> Whole {
    let part = filling.pending.plan.parts.get(filling.part);
    part.map_or(Whole::Allowed, |part| part.whole)
}

pub(super) fn verifying(facts: &mut Facts, pending: Pending, event: Event) -> Turn {
    match event {
        Event::Started(_) | Event::Tick => (Phase::Verifying(pending), vec![Action::Verify]),
        Event::Verified => {
            for part in &pending.plan.parts {
                let slots = facts.slots.entry(part.component.clone()).or_default();
                slots.insert(part.slot, part.installed(&pending.plan));
            }
            (Phase::Staged(pending), vec![Action::Prepare])
        }
        // The medium did not keep what was written: once more, whole, then not again.
        Event::Failed(fault) if pending.fills < FILLS_MAX => {
            facts.last_fault = Some(fault);
            let whole = pending.plan.parts.first().map(|part| part.whole);
            let method = (whole != Some(Whole::TooLong)).then_some(Method::Full);
            fill_part(facts, pending, 0, method)
        }
        Event::Failed(fault) => give_up(pending, Outcome::Failed, fault),
        _ => (Phase::Verifying(pending), Vec::new()),
    }
}

pub(super) fn staged(_facts: &mut Facts, pending: Pending, event: Event) -> Turn {
    match event {
        // The proof went with the process: bytes are bytes again.
        Event::Started(_) => (Phase::Verifying(pending), vec![Action::Verify]),
        Event::Prepared => (Phase::Waiting(pending), vec![Action::AskGates]),
        Event::Failed(fault) => give_up(pending, Outcome::Failed, fault),
        _ => (Phase::Staged(pending), Vec::new()),
    }
}
