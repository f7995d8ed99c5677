//! Fast-forward: a thief raises a number to its end, so that the rightful holder has none left.
//!
//! Method: a stolen key publishes huge versions; the holder rotates the key in root and starts
//! again from low numbers. The device must recover for exactly the role whose key was rotated, and
//! for nothing without rotation. Catches: floors that outlive the keys that set them, and floors
//! dropped for any root change.

use ampoule_protocol::metadata::RoleType;
use ampoule_tests::world::{Versions, World};

const END: u64 = u64::MAX;

#[test]
fn of_timestamp_is_mended_by_rotating_its_key() {
    let mut world = World::refreshed();
    world.repo.timestamp.version = END;
    world.repo.publish();
    world.refresh().expect("the thief has the key");
    world.repo.timestamp.version = 2;
    world.repo.release_root();
    assert_eq!(
        world.refusal(),
        "metadata-rollback",
        "a new root alone mends nothing"
    );
    world.repo.rotate(RoleType::Timestamp);
    world.repo.release_root();
    world
        .refresh()
        .expect("the floor went with the key that set it");
    assert_eq!(world.trusted(), Versions::of(3, 2, 1, 1));
}

#[test]
fn of_snapshot_is_mended_by_rotating_its_key_and_that_of_timestamp() {
    let mut world = World::refreshed();
    world.repo.snapshot.version = END;
    world.repo.timestamp.version += 1;
    world.repo.publish();
    world.refresh().expect("the thief has the keys");
    world.repo.snapshot.version = 2;
    world.repo.timestamp.version += 1;
    world.repo.rotate(RoleType::Snapshot);
    world.repo.release_root();
    assert_eq!(
        world.refusal(),
        "metadata-rollback",
        "the old timestamp still names the end"
    );
    world.repo.rotate(RoleType::Timestamp);
    world.repo.release_root();
    world.refresh().expect("both floors went");
    assert_eq!(world.trusted(), Versions::of(3, 3, 2, 1));
}

#[test]
fn of_targets_is_mended_by_rotating_the_key_of_snapshot() {
    let mut world = World::refreshed();
    world.repo.targets.version = END;
    world.repo.snapshot.version += 1;
    world.repo.timestamp.version += 1;
    world.repo.publish();
    world.refresh().expect("the thief has the keys");
    world.repo.targets.version = 2;
    world.repo.snapshot.version += 1;
    world.repo.timestamp.version += 1;
    world.repo.release_root();
    assert_eq!(world.refusal(), "metadata-rollback");
    world.repo.rotate(RoleType::Snapshot);
    world.repo.timestamp.version += 1;
    world.repo.release_root();
    world
        .refresh()
        .expect("the floor of targets stood in the old snapshot");
    assert_eq!(world.trusted().targets, Some(2));
}

/// Root has no such recovery; its numbers rise by one, so that a thief of root gains nothing.
#[test]
fn of_root_is_impossible() {
    let mut world = World::refreshed();
    world.repo.root.version = END;
    world.repo.publish();
    let jump = world.repo.tree[&format!("metadata/{END}.root.json")].clone();
    world.repo.tree.insert("metadata/2.root.json".into(), jump);
    assert_eq!(world.refusal(), "metadata-version");
    assert_eq!(world.trusted().root, Some(1));
}

/// Numbers beyond 64 bits are no numbers.
#[test]
fn beyond_the_end_of_the_numbers() {
    let mut world = World::refreshed();
    for number in [
        "18446744073709551616",
        "1e3",
        "2.0",
        "-1",
        "0",
        "1E400",
        "02",
    ] {
        let file = String::from_utf8(world.repo.timestamp.to_file()).expect("JSON is UTF-8");
        let file = file.replace("\"version\":1}", &format!("\"version\":{number}}}"));
        world
            .repo
            .tree
            .insert("metadata/timestamp.json".into(), file.into_bytes());
        let code = world.refusal();
        assert!(
            code == "metadata-malformed" || code == "metadata-unsigned",
            "{number}: {code}"
        );
        assert_eq!(world.trusted(), Versions::of(1, 1, 1, 1), "{number}");
    }
}
