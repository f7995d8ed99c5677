//! Rollback: the attacker replays what was once true.
//!
//! Method: the device refreshes a newer repository, then is shown an older file, or a newer file
//! that points to older ones. Catches: a version compared with `<=`, not compared at all, compared
//! only against what this run fetched, or against the new timestamp instead of the stored one.

use ampoule_tests::world::{Versions, World};

/// At version 2 of timestamp, snapshot and targets.
fn world_at_2() -> World {
    let mut world = World::refreshed();
    world.repo.release();
    world.refresh().expect("a newer repository is trusted");
    assert_eq!(world.trusted(), Versions::of(1, 2, 2, 2));
    world
}

#[test]
fn of_timestamp() {
    let mut world = world_at_2();
    world.repo.timestamp.version -= 1;
    world.repo.publish();
    assert_eq!(world.refusal(), "metadata-rollback");
    assert_eq!(world.trusted(), Versions::of(1, 2, 2, 2));
}

#[test]
fn of_timestamp_by_replaying_the_very_file() {
    let mut world = World::refreshed();
    let old = world.repo.tree["metadata/timestamp.json"].clone();
    world.repo.release();
    world.refresh().expect("a newer repository is trusted");
    world
        .repo
        .tree
        .insert("metadata/timestamp.json".into(), old);
    assert_eq!(world.refusal(), "metadata-rollback");
    assert_eq!(world.trusted(), Versions::of(1, 2, 2, 2));
}

#[test]
fn of_snapshot_by_a_newer_timestamp() {
    let mut world = world_at_2();
    world.repo.timestamp.version += 1;
    world.repo.snapshot.version -= 1;
    world.repo.publish();
    assert_eq!(world.refusal(), "metadata-rollback");
    assert_eq!(
        world.trusted(),
        Versions::of(1, 2, 2, 2),
        "a lying timestamp is not kept"
    );
}

#[test]
fn of_targets_by_a_newer_snapshot() {
    let mut world = world_at_2();
    world.repo.timestamp.version += 1;
    world.repo.snapshot.version += 1;
    world.repo.targets.version -= 1;
    world.repo.publish();
    assert_eq!(world.refusal(), "metadata-rollback");
    assert_eq!(world.trusted(), Versions::of(1, 3, 2, 2));
}

/// The stored snapshot is the floor even where its digest is not the one the timestamp names.
#[test]
fn of_targets_where_files_are_described() {
    let mut world = World::new();
    world.repo.describe_files = true;
    world.repo.release();
    world.refresh().expect("digests that fit are trusted");
    world.repo.release();
    world.repo.targets.version = 1;
    world.repo.publish();
    assert_eq!(world.refusal(), "metadata-rollback");
    assert_eq!(world.trusted(), Versions::of(1, 3, 2, 2));
}

#[test]
fn of_a_delegated_role() {
    let mut world = World::new();
    world.repo.delegate("targets", "pump", &["pump/*"], true);
    world.repo.add_delegated_target("pump", "pump/a", b"a");
    world.repo.release();
    world.repo.release();
    world.download("pump/a").expect("a delegated target");
    assert_eq!(world.trusted().delegated["pump"], 3);
    world.repo.timestamp.version += 1;
    world.repo.snapshot.version += 1;
    world
        .repo
        .delegated
        .get_mut("pump")
        .expect("delegated")
        .version -= 1;
    world.repo.publish();
    assert_eq!(world.download_refusal("pump/a"), "metadata-rollback");
    assert_eq!(world.trusted().delegated["pump"], 3);
    assert_eq!(world.trusted().snapshot, Some(3));
}

#[test]
fn by_removing_a_role_from_the_snapshot() {
    let mut world = World::new();
    world.repo.delegate("targets", "pump", &["pump/*"], true);
    world.repo.release();
    world.refresh().expect("a sound repository");
    world.repo.delegated.remove("pump");
    world.repo.snapshot.meta.remove("pump.json");
    world.repo.release();
    assert_eq!(world.refusal(), "metadata-role-removed");
    assert_eq!(world.trusted().snapshot, Some(2));
}

/// A root that was replaced stays replaced, even where both are signed by the same holders.
#[test]
fn of_root() {
    let mut world = World::refreshed();
    let first = world.repo.tree["metadata/1.root.json"].clone();
    world.repo.release_root();
    world.refresh().expect("a newer root");
    world.repo.tree.insert("metadata/3.root.json".into(), first);
    assert_eq!(world.refusal(), "metadata-version");
    assert_eq!(world.trusted().root, Some(2));
}

/// An expired file that is stored still bars the way down.
#[test]
fn below_what_is_expired_by_now() {
    let mut world = world_at_2();
    let old = {
        let mut repo = world.repo.clone();
        repo.timestamp.version = 1;
        repo.timestamp.expires = world.now.plus_secs(1000 * 86_400);
        repo.publish();
        repo.tree["metadata/timestamp.json"].clone()
    };
    world.wait_secs(90 * 86_400);
    world.repo.root.expires = world.now.plus_secs(86_400);
    world.repo.release_root();
    world
        .repo
        .tree
        .insert("metadata/timestamp.json".into(), old);
    assert_eq!(world.refusal(), "metadata-rollback");
    assert_eq!(world.trusted(), Versions::of(2, 2, 2, 2));
}

/// A timestamp of the same number with another content is not taken; the first one stays.
#[test]
fn by_a_second_file_of_the_same_version() {
    let mut world = world_at_2();
    let trusted = world.device.store.files["timestamp.json"].clone();
    world.repo.link_snapshot = false;
    world.repo.timestamp.snapshot.version =
        ampoule_protocol::version::MetaVersion::new(9).expect("not zero");
    world.repo.publish();
    world
        .refresh()
        .expect("the trusted timestamp goes on to hold");
    assert_eq!(world.device.store.files["timestamp.json"], trusted);
    assert!(
        !world
            .device
            .requests
            .contains(&"9.snapshot.json".to_owned())
    );
}
