//! Freeze: the attacker keeps serving what was true, so that a repair never arrives.
//!
//! Method: each role expires in turn while its number keeps rising. Expiry is judged at the time
//! fixed when the update starts. Catches: an expiry check left out for one role, done before the
//! signature check, or done with a clock read again in the middle.

use ampoule_protocol::metadata::RoleType;
use ampoule_protocol::time::UtcTime;
use ampoule_tests::sim::RepositorySimulator;
use ampoule_tests::world::{Versions, World};

fn expiring(role: RoleType, repo: &mut RepositorySimulator, at: UtcTime) {
    match role {
        RoleType::Root => repo.root.expires = at,
        RoleType::Timestamp => repo.timestamp.expires = at,
        RoleType::Snapshot => repo.snapshot.expires = at,
        RoleType::Targets => repo.targets.expires = at,
    }
}

fn expired_from_the_start(role: RoleType) -> World {
    let mut world = World::new();
    let at = world.now;
    expiring(role, &mut world.repo, at);
    if role == RoleType::Root {
        world.repo.root.version += 1;
    }
    world.repo.release();
    world
}

#[test]
fn of_root() {
    let mut world = expired_from_the_start(RoleType::Root);
    assert_eq!(world.refusal(), "metadata-expired");
    let versions = world.trusted();
    assert_eq!(
        (versions.root, versions.timestamp),
        (Some(2), None),
        "the chain was followed"
    );
}

#[test]
fn of_timestamp() {
    let mut world = expired_from_the_start(RoleType::Timestamp);
    assert_eq!(world.refusal(), "metadata-expired");
    assert_eq!(world.trusted().timestamp, None);
}

#[test]
fn of_snapshot() {
    let mut world = expired_from_the_start(RoleType::Snapshot);
    assert_eq!(world.refusal(), "metadata-expired");
    assert_eq!(
        (world.trusted().timestamp, world.trusted().snapshot),
        (Some(2), None)
    );
}

#[test]
fn of_targets() {
    let mut world = expired_from_the_start(RoleType::Targets);
    assert_eq!(world.refusal(), "metadata-expired");
    assert_eq!(
        (world.trusted().snapshot, world.trusted().targets),
        (Some(2), None)
    );
}

#[test]
fn of_a_delegated_role() {
    let mut world = World::new();
    world.repo.delegate("targets", "pump", &["pump/*"], true);
    world.repo.add_delegated_target("pump", "pump/a", b"a");
    world
        .repo
        .delegated
        .get_mut("pump")
        .expect("delegated")
        .expires = world.now;
    world.repo.release();
    assert_eq!(world.download_refusal("pump/a"), "metadata-expired");
    assert!(world.trusted().delegated.is_empty());
    assert_eq!(world.trusted().targets, Some(2));
}

/// One second before expiry is fresh, the second itself is not.
#[test]
fn the_edge_is_exclusive() {
    let mut world = World::refreshed();
    world.now = world.repo.timestamp.expires.plus_secs(-1);
    world.refresh().expect("one second is left");
    world.wait_secs(1);
    assert_eq!(world.refusal(), "metadata-expired");
}

/// Time passes and nothing new comes: what was stored stops authorising, and stays as the floor.
#[test]
fn by_silence() {
    let mut world = World::refreshed();
    world.wait_secs(31 * 86_400);
    let before = world.device.fingerprint();
    assert_eq!(world.refusal(), "metadata-expired");
    assert_eq!(world.device.fingerprint(), before);
    assert_eq!(world.trusted(), Versions::of(1, 1, 1, 1));
}

/// The trusted files themselves are served for ever, together with a root that keeps rising: the
/// stored timestamp is not fresh because it was fresh once.
#[test]
fn behind_a_living_root() {
    let mut world = World::refreshed();
    world.wait_secs(31 * 86_400);
    world.repo.root.expires = world.now.plus_secs(86_400);
    world.repo.root.version += 1;
    world.repo.publish_root();
    assert_eq!(world.refusal(), "metadata-expired");
    assert_eq!(world.trusted(), Versions::of(2, 1, 1, 1));
}

/// A repository that answers "not found" for what it must have.
#[test]
fn by_withholding() {
    for file in ["timestamp.json", "2.snapshot.json", "2.targets.json"] {
        let mut world = World::refreshed();
        world.repo.release();
        world.repo.tree.remove(&format!("metadata/{file}"));
        assert_eq!(world.refusal(), "metadata-missing", "{file}");
        assert_eq!(world.trusted().targets, Some(1), "{file}");
    }
}

/// An expired file in the store is replaced by a fresh one, not trusted in its place.
#[test]
fn ends_when_the_repository_lives_again() {
    let mut world = World::refreshed();
    world.wait_secs(31 * 86_400);
    let later = world.now.plus_secs(30 * 86_400);
    for role in RoleType::ALL {
        expiring(role, &mut world.repo, later);
    }
    world.repo.root.version += 1;
    world.repo.release();
    world.refresh().expect("all roles are fresh again");
    assert_eq!(world.trusted(), Versions::of(2, 2, 2, 2));
}
