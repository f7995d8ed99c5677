//! The transition table, event by event.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{ComponentName, TargetPath};
use ampoule_protocol::release::{Base, Blocks, Class, DeltaRef, FileRef, Install, ReleaseVersion};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;

use super::{
    Action, BootView, BootViews, Event, FALLBACK_REST_SECS, FALLBACKS_MAX, FILL_TRIES_MAX,
    FILLS_MAX, Fault, Health, Mark, Method, Notice, OUTBOX_MAX, Outcome, Part, Party, Phase, Plan,
    Slot, State, Whole, step,
};

const NOW: UtcTime = UtcTime::from_unix(1_800_000_000);

fn component() -> ComponentName {
    ComponentName::parse("rootfs").expect("a name")
}

fn file(name: &str, length: u64) -> FileRef {
    FileRef {
        path: TargetPath::parse(name).expect("a path"),
        length,
        sha256: Digest::of(name.as_bytes()),
    }
}

fn plan(version: &str, index: u64) -> Plan {
    Plan {
        release: file("p/release.toml", 1),
        version: ReleaseVersion::parse(version).expect("a version"),
        rollback_index: RollbackIndex(index),
        class: Class::Security,
        notice: Notice::default(),
        parts: vec![Part {
            component: component(),
            install: Install::Slot,
            slot: Slot::B,
            artifact: file(&format!("p/{version}.img"), 100),
            blocks: Blocks {
                block_len: 4096,
                root: Digest::of(b""),
                leaves: file("p/leaves", 32),
            },
            delta: None,
            before: None,
            whole: Whole::Allowed,
            meta_data: None,
            live: false,
        }],
        downgrade: None,
    }
}

fn delta_plan() -> Plan {
    let mut plan = plan("2.0.0", 2);
    plan.parts[0].delta = Some(DeltaRef {
        file: file("p/delta", 10),
        base: Base {
            version: ReleaseVersion::parse("1.0.0").expect("a version"),
            length: 100,
            sha256: Digest::of(b"old"),
        },
        memory: 1,
        caps: Vec::new(),
    });
    plan
}

fn views(running: Slot, armed: Option<(Slot, u32)>) -> BootViews {
    let view = BootView {
        running,
        default: Slot::A,
        armed,
    };
    BootViews::from([(component(), view)])
}

fn fault(guilty: Party) -> Fault {
    Fault {
        guilty,
        code: "test".into(),
        text: "a test".into(),
        retry_after_secs: None,
    }
}

/// Feeds the events; gives the state and the actions of the last.
fn run(mut state: State, events: impl IntoIterator<Item = Event>) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    for event in events {
        (state, actions) = step(state, event, NOW);
    }
    (state, actions)
}

fn offered(plan: Plan) -> Vec<Event> {
    vec![Event::CheckDue, Event::Offered(Box::new(plan))]
}

/// The events of a clean life, from the check to the commit.
fn clean_life() -> Vec<(Event, &'static str, Vec<Action>)> {
    vec![
        (Event::CheckDue, "checking", vec![Action::Check]),
        (
            Event::Offered(Box::new(plan("1.0.0", 7))),
            "filling",
            vec![Action::Fill],
        ),
        (
            Event::Filled { fetched: 100 },
            "verifying",
            vec![Action::Verify],
        ),
        (Event::Verified, "staged", vec![Action::Prepare]),
        (Event::Prepared, "waiting", vec![Action::AskGates]),
        (Event::GatesOpen, "arming", vec![Action::Arm]),
        (Event::Armed, "arming", vec![Action::AskGates]),
        (Event::GatesOpen, "arming", vec![Action::Restart]),
        (
            Event::Started(views(Slot::B, Some((Slot::B, 2)))),
            "trial",
            vec![Action::AskHealth],
        ),
        (Event::Verdict(Health::Undecided), "trial", vec![]),
        (Event::Tick, "trial", vec![Action::AskHealth]),
        (
            Event::Verdict(Health::Good),
            "committing",
            vec![Action::Commit],
        ),
        (Event::Committed, "idle", vec![Action::SendReports]),
    ]
}

#[test]
fn a_clean_life_goes_through_every_phase() {
    let mut state = State::default();
    for (event, phase, expected) in clean_life() {
        let floor = state.facts.floor;
        assert_eq!(floor.0, 0, "the floor rises with the commit and not before");
        let actions;
        (state, actions) = step(state, event, NOW);
        assert_eq!(state.phase.as_str(), phase);
        assert_eq!(actions, expected, "{phase}");
    }
    assert_eq!(state.facts.floor.0, 7);
    assert_eq!(state.facts.outbox.len(), 1);
    assert_eq!(state.facts.outbox[0].outcome, Outcome::Committed);
    assert_eq!(state.facts.outbox[0].seq, 1);
    assert_eq!(state.facts.outbox[0].boots, 1);
    let image = &state.facts.slots[&component()][&Slot::B];
    assert_eq!(image.rollback_index.0, 7);
}

