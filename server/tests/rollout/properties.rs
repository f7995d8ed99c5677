//! What holds in every history, however devices, people and time behave.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_protocol::device::Outcome;
use ampoule_server::rollout::{Act, Book, Change, Phase, Stage};
use proptest::prelude::*;

use crate::fleet::{Fleet, cap, plan, release, steps};

/// The devices that a rollout of one step of this share asks first.
fn asked_at(count: u32, key: u8, percent: u32) -> BTreeSet<u32> {
    let mut fleet = Fleet::new(count);
    let plan = plan("r", "2.0.0", "", &steps(&[&format!("{percent}%")]));
    fleet.start(plan, release("2.0.0", 2), key);
    fleet.look();
    fleet.offered("r").into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_offered_at_a_small_step_is_offered_at_a_larger_one(
        count in 1_u32..200, key: u8, small in 1_u32..=100, more in 0_u32..=99,
    ) {
        let large = (small + more).min(100);
        let (few, many) = (asked_at(count, key, small), asked_at(count, key, large));
        prop_assert!(few.is_subset(&many));
        // Planted: a share rounded up.
        prop_assert!(few.len() <= (count as usize * small as usize / 100).max(1));
        prop_assert_eq!(asked_at(count, key, small), few, "the same look, the same answer");
    }
}

/// One thing that happens.
#[derive(Debug, Clone)]
enum Turn {
    Wait(i64),
    Answer(u32, Outcome),
    Take(u32),
    Act(Act),
    Join(u32),
    Revoke(u32),
    Lock(u32),
    Unlock(u32),
}

fn turn() -> impl Strategy<Value = Turn> {
    let outcome = prop_oneof![
        6 => Just(Outcome::Committed),
        1 => Just(Outcome::Reverted),
        1 => Just(Outcome::Failed),
    ];
    let act = prop_oneof![
        Just(Act::Pause),
        Just(Act::Resume),
        Just(Act::Retry),
        Just(Act::Abort)
    ];
    prop_oneof![
        4 => (1_i64..200_000).prop_map(Turn::Wait),
        20 => (0_u32..60, outcome).prop_map(|(device, outcome)| Turn::Answer(device, outcome)),
        4 => (0_u32..60).prop_map(Turn::Take),
        2 => act.prop_map(Turn::Act),
        1 => (1_u32..5).prop_map(Turn::Join),
        1 => (0_u32..40).prop_map(Turn::Revoke),
        4 => (0_u32..60).prop_map(Turn::Lock),
        2 => (0_u32..60).prop_map(Turn::Unlock),
    ]
}

fn happen(fleet: &mut Fleet, turn: &Turn) {
    let known = |device: &u32| (*device as usize) < fleet.devices.len();
    match turn {
        Turn::Wait(secs) => fleet.wait(*secs),
        Turn::Answer(device, outcome) if known(device) => fleet.answer(*device, *outcome),
        Turn::Take(device) if known(device) => {
            let now = fleet.time();
            fleet.book.taken(*device, now);
        }
        Turn::Act(act) => {
            let _ = fleet.act("r", act);
        }
        Turn::Join(count) => fleet.join(*count),
        Turn::Revoke(device) => fleet.devices[*device as usize].enrolled = false,
        // It is told so where there is no room, or no such device.
        Turn::Lock(device) => drop(fleet.lock(*device)),
        Turn::Unlock(device) => drop(fleet.book.unlock(*device)),
        Turn::Answer(..) | Turn::Take(_) => {}
    }
}

