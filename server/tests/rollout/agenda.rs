//! A look that thinks about what changed decides what a look at the whole fleet decides.

use ampoule_protocol::device::Outcome;
use ampoule_protocol::time::UtcTime;
use ampoule_server::rollout::{Act, Agenda, Book, DeviceFacts, Rollout, Stage, decide};
use proptest::prelude::*;

use crate::fleet::{Fleet, cap, plan, release, steps};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Turn {
    Wait(i64),
    /// The clock is set back.
    Back(i64),
    Answer(u32, Outcome),
    Take(u32),
    Act(usize, Act),
    Join(u32),
    Revoke(u32),
    Lock(u32),
    Unlock(u32),
    Tag(u32, &'static str, &'static str),
    /// It runs this without having been asked.
    Runs(u32, &'static str),
    Seen(u32),
}

const ROLLOUTS: [&str; 4] = ["all", "first", "old", "later"];
const DEVICES: u32 = 24;

fn turn() -> impl Strategy<Value = Turn> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Committed),
        1 => Just(Outcome::Failed),
    ];
    let act = prop_oneof![
        Just(Act::Pause),
        Just(Act::Resume),
        Just(Act::Resume),
        Just(Act::Retry),
        Just(Act::Abort)
    ];
    let device = || 0_u32..DEVICES + 4;
    let tag = prop_oneof![Just("ward"), Just("patient"), Just("region")];
    let value = prop_oneof![Just("0"), Just("1"), Just("EU"), Just("Moon")];
    prop_oneof![
        3 => (1_i64..50_000).prop_map(Turn::Wait),
        2 => (1_i64..700_000).prop_map(Turn::Wait),
        1 => (1_i64..100_000).prop_map(Turn::Back),
        16 => (device(), outcome).prop_map(|(device, outcome)| Turn::Answer(device, outcome)),
        4 => device().prop_map(Turn::Take),
        2 => (0..ROLLOUTS.len(), act).prop_map(|(rollout, act)| Turn::Act(rollout, act)),
        1 => (1_u32..3).prop_map(Turn::Join),
        1 => device().prop_map(Turn::Revoke),
        4 => device().prop_map(Turn::Lock),
        2 => device().prop_map(Turn::Unlock),
        3 => (device(), tag, value).prop_map(|(device, tag, value)| Turn::Tag(device, tag, value)),
        2 => (device(), prop_oneof![Just("2.0.0"), Just("3.0.0")])
            .prop_map(|(device, version)| Turn::Runs(device, version)),
        2 => device().prop_map(Turn::Seen),
    ]
}

/// Lets it happen; says to which device, where the book does not know.
fn happen(fleet: &mut Fleet, turn: &Turn) -> Option<u32> {
    let count = fleet.devices.len();
    let known = |device: u32| Some(device).filter(|device| (*device as usize) < count);
    match *turn {
        Turn::Wait(secs) => fleet.wait(secs),
        Turn::Back(secs) => fleet.wait(-secs),
        Turn::Join(count) => fleet.join(count),
        Turn::Act(rollout, ref act) => drop(fleet.act(ROLLOUTS[rollout], act)),
        Turn::Answer(device, outcome) => {
            fleet.answer(known(device)?, outcome);
            return Some(device);
        }
        Turn::Take(device) => {
            let now = fleet.time();
            fleet.book.taken(known(device)?, now);
        }
        // It is told so where there is no room, or no such device.
        Turn::Lock(device) => drop(fleet.lock(device)),
        Turn::Unlock(device) => drop(fleet.book.unlock(device)),
        Turn::Revoke(device) => {
            fleet.devices[known(device)? as usize].enrolled = false;
            return Some(device);
        }
        Turn::Tag(device, tag, value) => {
            fleet.set_tag(known(device)?, tag, value);
            return Some(device);
        }
        Turn::Runs(device, version) => {
            fleet.runs(known(device)?, version, 1);
            return Some(device);
        }
        Turn::Seen(device) => {
            fleet.devices[known(device)? as usize].seen_at = Some(fleet.now);
            return Some(device);
        }
    }
    None
}