#[test]
fn an_action_under_way_is_given_again_after_a_restart() {
    let mut state = State::default();
    let old = views(Slot::A, None);
    let new = views(Slot::B, Some((Slot::B, 1)));
    for (event, phase, actions) in clean_life() {
        (state, _) = step(state, event, NOW);
        let running_new = matches!(phase, "trial" | "committing");
        let views = if running_new { &new } else { &old };
        let (again, given) = step(state.clone(), Event::Started(views.clone()), NOW);
        let (expected_phase, expected) = match phase {
            "checking" => ("idle", vec![]),
            // The proof is gone: back to reading the slot.
            "staged" | "waiting" | "arming" => ("verifying", vec![Action::Verify]),
            "trial" => ("trial", vec![Action::AskHealth]),
            other => (other, actions),
        };
        assert_eq!(
            (again.phase.as_str(), given),
            (expected_phase, expected),
            "in {phase}"
        );
    }
}

#[test]
fn an_event_of_another_phase_changes_nothing() {
    let (trial, _) = run(
        State::default(),
        clean_life().into_iter().take(9).map(|(event, ..)| event),
    );
    assert_eq!(trial.phase.as_str(), "trial");
    for event in [
        Event::CheckDue,
        Event::Verified,
        Event::Armed,
        Event::GatesOpen,
        Event::Committed,
    ] {
        let (after, actions) = step(trial.clone(), event, NOW);
        assert_eq!((after, actions), (trial.clone(), vec![]));
    }
}

#[test]
fn network_faults_are_tried_again_and_bounded() {
    let (mut state, _) = run(State::default(), offered(plan("1.0.0", 1)));
    for _ in 0..FILL_TRIES_MAX {
        (state, _) = step(state, Event::Failed(fault(Party::Network)), NOW);
        assert_eq!(state.phase.as_str(), "filling");
    }
    let progress = Event::Progress {
        mark: Mark {
            done: 1,
            patcher: None,
        },
        fetched: 1,
    };
    let (progressed, _) = step(state.clone(), progress, NOW);
    let (progressed, _) = step(progressed, Event::Failed(fault(Party::Network)), NOW);
    assert_eq!(
        progressed.phase.as_str(),
        "filling",
        "progress gives new tries"
    );
    let (state, actions) = step(state, Event::Failed(fault(Party::Network)), NOW);
    assert_eq!(
        (state.phase.as_str(), actions),
        ("reverting", vec![Action::Disarm])
    );
    let (state, _) = step(state, Event::Disarmed(views(Slot::A, None)), NOW);
    assert_eq!(state.phase, Phase::Idle);
    assert_eq!(state.facts.outbox[0].outcome, Outcome::Failed);
    assert!(
        state.facts.refused.is_empty(),
        "a weak network refuses no image"
    );
}

#[test]
fn a_patch_that_does_not_apply_gives_way_to_the_whole_image() {
    for party in [Party::Repository, Party::Device, Party::Ourselves] {
        let (state, _) = run(State::default(), offered(delta_plan()));
        let Phase::Filling(filling) = &state.phase else {
            panic!("not filling")
        };
        assert_eq!(filling.method, Method::Delta);
        let (state, actions) = step(state, Event::Failed(fault(party)), NOW);
        let Phase::Filling(filling) = &state.phase else {
            panic!("gave up")
        };
        assert_eq!(
            (filling.method, filling.mark.clone(), actions),
            (Method::Full, Mark::default(), vec![Action::Fill])
        );
        let (state, _) = step(state, Event::Failed(fault(party)), NOW);
        assert_eq!(state.phase.as_str(), "reverting");
    }
}

/// Catches a fall back to the whole image over a link that is too dear for it, and a bad patch that
/// is fetched again with each poll.
#[test]
fn a_patch_that_fails_on_a_metered_link_ends_the_update_and_is_forgone() {
    let mut plan = delta_plan();
    plan.parts[0].whole = Whole::TooLong;
    let patch = plan.parts[0].delta.as_ref().expect("a patch").file.sha256;
    let (state, _) = run(State::default(), offered(plan));
    let (state, actions) = step(state, Event::Failed(fault(Party::Repository)), NOW);
    assert_eq!(state.phase.as_str(), "reverting");
    assert_eq!(actions, vec![Action::Disarm]);
    assert!(state.facts.forgoes_patch(&patch));
    assert!(
        state.facts.refused.is_empty(),
        "the image itself may be good"
    );
}

