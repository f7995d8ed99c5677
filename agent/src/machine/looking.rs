//! Idle and Checking: nothing on the device is touched here.

use ampoule_protocol::time::UtcTime;

use super::{
    Action, Answers, Event, Facts, Filling, Installed, Mark, Method, Party, Pending, Phase, Plan,
    Slot, Turn,
};

pub(super) fn idle(facts: &mut Facts, event: &Event) -> Turn {
    match event {
        Event::CheckDue => {
            facts.inventory_seq += 1;
            (Phase::Checking, vec![Action::Check])
        }
        Event::Started(_) | Event::Tick if !facts.outbox.is_empty() => {
            (Phase::Idle, vec![Action::SendReports])
        }
        _ => (Phase::Idle, Vec::new()),
    }
}

pub(super) fn checking(facts: &mut Facts, event: Event, now: UtcTime) -> Turn {
    match event {
        // A check has no effect that could have been cut in half.
        Event::Started(_) => (Phase::Idle, Vec::new()),
        Event::NothingNew(recognised) => {
            succeeded(facts);
            for (component, slot, image) in recognised {
                facts
                    .slots
                    .entry(component)
                    .or_default()
                    .insert(slot, image);
            }
            (Phase::Idle, vec![Action::SendReports])
        }
        Event::Offered(plan) => {
            succeeded(facts);
            if facts.refuses(&plan, now).is_some() || plan.parts.is_empty() {
                return (Phase::Idle, vec![Action::SendReports]);
            }
            remember_running(facts, &plan);
            begin(facts, *plan, now)
        }
        Event::Failed(fault) => {
            facts.failed_checks = facts.failed_checks.saturating_add(1);
            let actions = match fault.guilty {
                Party::Network => Vec::new(),
                Party::Repository => {
                    facts.report_refusal(&fault, now);
                    vec![Action::SendReports]
                }
                Party::Device | Party::Operator | Party::Ourselves => vec![Action::SendReports],
            };
            facts.last_fault = Some(fault);
            (Phase::Idle, actions)
        }
        _ => (Phase::Checking, Vec::new()),
    }
}

pub(super) fn succeeded(facts: &mut Facts) {
    facts.failed_checks = 0;
    facts.last_fault = None;
}

/// What the check recognised in the running slots is worth remembering: it is the base of patches.
fn remember_running(facts: &mut Facts, plan: &Plan) {
    for part in &plan.parts {
        if let Some(image) = &part.before {
            let running: Slot = part.slot.other();
            let slots = facts.slots.entry(part.component.clone()).or_default();
            slots
                .entry(running)
                .or_insert_with(|| Installed::clone(image));
        }
    }
}

fn begin(facts: &mut Facts, plan: Plan, now: UtcTime) -> Turn {
    let pending = Pending {
        plan,
        since: now,
        fetched: 0,
        fills: 0,
        via: None,
        boots: 0,
        attempts_left: None,
        answers: Answers::default(),
    };
    super::filling::fill_part(facts, pending, 0, None)
}

/// The first thing to do for a part: the patch where there is one, unless told otherwise.
pub(super) fn method_for(pending: &Pending, part: usize) -> Method {
    let has_delta = pending
        .plan
        .parts
        .get(part)
        .is_some_and(|part| part.delta.is_some());
    if has_delta {
        Method::Delta
    } else {
        Method::Full
    }
}

/// A fill of `part` from its beginning.
pub(super) fn fresh_fill(pending: Pending, part: usize, method: Method) -> Filling {
    Filling {
        pending,
        part,
        method,
        mark: Mark::default(),
        tries: 0,
    }
}
