//! Arbitrary software: the attacker has no key, or not enough of them, or not the right ones.
//!
//! Method: signatures are dropped, made by strangers, or made by keys of another role. Catches: a
//! signature not checked, checked against the keys the file itself brings, or against any key
//! that root lists.

use ampoule_protocol::json::Value;
use ampoule_protocol::metadata::RoleType;
use ampoule_tests::sim::TestKey;
use ampoule_tests::world::{Versions, World};

/// What the device trusts when `role` of version 2 is refused.
fn before(role: RoleType) -> Versions {
    match role {
        RoleType::Root => Versions::of(1, 1, 1, 1),
        RoleType::Timestamp => Versions::of(2, 1, 1, 1),
        RoleType::Snapshot => Versions::of(2, 2, 1, 1),
        RoleType::Targets => Versions::of(2, 2, 2, 1),
    }
}

#[test]
fn nobody_signed() {
    for role in RoleType::ALL {
        let mut world = World::refreshed();
        world.repo.signers(role).clear();
        world.repo.root.version += 1;
        world.repo.release();
        assert_eq!(world.refusal(), "metadata-unsigned", "{role}");
        assert_eq!(world.trusted(), before(role), "{role}");
    }
}

#[test]
fn a_stranger_signed() {
    for role in RoleType::ALL {
        let mut world = World::refreshed();
        *world.repo.signers(role) = vec![TestKey::ed25519("mallory")];
        world.repo.root.version += 1;
        world.repo.release();
        assert_eq!(world.refusal(), "metadata-unsigned", "{role}");
        assert_eq!(world.trusted(), before(role), "{role}");
    }
}

/// The stranger lists the key under the id of the rightful one.
#[test]
fn a_stranger_signed_under_the_name_of_the_rightful_key() {
    for role in RoleType::ALL {
        let mut world = World::refreshed();
        let rightful = world.repo.signers(role)[0].id.clone();
        let mallory = TestKey::ed25519("mallory").listed_as(rightful.as_str());
        *world.repo.signers(role) = vec![mallory];
        world.repo.root.version += 1;
        world.repo.release();
        assert_eq!(world.refusal(), "metadata-unsigned", "{role}");
        assert_eq!(world.trusted(), before(role), "{role}");
    }
}

#[test]
fn the_key_of_another_role_signed() {
    for role in RoleType::ALL {
        let other = if role == RoleType::Timestamp {
            RoleType::Targets
        } else {
            RoleType::Timestamp
        };
        let mut world = World::refreshed();
        let borrowed = world.repo.signers(other).clone();
        *world.repo.signers(role) = borrowed;
        world.repo.root.version += 1;
        world.repo.release();
        assert_eq!(world.refusal(), "metadata-unsigned", "{role}");
        assert_eq!(world.trusted(), before(role), "{role}");
    }
}

/// A new root needs the old holders too, and its own.
#[test]
fn a_root_that_only_its_own_new_keys_signed() {
    let mut world = World::refreshed();
    world
        .repo
        .set_keys(RoleType::Root, &[TestKey::ed25519("usurper")], 1);
    world.repo.release_root();
    assert_eq!(world.refusal(), "metadata-unsigned");
    assert_eq!(world.trusted().root, Some(1));
}

#[test]
fn a_root_that_only_the_old_keys_signed() {
    let mut world = World::refreshed();
    let old = world.repo.root.signers.clone();
    world.repo.rotate(RoleType::Root);
    world.repo.root.signers = old;
    world.repo.release_root();
    assert_eq!(world.refusal(), "metadata-unsigned");
    assert_eq!(world.trusted().root, Some(1));
}

#[test]
fn a_root_that_both_signed_is_the_rotation() {
    let mut world = World::refreshed();
    world.repo.rotate(RoleType::Root);
    world.repo.release_root();
    world.refresh().expect("old and new holders signed");
    assert_eq!(world.trusted().root, Some(2));
}

/// The key that was rotated out signs on: every role in turn.
#[test]
fn a_revoked_key_signed() {
    for role in [RoleType::Timestamp, RoleType::Snapshot, RoleType::Targets] {
        let mut world = World::refreshed();
        let stolen = world.repo.signers(role).clone();
        world.repo.rotate(role);
        *world.repo.signers(role) = stolen;
        world.repo.root.version += 1;
        world.repo.release();
        assert_eq!(world.refusal(), "metadata-unsigned", "{role}");
        assert_eq!(world.trusted(), before(role), "{role}");
    }
}

/// Genuine signatures, changed payload: one more target.
#[test]
fn the_payload_was_changed_after_signing() {
    let mut world = World::new();
    world.repo.add_target("file", b"content");
    world.repo.release();
    world.repo.tamper("metadata/2.targets.json", |file| {
        let Value::Object(members) = file else {
            panic!("an envelope is an object")
        };
        let Some(Value::Object(signed)) = members.get_mut("signed") else {
            panic!("signed")
        };
        let Some(Value::Object(targets)) = signed.get_mut("targets") else {
            panic!("targets")
        };
        let genuine = targets.get("file").expect("a target").clone();
        targets.insert("evil".into(), genuine);
    });
    assert_eq!(world.download_refusal("evil"), "metadata-unsigned");
    assert_eq!(world.trusted().targets, None);
}

#[test]
fn the_content_was_changed() {
    let mut world = World::new();
    world.repo.add_target("file", b"content");
    world.repo.release();
    let path = world.repo.content_path("file");
    world.repo.tree.insert(path, b"malware".to_vec());
    assert_eq!(world.download_refusal("file"), "target-mismatch");
}

/// Trust begins with the root put there at manufacture; one that its keys did not sign is none.
#[test]
fn the_first_root_is_not_signed_by_its_keys() {
    let mut world = World::new();
    world.repo.root.signers = vec![TestKey::ed25519("mallory")];
    world.repo.publish();
    let mut world = World::of(world.repo);
    assert_eq!(world.refusal(), "metadata-unsigned");
    assert!(
        world.device.requests.is_empty(),
        "nothing is asked in the name of such a root"
    );
}