#[test]
fn a_slot_that_reads_back_wrong_is_filled_again_and_bounded() {
    let (mut state, _) = run(State::default(), offered(plan("1.0.0", 1)));
    for fills in 1..=FILLS_MAX {
        (state, _) = step(state, Event::Filled { fetched: 0 }, NOW);
        assert!(
            !state.facts.slots.contains_key(&component()),
            "unverified bytes are no record"
        );
        (state, _) = step(state, Event::Failed(fault(Party::Device)), NOW);
        let expected = if fills < FILLS_MAX {
            "filling"
        } else {
            "reverting"
        };
        assert_eq!(state.phase.as_str(), expected);
    }
}

#[test]
fn gates_hold_and_are_asked_again_at_the_point_of_no_return() {
    let life = clean_life().into_iter().map(|(event, ..)| event);
    let closed = || Event::GatesClosed(vec!["therapy".into()]);
    let (waiting, _) = run(State::default(), life.clone().take(5));
    let (waiting, actions) = step(waiting, closed(), NOW);
    assert_eq!((waiting.phase.as_str(), actions), ("waiting", vec![]));
    let (armed, _) = run(State::default(), life.take(7));
    let (back, actions) = step(armed, closed(), NOW);
    assert_eq!(
        (back.phase.as_str(), actions),
        ("arming", vec![Action::Disarm]),
        "it waits again when nothing is armed, and not before"
    );
    let (failed, _) = step(back.clone(), Event::Failed(fault(Party::Device)), NOW);
    assert_eq!(failed.phase.as_str(), "reverting", "which tries it again");
    let (cut, actions) = step(
        back.clone(),
        Event::Started(views(Slot::A, Some((Slot::B, 3)))),
        NOW,
    );
    assert_eq!(
        actions,
        [Action::Disarm],
        "what a cut left armed goes first"
    );
    let (cut, actions) = step(cut, Event::Disarmed(views(Slot::A, None)), NOW);
    assert_eq!(
        (cut.phase.as_str(), actions),
        ("verifying", vec![Action::Verify])
    );
    let (back, actions) = step(back, Event::Disarmed(views(Slot::A, None)), NOW);
    assert_eq!((back.phase.as_str(), actions), ("waiting", vec![]));
}

#[test]
fn a_wait_follows_the_repository() {
    let life = clean_life().into_iter().map(|(event, ..)| event);
    let (waiting, _) = run(State::default(), life.take(5));
    let (asking, actions) = step(waiting.clone(), Event::CheckDue, NOW);
    assert_eq!(
        (asking.phase.as_str(), actions),
        ("waiting", vec![Action::Check])
    );
    let same = Event::Offered(Box::new(plan("1.0.0", 7)));
    let (state, actions) = step(asking.clone(), same, NOW);
    assert_eq!(
        (state.phase.clone(), actions),
        (waiting.phase.clone(), vec![])
    );
    let down = Event::Failed(fault(Party::Network));
    let (state, _) = step(asking.clone(), down, NOW);
    assert_eq!(state.phase, waiting.phase, "silence recalls nothing");
    let other = Event::Offered(Box::new(plan("1.1.0", 8)));
    let (state, actions) = step(asking.clone(), other, NOW);
    assert_eq!(
        (state.phase.as_str(), actions),
        ("filling", vec![Action::Fill])
    );
    let (state, _) = step(asking, Event::NothingNew(Vec::new()), NOW);
    assert_eq!(state.phase, Phase::Idle, "what is recalled is not begun");
    assert!(state.facts.refused.is_empty());
}

#[test]
fn agreement_is_to_all_that_was_shown_and_all_that_would_run() {
    let one = plan("1.0.0", 7);
    let change = |change: &dyn Fn(&mut Plan)| {
        let mut other = one.clone();
        change(&mut other);
        other.identity() != one.identity()
    };
    assert!(change(&|plan| plan.notice.purpose.push('x')));
    assert!(change(&|plan| plan.notice.risk_if_not_applied.push('x')));
    assert!(change(&|plan| plan.notice.downtime_secs += 1));
    assert!(change(&|plan| plan
        .notice
        .functions_unavailable
        .push("x".into())));
    assert!(change(&|plan| plan.class = Class::Both));
    assert!(change(&|plan| plan.rollback_index = RollbackIndex(8)));
    assert!(change(&|plan| plan.release.sha256 = Digest::of(b"x")));
    assert!(change(
        &|plan| plan.parts[0].artifact.sha256 = Digest::of(b"x")
    ));
    assert!(!change(&|plan| plan.parts[0].before = None));
}

