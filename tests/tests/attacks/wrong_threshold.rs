//! Wrong threshold: fewer holders than root asks for, or a threshold that asks for nobody.
//!
//! Method: 3 keys, threshold 2 or more, some signatures left out, broken or foreign. Catches:
//! `signed > 0` where `signed >= threshold` is meant, a threshold of 0 read as satisfied, bad
//! signatures that abort instead of not counting.

use ampoule_protocol::json::Value;
use ampoule_protocol::metadata::RoleType;
use ampoule_tests::sim::TestKey;
use ampoule_tests::world::World;

fn keys(count: usize) -> Vec<TestKey> {
    (0..count)
        .map(|n| TestKey::ed25519(&format!("holder {n}")))
        .collect()
}

/// Targets need `threshold` of three; `signers` of them sign.
fn targets_signed_by(signers: usize, threshold: u64) -> World {
    let mut world = World::new();
    let all = keys(3);
    world.repo.set_keys(RoleType::Targets, &all, threshold);
    world.repo.targets.signers = all[..signers].to_vec();
    world.repo.release_root();
    world
}

#[test]
fn one_below() {
    for (signers, threshold) in [(0, 1), (1, 2), (2, 3)] {
        let mut world = targets_signed_by(signers, threshold);
        assert_eq!(
            world.refusal(),
            "metadata-unsigned",
            "{signers} of {threshold}"
        );
        assert_eq!(world.trusted().targets, None);
    }
}

#[test]
fn exactly_met_and_exceeded() {
    for (signers, threshold) in [(1, 1), (2, 2), (3, 3), (3, 1)] {
        targets_signed_by(signers, threshold)
            .refresh()
            .expect("enough holders signed");
    }
}

#[test]
fn more_than_there_are_keys() {
    let mut world = targets_signed_by(3, 4);
    assert_eq!(world.refusal(), "metadata-unsigned");
    assert_eq!(world.trusted().root, Some(2));
}

#[test]
fn zero() {
    for role in RoleType::ALL {
        let mut world = World::new();
        world
            .repo
            .root
            .roles
            .get_mut(&role)
            .expect("all four")
            .threshold = 0;
        world.repo.release_root();
        assert_eq!(world.refusal(), "metadata-malformed", "{role}");
        assert_eq!(world.trusted().root, Some(1), "{role}");
    }
}

#[test]
fn zero_for_a_delegated_role() {
    let mut world = World::new();
    world.repo.delegate("targets", "pump", &["pump/*"], true);
    let delegations = world.repo.delegations("targets");
    let ampoule_protocol::metadata::Listing::Roles(roles) = &mut delegations.roles else {
        panic!("roles are listed")
    };
    roles[0].keys.threshold = 0;
    world.repo.release();
    assert_eq!(world.refusal(), "metadata-malformed");
    assert_eq!(world.trusted().targets, None);
}

/// A new root must meet the old threshold and its own; each alone is not enough.
#[test]
fn a_root_below_the_old_or_the_new_one() {
    let (old, new) = (
        keys(2),
        vec![TestKey::ed25519("new 0"), TestKey::ed25519("new 1")],
    );
    let rotation = |signers: &[&TestKey]| {
        let mut world = World::new();
        world.repo.set_keys(RoleType::Root, &old, 2);
        world.repo.publish();
        let mut world = World::of(world.repo);
        world.repo.set_keys(RoleType::Root, &new, 2);
        world.repo.root.signers = signers.iter().map(|key| (*key).clone()).collect();
        world.repo.release_root();
        world
    };
    for signers in [
        vec![&old[0], &new[0], &new[1]],
        vec![&old[0], &old[1], &new[0]],
        vec![&new[0], &new[1]],
        vec![&old[0], &old[1]],
    ] {
        let mut world = rotation(&signers);
        assert_eq!(world.refusal(), "metadata-unsigned");
        assert_eq!(world.trusted().root, Some(1));
    }
    rotation(&[&old[0], &old[1], &new[0], &new[1]])
        .refresh()
        .expect("both thresholds are met");
}

/// A signature that is nonsense does not count and does not harm those that are sound.
#[test]
fn nonsense_beside_a_sound_signature() {
    for nonsense in ["", "00", "zz", "é", &"00".repeat(64), &"ab".repeat(100_000)] {
        let mut world = World::new();
        world.repo.set_keys(RoleType::Targets, &keys(2), 1);
        world.repo.root.version += 1;
        world.repo.publish();
        world.repo.tamper("metadata/1.targets.json", |file| {
            let Value::Object(members) = file else {
                panic!("an envelope is an object")
            };
            let Some(Value::Array(signatures)) = members.get_mut("signatures") else {
                panic!("signatures")
            };
            let Value::Object(first) = &mut signatures[0] else {
                panic!("a signature")
            };
            first.insert("sig".into(), nonsense.into());
        });
        world.refresh().expect("one sound signature is enough");
    }
}
