//! Locks: permits that devices take for themselves, beside those of offers.

use ampoule_protocol::device::Outcome;
use ampoule_server::rollout::lock::NotLocked;
use ampoule_server::rollout::permits::holders;

use crate::fleet::{Fleet, LOCK_SECS, cap, plan, release, steps};

/// `count` pumps of which one of each ward of four may be away.
fn one_of_a_ward(count: u32) -> Fleet {
    let mut fleet = Fleet::new(count);
    fleet.caps = vec![cap("ward", 1)];
    fleet
}

fn start(fleet: &mut Fleet) {
    let plan = plan("r", "2.0.0", "", &steps(&["100%"]));
    fleet.start(plan, release("2.0.0", 2), 1);
}

/// Catches: locks that offers do not count, a lock that is never free again.
#[test]
fn nobody_of_a_ward_is_asked_while_one_holds_a_lock() {
    let mut fleet = one_of_a_ward(4);
    fleet.lock(2).unwrap();
    start(&mut fleet);
    fleet.look();
    assert_eq!(fleet.offered("r"), [2], "it is away already, so it alone");
    let said = fleet.why("r", 0);
    assert!(said.contains("ward \"0\" hold permits"), "{said}");
    fleet.answer(2, Outcome::Committed);
    fleet.look();
    assert_eq!(fleet.offered("r"), [0; 0], "committed, and still away");
    assert!(fleet.book.unlock(2).is_some());
    fleet.look();
    assert_eq!(fleet.offered("r").len(), 1);
}

/// Catches: offers that locks do not count; a device that is counted twice.
#[test]
fn a_device_with_an_offer_is_away_once_and_its_ward_waits() {
    let mut fleet = one_of_a_ward(4);
    start(&mut fleet);
    fleet.look();
    let asked = fleet.offered("r")[0];
    let other = (asked + 1) % 4;
    let refused = fleet.lock(other).unwrap_err();
    assert!(matches!(refused, NotLocked::Full(_)), "{refused}");
    assert_eq!(
        refused.to_string(),
        "1 devices with ward \"0\" hold permits, no more may at once; ask again"
    );
    fleet.lock(asked).unwrap();
    let (devices, caps) = (fleet.devices.as_slice(), fleet.caps.as_slice());
    let held = holders(&fleet.book, devices, caps, fleet.time());
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].offers.len(), held[0].lock.is_some()), (1, true));
    fleet.answer(asked, Outcome::Committed);
    assert!(fleet.lock(other).is_err(), "the lock outlives the offer");
    fleet.book.unlock(asked);
    fleet.lock(other).unwrap();
}

/// It may lie there half updated. Catches: permits of a rollout in which nothing is open any more.
#[test]
fn a_device_that_fell_silent_is_away_until_its_permit_ends() {
    let mut fleet = one_of_a_ward(2);
    let more = "begin_within_secs = 600\nanswer_within_secs = 1800";
    let plan = plan("r", "2.0.0", more, &steps(&["100%"]));
    fleet.start(plan, release("2.0.0", 2), 1);
    fleet.look();
    let asked = fleet.offered("r")[0];
    let now = fleet.time();
    fleet.book.taken(asked, now);
    fleet.wait(1800);
    fleet.look();
    let tally = fleet.rollout("r").tally();
    assert_eq!((tally.silent, tally.open, tally.withdrawn), (1, 0, 0));
    let refused = fleet.lock(1 - asked).unwrap_err();
    assert!(matches!(refused, NotLocked::Full(_)), "{refused}");
    fleet.wait(600 + 3600);
    fleet.lock(1 - asked).unwrap();
}

/// Catches: a second lock of one device, a lock that is given back once for each time it was asked
/// for, one that ends though its device asked a moment ago, one that does not end.
#[test]
fn a_lock_is_one_however_often_it_is_asked_for_and_ends_by_itself() {
    let mut fleet = one_of_a_ward(4);
    fleet.lock(1).unwrap();
    fleet.wait(LOCK_SECS - 1);
    fleet.lock(1).unwrap();
    fleet.wait(LOCK_SECS - 1);
    assert!(fleet.look().is_empty());
    assert!(fleet.lock(3).is_err(), "it was prolonged");
    let (_, lock) = fleet.book.locks().next().unwrap();
    assert_eq!(lock.until - lock.since, 2 * LOCK_SECS - 1);
    fleet.wait(1);
    fleet.lock(3).unwrap();
    assert_eq!(
        fleet.look().len(),
        1,
        "the look writes down that it is over"
    );
    let holders: Vec<_> = fleet.book.locks().map(|(device, _)| device).collect();
    assert_eq!(holders, [3]);
    assert!(fleet.book.unlock(3).is_some());
    assert!(fleet.book.unlock(3).is_none(), "nothing to give back");
}

/// Catches: a device that believes itself in another ward than the server counts it in.
#[test]
fn a_group_is_one_by_which_the_device_is_counted() {
    let mut fleet = one_of_a_ward(4);
    fleet.lock_as(0, "0").unwrap();
    let refused = fleet.lock_as(0, "icu-7").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the device is in no group \"icu-7\"; it asks as \"default\" or one of: 0"
    );
    assert!(
        fleet.lock_as(99, "default").is_err(),
        "nobody of that number"
    );
    // Whoever has no such tag is counted by nobody, as with offers.
    fleet.caps[0].tag = "patient".into();
    for device in 0..4 {
        fleet.lock(device).unwrap();
    }
    let refused = fleet.lock_as(0, "0").unwrap_err().to_string();
    assert!(refused.ends_with("no tag of it is counted, so it asks as \"default\""));
}

/// A dry run waits for locks as the rollout will.
#[test]
fn a_dry_run_goes_on_when_a_lock_ends() {
    use ampoule_server::rollout::cohort::CohortKey;
    use ampoule_server::rollout::dry_run::{Assumed, dry_run};
    let mut fleet = one_of_a_ward(1);
    fleet.join(1);
    fleet.set_tag(1, "ward", "0");
    fleet.lock(0).unwrap();
    let plan = plan(
        "r",
        "2.0.0",
        "filter = \"device = pump-0001\"",
        &steps(&["100%"]),
    );
    let key = CohortKey::new([1; 32]);
    let rollout =
        ampoule_server::rollout::Rollout::new(plan, release("2.0.0", 2), key, fleet.time());
    let world = (fleet.devices.as_slice(), fleet.caps.as_slice());
    let told = dry_run(
        &fleet.book,
        rollout,
        world,
        Assumed::default(),
        fleet.time(),
    )
    .unwrap();
    assert_eq!(told.steps[0].at.unix(), fleet.now + LOCK_SECS);
}

/// Two caps count the same two devices: each of them is away once.
#[test]
fn a_device_that_two_caps_count_is_away_once() {
    let mut fleet = Fleet::new(4);
    fleet.caps = vec![cap("ward", 2), cap("patient", 2)];
    for device in 0..2 {
        fleet.set_tag(device, "patient", "p");
    }
    fleet.lock(0).unwrap();
    fleet.lock(1).unwrap();
    assert!(fleet.lock(2).is_err(), "two of the ward are away");
}
