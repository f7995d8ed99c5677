//! Mix-and-match: each file is genuine, but they never belonged together.
//!
//! Method: files of two states of the repository, or of two roles, are served side by side.
//! Catches: a snapshot's numbers or digests not compared, a role's file taken for another role's.

use ampoule_tests::sim::wrong_hashes;
use ampoule_tests::world::{Versions, World};

#[test]
fn an_older_targets_under_the_newer_name() {
    let mut world = World::refreshed();
    let old = world.repo.tree["metadata/1.targets.json"].clone();
    world.repo.release();
    world
        .repo
        .tree
        .insert("metadata/2.targets.json".into(), old);
    assert_eq!(world.refusal(), "metadata-version");
    assert_eq!(world.trusted(), Versions::of(1, 2, 2, 1));
}

#[test]
fn a_newer_targets_than_the_snapshot_names() {
    let mut world = World::refreshed();
    world.repo.release();
    let newer = {
        let mut ahead = world.repo.clone();
        ahead.release();
        ahead.tree["metadata/3.targets.json"].clone()
    };
    world
        .repo
        .tree
        .insert("metadata/2.targets.json".into(), newer);
    assert_eq!(world.refusal(), "metadata-version");
    assert_eq!(world.trusted(), Versions::of(1, 2, 2, 1));
}

#[test]
fn an_older_snapshot_under_the_newer_name() {
    let mut world = World::new();
    let old = world.repo.tree["metadata/1.snapshot.json"].clone();
    world.repo.release();
    world
        .repo
        .tree
        .insert("metadata/2.snapshot.json".into(), old);
    assert_eq!(world.refusal(), "metadata-version");
    assert_eq!(world.trusted().snapshot, None);
}

#[test]
fn a_snapshot_with_another_digest() {
    let mut world = World::refreshed();
    world.repo.describe_files = true;
    world.repo.release();
    world.repo.link_snapshot = false;
    world.repo.timestamp.snapshot.hashes = Some(wrong_hashes());
    world.repo.publish();
    assert_eq!(world.refusal(), "metadata-mismatch");
    assert_eq!(world.trusted(), Versions::of(1, 2, 1, 1));
}

#[test]
fn a_snapshot_with_another_length() {
    let mut world = World::refreshed();
    world.repo.describe_files = true;
    world.repo.release();
    world.repo.link_snapshot = false;
    let length = world.repo.timestamp.snapshot.length.expect("described");
    world.repo.timestamp.snapshot.length = Some(length + 1);
    world.repo.publish();
    assert_eq!(world.refusal(), "metadata-mismatch");
    assert_eq!(world.trusted(), Versions::of(1, 2, 1, 1));
}

#[test]
fn targets_with_another_digest() {
    let mut world = World::refreshed();
    world.repo.describe_files = true;
    world.repo.release();
    world.repo.link_targets = false;
    let described = world
        .repo
        .snapshot
        .meta
        .get_mut("targets.json")
        .expect("linked");
    described.hashes = Some(wrong_hashes());
    world.repo.publish();
    assert_eq!(world.refusal(), "metadata-mismatch");
    assert_eq!(world.trusted(), Versions::of(1, 2, 2, 1));
}

/// Same number, both genuinely signed, but the digest tells them apart.
#[test]
fn a_stored_targets_of_the_same_number_with_another_digest() {
    let mut world = World::new();
    world.repo.describe_files = true;
    world.repo.release();
    world.refresh().expect("sound");
    world.repo.add_target("file", b"content");
    world.repo.timestamp.version += 1;
    world.repo.snapshot.version += 1;
    world.repo.publish();
    world.device.requests.clear();
    assert_eq!(world.download("file").expect("fetched again"), b"content");
    assert!(world.device.requests.contains(&"2.targets.json".to_owned()));
}

/// The same keys sign both; only the kind inside tells them apart.
#[test]
fn a_snapshot_served_as_targets() {
    let mut world = World::new();
    let keys = world.repo.snapshot.signers.clone();
    world
        .repo
        .set_keys(ampoule_protocol::metadata::RoleType::Targets, &keys, 1);
    world.repo.root.version += 1;
    world.repo.publish();
    let snapshot = world.repo.tree["metadata/1.snapshot.json"].clone();
    world
        .repo
        .tree
        .insert("metadata/1.targets.json".into(), snapshot);
    assert_eq!(world.refusal(), "metadata-malformed");
    assert_eq!(world.trusted().targets, None);
}

#[test]
fn one_delegated_role_served_as_another() {
    let mut world = World::new();
    world.repo.delegate("targets", "pump", &["pump/*"], true);
    world
        .repo
        .delegate("targets", "monitor", &["monitor/*"], true);
    world.repo.add_delegated_target("pump", "pump/a", b"a");
    world.repo.release();
    let monitor = world.repo.tree["metadata/2.monitor.json"].clone();
    world
        .repo
        .tree
        .insert("metadata/2.pump.json".into(), monitor);
    assert_eq!(world.download_refusal("pump/a"), "metadata-unsigned");
    assert!(world.trusted().delegated.is_empty());
}

#[test]
fn a_role_that_the_snapshot_does_not_list() {
    let mut world = World::new();
    world.repo.delegate("targets", "pump", &["pump/*"], true);
    world.repo.add_delegated_target("pump", "pump/a", b"a");
    world.repo.release();
    world.repo.link_targets = false;
    world.repo.snapshot.meta.remove("pump.json");
    world.repo.publish();
    assert_eq!(world.download_refusal("pump/a"), "metadata-not-in-snapshot");
    assert!(
        !world.device.requests.contains(&"2.pump.json".to_owned()),
        "it was not even asked"
    );
}

#[test]
fn a_target_with_the_content_of_another() {
    let mut world = World::new();
    world.repo.add_target("a", b"content of a");
    world.repo.add_target("b", b"content of b");
    world.repo.release();
    let (a, b) = (world.repo.content_path("a"), world.repo.content_path("b"));
    let other = world.repo.tree[&b].clone();
    world.repo.tree.insert(a, other);
    assert_eq!(world.download_refusal("a"), "target-mismatch");
    assert_eq!(
        world.download("b").expect("b is as it was"),
        b"content of b"
    );
}
