//! The clock is set back, absent, or wrong: time is a lower bound.
//!
//! Method: the device refreshes with a clock that an attacker, a flat battery or a factory turned
//! back. [`UpdateStart`] takes the later of the clock and a floor (build time, `signed_at` of the
//! trusted timestamp). Catches: a floor that the clock overrides.

use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::UpdateStart;
use ampoule_tests::world::{Versions, World};

/// What a device knows to have passed: the signing time in the trusted timestamp.
fn floor_of(world: &mut World) -> UtcTime {
    let trusted = world.refresh().expect("sound");
    trusted
        .set()
        .timestamp()
        .expect("from a repository")
        .signed_at
        .expect("ours carries it")
}

fn world_signed_now() -> World {
    let mut world = World::new();
    world.repo.timestamp.signed_at = Some(world.now);
    world.repo.timestamp.expires = world.now.plus_secs(86_400);
    world.repo.release();
    world
}

#[test]
fn set_back_before_what_was_signed_last() {
    let mut world = world_signed_now();
    let first = world.repo.tree["metadata/timestamp.json"].clone();
    world.refresh().expect("sound");
    // Ten days later the repository has moved on; the device followed.
    world.wait_secs(10 * 86_400);
    world.repo.timestamp.signed_at = Some(world.now);
    world.repo.timestamp.expires = world.now.plus_secs(86_400);
    world.repo.release();
    let floor = floor_of(&mut world);
    // Two days later its clock says 1970, and the network is in the hands of an attacker who
    // serves what was newest then: not expired by the clock, but by the floor for older files.
    let start = UpdateStart::new(Some(UtcTime::EPOCH), floor);
    world
        .device
        .refresh_at(&world.repo.tree, start)
        .expect("the newest is fresh at the floor");
    world
        .repo
        .tree
        .insert("metadata/timestamp.json".into(), first);
    let refused = world
        .device
        .refresh_at(&world.repo.tree, start)
        .expect_err("a replay");
    assert_eq!(refused.code, "metadata-rollback");
    assert_eq!(world.trusted(), Versions::of(1, 3, 3, 3));
}

#[test]
fn a_floor_after_expiry_refuses_whatever_the_clock_says() {
    let mut world = world_signed_now();
    world.refresh().expect("sound");
    let floor = world.now.plus_secs(2 * 86_400);
    for clock in [None, Some(UtcTime::EPOCH), Some(world.now)] {
        let start = UpdateStart::new(clock, floor);
        let refused = world
            .device
            .refresh_at(&world.repo.tree, start)
            .expect_err("expired");
        assert_eq!(refused.code, "metadata-expired", "{clock:?}");
    }
    assert_eq!(world.trusted(), Versions::of(1, 2, 2, 2));
}

#[test]
fn absent_the_device_stands_at_the_floor() {
    let mut world = world_signed_now();
    let floor = floor_of(&mut world);
    let start = UpdateStart::new(None, floor);
    assert_eq!(start.time(), floor);
    world
        .device
        .refresh_at(&world.repo.tree, start)
        .expect("fresh at the floor");
}

/// A clock far ahead refuses everything as expired; it must not harm what is stored.
#[test]
fn far_ahead_nothing_is_lost() {
    let mut world = world_signed_now();
    world.refresh().expect("sound");
    let before = world.device.fingerprint();
    let ahead = UtcTime::parse("9999-12-31T23:59:59Z").expect("a time");
    let refused = world
        .device
        .refresh(&world.repo.tree, ahead)
        .expect_err("expired by then");
    assert_eq!(refused.code, "metadata-expired");
    assert_eq!(world.device.fingerprint(), before);
    world.refresh().expect("the clock was mended");
}