/// Rollouts that get into each other's way: by priority, by weight, by time, by what each asks of a
/// device.
fn world(key: u8, start: i64) -> Fleet {
    let mut fleet = Fleet::new(DEVICES);
    fleet.caps = vec![cap("ward", 2), cap("patient", 1)];
    let shape = steps(&["10%", "50%", "100%"]);
    let later = format!(
        "weight = 2\nattempts = 3\nstart = \"{}\"\n",
        fleet.time().plus_secs(start)
    );
    let plans = [
        ("all", "2.0.0", "attempts = 2\nbegin_within_secs = 7200\n"),
        (
            "first",
            "3.0.0",
            "priority = 7\nfilter = 'silent-days < 3 and enrolled-days > 1'\n",
        ),
        (
            "old",
            "2.0.0",
            "filter = 'device ~ *1'\nanswer_within_secs = 3600\n",
        ),
        ("later", "3.0.0", later.as_str()),
    ];
    for (index, (name, version, more)) in plans.into_iter().enumerate() {
        let key = key.wrapping_add(u8::try_from(index).unwrap());
        let rollback = if version == "2.0.0" { 2 } else { 3 };
        fleet.start(
            plan(name, version, more, &shape),
            release(version, rollback),
            key,
        );
    }
    fleet
}

/// Decides until the book rests.
fn rest(agenda: &mut Agenda, book: &mut Book, devices: &[DeviceFacts], now: UtcTime) {
    for _ in 0..1000 {
        let changes = agenda.decide(book, devices, now);
        if changes.is_empty() && !agenda.is_behind() {
            return;
        }
    }
    panic!("the book does not come to rest");
}

fn halted(book: &Book) -> Vec<String> {
    let halted = |rollout: &&Rollout| matches!(rollout.status.stage, Stage::Halted { .. });
    let all = book.rollouts().filter(halted);
    all.map(|rollout| rollout.plan.name.to_string()).collect()
}

/// What a book says of everybody.
fn said(book: &Book) -> String {
    let rollout = |rollout: &Rollout| {
        let mut rows: Vec<_> = rollout.deployments().collect();
        rows.sort_by_key(|row| row.0);
        format!("{:?}\n{rows:?}\n", rollout.status)
    };
    let locks: Vec<_> = book.locks().collect();
    book.rollouts().map(rollout).collect::<String>() + &format!("{locks:?}")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    /// Each look, whatever happened before it: the same changes, in the same order, as by an agenda
    /// that goes over the whole fleet. Between looks somebody asks why, which must change nothing.
    #[test]
    fn a_look_at_what_changed_is_a_look_at_everybody(
        key: u8,
        start in 0_i64..300_000,
        turns in prop::collection::vec((turn(), any::<bool>()), 1..80),
    ) {
        let mut fleet = world(key, start);
        let mut agenda = Agenda::new(fleet.caps.clone(), usize::MAX);
        for (turn, asks) in &turns {
            let device = happen(&mut fleet, turn);
            if let Some(device) = device {
                agenda.touch(device);
            }
            let now = fleet.time();
            if *asks {
                let is_all = agenda.follow(&mut fleet.book, &fleet.devices, now);
                prop_assert!(is_all);
            }
            for _ in 0..100 {
                let mut anew = fleet.book.clone();
                let expected = decide(&mut anew, &fleet.devices, &fleet.caps, now);
                let changes = agenda.decide(&mut fleet.book, &fleet.devices, now);
                prop_assert_eq!(&changes, &expected, "after {:?}", turn);
                if changes.is_empty() {
                    break;
                }
            }
            prop_assert!(!agenda.is_behind());
        }
    }

    /// In slices it takes longer, and comes to the same. A rollout is halted by the first failures that it
    /// does not bear, without waiting for the rest: there the two part.
    #[test]
    fn slices_come_to_the_same(
        key: u8,
        start in 0_i64..300_000,
        slice in 1_usize..7,
        turns in prop::collection::vec(turn(), 1..80),
    ) {
        let mut fleet = world(key, start);
        let mut book = fleet.book.clone();
        let mut agenda = Agenda::new(fleet.caps.clone(), usize::MAX);
        let mut sliced = Agenda::new(fleet.caps.clone(), slice);
        for turn in &turns {
            std::mem::swap(&mut fleet.book, &mut book);
            let devices = fleet.devices.clone();
            let now = fleet.now;
            happen(&mut fleet, turn);
            std::mem::swap(&mut fleet.book, &mut book);
            (fleet.devices, fleet.now) = (devices, now);
            if let Some(device) = happen(&mut fleet, turn) {
                agenda.touch(device);
                sliced.touch(device);
            }
            let now = fleet.time();
            rest(&mut agenda, &mut fleet.book, &fleet.devices, now);
            rest(&mut sliced, &mut book, &fleet.devices, now);
            prop_assert_eq!(halted(&fleet.book), halted(&book), "after {:?}", turn);
            if !halted(&book).is_empty() {
                break;
            }
            prop_assert_eq!(said(&fleet.book), said(&book), "after {:?}", turn);
        }
    }
}