#[test]
fn a_bad_verdict_refuses_at_once_and_goes_back() {
    let life = clean_life().into_iter().map(|(event, ..)| event);
    let (trial, _) = run(State::default(), life.take(9));
    let (state, actions) = step(
        trial,
        Event::Verdict(Health::Bad(fault(Party::Device))),
        NOW,
    );
    assert_eq!(
        (state.phase.as_str(), actions),
        ("reverting", vec![Action::Disarm])
    );
    assert_eq!(state.facts.refuses(&plan("1.0.0", 7), NOW), Some("test"));
    let (state, actions) = step(state, Event::Disarmed(views(Slot::B, None)), NOW);
    assert_eq!(actions, [Action::Restart]);
    let (state, _) = run(
        state,
        [
            Event::Started(views(Slot::A, None)),
            Event::Disarmed(views(Slot::A, None)),
        ],
    );
    assert_eq!(state.phase, Phase::Idle);
    assert_eq!(state.facts.floor.0, 0);
    let (state, actions) = run(state, offered(plan("1.0.0", 7)));
    assert_eq!(
        (state.phase.as_str(), actions),
        ("idle", vec![Action::SendReports])
    );
}

#[test]
fn falling_back_is_counted_and_is_no_verdict() {
    let mut state = State::default();
    for count in 1..=FALLBACKS_MAX {
        let life = clean_life().into_iter().map(|(event, ..)| event).take(9);
        (state, _) = run(state, life);
        let back = views(Slot::A, Some((Slot::B, 0)));
        (state, _) = run(
            state,
            [Event::Started(back), Event::Disarmed(views(Slot::A, None))],
        );
        assert_eq!(state.phase, Phase::Idle);
        let is_refused = state.facts.refuses(&plan("1.0.0", 7), NOW).is_some();
        assert_eq!(is_refused, count == FALLBACKS_MAX, "after {count}");
    }
    let tomorrow = NOW.plus_secs(FALLBACK_REST_SECS);
    assert_eq!(state.facts.refuses(&plan("1.0.0", 7), tomorrow), None);
}

#[test]
fn what_is_below_the_floor_is_not_begun() {
    let mut state = State::default();
    state.facts.floor = RollbackIndex(8);
    let (state, _) = run(state, offered(plan("1.0.0", 7)));
    assert_eq!(state.phase, Phase::Idle);
    assert_eq!(state.facts.floor.0, 8);
}

#[test]
fn a_commit_that_cannot_be_written_is_tried_again() {
    let life = clean_life().into_iter().map(|(event, ..)| event);
    let (state, _) = run(State::default(), life.take(12));
    let (state, actions) = run(state, [Event::Failed(fault(Party::Device)), Event::Tick]);
    assert_eq!(
        (state.phase.as_str(), actions),
        ("committing", vec![Action::Commit])
    );
    assert_eq!(state.facts.floor.0, 0);
}

#[test]
fn receipts_are_bounded_and_leave_when_acknowledged() {
    let mut state = State::default();
    for index in 0..OUTBOX_MAX as u64 + 5 {
        let refused = Fault {
            code: format!("code-{index}"),
            ..fault(Party::Repository)
        };
        (state, _) = run(state, [Event::CheckDue, Event::Failed(refused.clone())]);
        let count = state.facts.outbox.len();
        (state, _) = run(state, [Event::CheckDue, Event::Failed(refused)]);
        assert_eq!(
            state.facts.outbox.len(),
            count,
            "the same refusal is told once"
        );
    }
    assert_eq!(state.facts.outbox.len(), OUTBOX_MAX);
    let last = state.facts.outbox[OUTBOX_MAX - 1].seq;
    let (state, _) = step(state, Event::Acknowledged(vec![last]), NOW);
    assert_eq!(state.facts.outbox.len(), OUTBOX_MAX - 1);
}

#[test]
fn writing_a_state_and_reading_it_is_identity() {
    let mut state = State::default();
    for (event, ..) in clean_life() {
        (state, _) = step(state, event, NOW);
        let text = serde_json::to_string(&state).expect("plain data");
        assert_eq!(
            serde_json::from_str::<State>(&text).expect("our own"),
            state
        );
    }
}