/// How many devices of each ward may be out of service just now, by a count of our own: whoever
/// has an offer, or took one that was then taken back, until the times of the plan are over; and
/// whoever took a lock, until its time is over.
fn away(fleet: &Fleet) -> BTreeMap<String, u32> {
    let mut all = BTreeSet::new();
    for (device, row) in fleet.rollout("r").deployments() {
        let over = row.offered_at + 7 * 86_400 + 60 + 3600;
        let took = row.phase == Phase::Withdrawn && row.taken_at.is_some();
        if (row.phase == Phase::Offered || took) && fleet.now < over {
            all.insert(device);
        }
    }
    let locks = fleet.book.locks();
    all.extend(
        locks
            .filter(|(_, lock)| fleet.now < lock.until)
            .map(|(device, _)| device),
    );
    let mut away = BTreeMap::new();
    for device in all {
        let ward = fleet.devices[device as usize].tags["ward"].clone();
        *away.entry(ward).or_default() += 1;
    }
    away
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn in_every_history(key: u8, turns in prop::collection::vec(turn(), 1..120)) {
        let mut fleet = Fleet::new(40);
        fleet.caps = vec![cap("ward", 2)];
        let shape = steps(&["5%", "25%", "100%"]);
        fleet.start(plan("r", "2.0.0", "attempts = 3\n", &shape), release("2.0.0", 2), key);
        let mut aborted = false;
        for turn in &turns {
            happen(&mut fleet, turn);
            let halted_before = matches!(fleet.rollout("r").status.stage, Stage::Halted { .. });
            let asked_before = fleet.rollout("r").tally().offered;
            let changes = fleet.look();
            let rollout = fleet.rollout("r");
            let tally = rollout.tally();

            // Never more than the step allows. Planted: room for a whole step at each
            // look.
            let population = fleet.devices.len();
            prop_assert!(tally.offered as usize <= rollout.limit(population).max(asked_before as usize));
            // Never more of a ward than its cap. Planted: a device that took an offer and
            // lost it again holds no permit.
            prop_assert!(away(&fleet).values().all(|count| *count <= 2), "{:?}", away(&fleet));
            // Halting is sticky: a look never leaves it. Planted: a halt that leaves
            // offers, as a pause does.
            let stage = rollout.status.stage.clone();
            if halted_before {
                let halted = matches!(stage, Stage::Halted { .. });
                prop_assert!(halted && tally.offered == asked_before);
            }
            if matches!(stage, Stage::Halted { .. } | Stage::Aborted) {
                prop_assert_eq!(tally.open, 0, "a halt reaches every offer");
            }
            aborted |= stage == Stage::Aborted;
            prop_assert!(!aborted || stage == Stage::Aborted, "an abort is for ever");
            // At most one open offer a device, and never to one that may not speak to us: only
            // an offer from before its revocation may stand.
            for change in &changes {
                let Change::Deployment { device, row, .. } = change else { continue };
                if row.settled_at.is_none() && row.offered_at == fleet.now && row.taken_at.is_none() {
                    prop_assert!(fleet.devices[*device as usize].enrolled);
                }
            }
            // No permit outlives its time.
            let latest = fleet.now + 7 * 86_400 + 60 + 3600;
            prop_assert!(rollout.deployments().all(|(_, row)| row.lease_until <= latest));
        }
        // A book read back from its rows is the same book: the tally is made of nothing else.
        let rows = fleet.rollout("r").deployments();
        let rows: Vec<_> = rows.map(|(device, row)| (crate::fleet::name("r"), device, row.clone())).collect();
        let again = Book::of([rollout_row(fleet.rollout("r"))], rows, []);
        prop_assert_eq!(again.rollouts().next().unwrap().tally(), fleet.rollout("r").tally());
    }

    /// Once every offer's time is over, the wards are free whatever became of the devices. Planted:
    /// an open offer that holds its permit until it is answered.
    #[test]
    fn no_permit_is_lost_for_ever(turns in prop::collection::vec(turn(), 1..60)) {
        let mut fleet = Fleet::new(40);
        fleet.caps = vec![cap("ward", 1)];
        fleet.start(plan("r", "2.0.0", "", &steps(&["100%"])), release("2.0.0", 2), 7);
        for turn in &turns {
            happen(&mut fleet, turn);
            fleet.look();
        }
        let _ = fleet.act("r", &Act::Pause);
        fleet.wait(30 * 86_400);
        let rows = fleet.rollout("r").deployments();
        prop_assert_eq!(rows.filter(|(_, row)| row.holds_permit(fleet.now)).count(), 0);
        fleet.look();
        prop_assert_eq!(fleet.book.locks().count(), 0);
    }

    /// Whoever is alive gets its update, however many of its ward are dead, and whatever older
    /// rollouts still ask of those. Found by the fleet simulator. Planted: the dead asked rollout by
    /// rollout; the dead asked in the order of places.
    #[test]
    fn the_dead_hold_nobody_up(key: u8, dead in prop::collection::vec(0..3u8, 12), sleep in 0..12usize) {
        let mut fleet = Fleet::new(12);
        fleet.caps = vec![cap("ward", 1)];
        let hour = "begin_within_secs = 3600";
        fleet.start(plan("old", "2.0.0", hour, &steps(&["100%"])), release("2.0.0", 2), key);
        fleet.start(plan("new", "3.0.0", hour, &steps(&["100%"])), release("3.0.0", 3), key.wrapping_add(1));
        let alive: Vec<u32> = (0..12).filter(|device| dead[*device as usize] > 0).collect();
        for hour in 0..40 {
            fleet.look();
            for device in alive.iter().copied() {
                // Some are in a drawer at first, and as silent as the dead.
                if dead[device as usize] > 1 || hour >= sleep {
                    fleet.answer(device, Outcome::Committed);
                }
            }
            fleet.wait(3600);
        }
        prop_assert_eq!(fleet.in_phase("new", Phase::Committed), alive);
    }
}

/// The row as the store has it: without deployments.
fn rollout_row(rollout: &ampoule_server::rollout::Rollout) -> ampoule_server::rollout::Rollout {
    let text = serde_json::to_string(rollout).expect("plain data");
    serde_json::from_str(&text).expect("what was written is read")
}
