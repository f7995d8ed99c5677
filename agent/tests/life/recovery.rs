//! A device whose slots do not boot any more, from its recovery image.
//!
//! Method: bytes of one slot or both are changed behind the device's back. The recovery image looks
//! at them, repairs, and the device boots again; the floor holds there too.

use ampoule_agent::driver::{Holds, Repair, Rest};
use ampoule_protocol::release::Install;

use crate::world::{World, noise};

/// A device that ran 1.0.0 in b, and runs 1.1.0 in a.
fn world_of(indexes: [u64; 2]) -> World {
    let mut world = World::new(&noise(0, 20_000));
    for (seed, index, version) in [(1, indexes[0], "1.0.0"), (2, indexes[1], "1.1.0")] {
        let image = noise(seed, 20_000);
        world.repo.release(version, index, Install::Slot, &image);
        world.serve();
        world.settle();
    }
    assert!(holds(&world, "a", 2) && holds(&world, "b", 1));
    world.is_recovery = true;
    world
}

fn world() -> World {
    world_of([1, 2])
}

fn holds(world: &World, slot: &str, version: u32) -> bool {
    let content = std::fs::read(world.path(&format!("rootfs.{slot}"))).expect("a slot");
    content == noise(version, 20_000)
}

fn damage(world: &World, slot: &str) {
    let path = world.path(&format!("rootfs.{slot}"));
    let mut content = std::fs::read(&path).expect("a slot");
    content[12_345] ^= 1;
    std::fs::write(&path, content).expect("writes");
}

#[test]
fn whole_slots_are_left_alone() {
    let world = world();
    let (findings, repair) = world.driver().recover().expect("looks");
    assert_eq!(repair, Repair::NotNeeded);
    assert!(findings.iter().all(|finding| finding.holds == Holds::Whole));
}

#[test]
fn the_slot_that_is_whole_becomes_the_default() {
    let mut world = world_of([1, 1]);
    damage(&world, "a");
    let (_, repair) = world.driver().recover().expect("repairs");
    assert!(matches!(repair, Repair::Switched(_)));
    world.is_recovery = false;
    world.boot();
    let boot = std::fs::read_to_string(world.path("rootfs.boot.json")).expect("there");
    assert!(boot.contains(r#""running":"b""#), "{boot}");
    // It runs, and the newer one is taken again.
    world.settle();
    assert!(holds(&world, "a", 2));
}

/// Meant to catch: a switch to whatever is whole brings back what the floor keeps away.
#[test]
fn a_whole_slot_below_the_floor_is_not_gone_back_to() {
    let mut world = world();
    damage(&world, "a");
    let (_, repair) = world.driver().recover().expect("repairs");
    assert_eq!(repair, Repair::Refilled(Rest::RestartDue));
    world.is_recovery = false;
    let state = world.settle();
    assert!(holds(&world, "b", 2));
    assert_eq!(state.facts.floor.0, 2);
}

/// Meant to catch: a recovery that believes the journal finds nothing to install.
#[test]
fn with_both_slots_damaged_one_is_filled_tried_and_kept() {
    let mut world = world();
    damage(&world, "a");
    damage(&world, "b");
    let mut driver = world.driver();
    let (findings, repair) = driver.recover().expect("repairs");
    assert!(
        findings
            .iter()
            .all(|finding| finding.holds == Holds::Damaged)
    );
    assert_eq!(
        repair,
        Repair::Refilled(Rest::RestartDue),
        "no gate is closed"
    );
    drop(driver);
    world.is_recovery = false;
    let state = world.settle();
    assert!(
        holds(&world, "b", 2),
        "1.1.0, into the slot that was not the default"
    );
    assert_eq!(state.facts.floor.0, 2);
    let receipts = world.bends.borrow().receipts.clone();
    let codes: Vec<_> = receipts
        .iter()
        .filter_map(|receipt| receipt["code"].as_str())
        .collect();
    assert!(codes.contains(&"slots-damaged"), "{codes:?}");
    assert_eq!(world.last_receipt()["outcome"], "committed");
}

#[test]
fn a_repair_below_the_floor_is_refused() {
    let mut world = world();
    world.repo.withdraw("1.1.0");
    world.serve();
    damage(&world, "a");
    damage(&world, "b");
    let (_, repair) = world.driver().recover().expect("looks");
    assert_eq!(
        repair,
        Repair::Refilled(Rest::Idle),
        "1.0.0 is there, and is below the floor"
    );
    assert!(!holds(&world, "b", 1), "nothing was written");
}