/// A device that did not take its offer in time is asked once more before the next step opens, also where
/// another rollout filled the slice before it.
#[test]
fn whoever_has_a_turn_has_it_before_the_next_step_opens() {
    for slice in [1, usize::MAX] {
        let mut fleet = Fleet::new(4);
        fleet.caps = vec![cap("ward", 2)];
        let mut agenda = Agenda::new(fleet.caps.clone(), slice);
        let shape = "[[step]]\nshare = \"50%\"\nsuccess_min = \"50%\"\nbake_secs = 60\n\
                     [[step]]\nshare = \"100%\"\n";
        let more = "filter = 'device != pump-0004'\nbegin_within_secs = 3600";
        fleet.start(plan("r", "2.0.0", more, shape), release("2.0.0", 2), 7);
        let more = "filter = 'device = pump-0004'";
        fleet.start(
            plan("other", "2.0.0", more, &steps(&["100%"])),
            release("2.0.0", 2),
            8,
        );
        let now = fleet.time();
        rest(&mut agenda, &mut fleet.book, &fleet.devices, now);
        let asked = fleet.offered("r");
        assert_eq!(asked.len(), 2);
        fleet.answer(asked[0], Outcome::Committed);
        agenda.touch(asked[0]);
        let now = fleet.time();
        rest(&mut agenda, &mut fleet.book, &fleet.devices, now);
        fleet.wait(3600);
        fleet.join(1);
        let now = fleet.time();
        rest(&mut agenda, &mut fleet.book, &fleet.devices, now);
        let offered = fleet.offered("r");
        assert_eq!(offered.len(), 2, "of the ward, in the second step");
        assert!(offered.contains(&asked[1]), "it was its turn: {offered:?}");
    }
}

/// A rollout begins, and there is more to think about than one look does; another has to stop.
#[test]
fn a_halt_waits_for_no_slice() {
    let mut fleet = Fleet::new(8);
    let mut agenda = Agenda::new(Vec::new(), 1);
    let shape = steps(&["50%"]);
    fleet.start(plan("r", "2.0.0", "", &shape), release("2.0.0", 2), 7);
    let now = fleet.time();
    rest(&mut agenda, &mut fleet.book, &fleet.devices, now);
    let asked = fleet.offered("r");
    fleet.answer(asked[0], Outcome::Failed);
    fleet.start(plan("more", "3.0.0", "", &shape), release("3.0.0", 3), 8);
    agenda.decide(&mut fleet.book, &fleet.devices, now);
    assert!(agenda.is_behind());
    assert_eq!(fleet.stage("r"), "halted");
    let left = fleet.offered("r").len();
    assert_eq!(
        left,
        asked.len() - 2,
        "offers are taken back, a slice at a time"
    );
    assert!(
        fleet.offered("more").is_empty(),
        "the order is not known yet"
    );
}

/// Whoever asks why while much is new waits for it slice by slice, and others have their turn in between.
#[test]
fn a_question_is_told_in_slices() {
    let mut fleet = Fleet::new(8);
    let mut agenda = Agenda::new(Vec::new(), 1);
    let more = plan("r", "2.0.0", "", &steps(&["50%"]));
    fleet.start(more, release("2.0.0", 2), 7);
    let now = fleet.time();
    let mut slices = 1;
    while !agenda.follow(&mut fleet.book, &fleet.devices, now) {
        slices += 1;
    }
    assert_eq!(slices, fleet.devices.len());
}
