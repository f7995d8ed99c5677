//! One key counted twice: a single thief meets a threshold of two.
//!
//! Method: one key is listed under two ids, in two encodings, or signs twice. Thresholds count key
//! material (TAP 12). Four known clients accept the first of these; a set of key *ids* instead of
//! a set of materials is the mistake that the test catches.

use ampoule_protocol::json::{Map, Value};
use ampoule_protocol::key::{Key, KeyId};
use ampoule_protocol::metadata::RoleType;
use ampoule_tests::sim::{TestKey, envelope, signature};
use ampoule_tests::world::World;

fn world_with_targets_keys(keys: &[TestKey]) -> World {
    let mut world = World::new();
    world.repo.set_keys(RoleType::Targets, keys, 2);
    world.repo.release_root();
    world
}

#[test]
fn under_two_ids() {
    for key in [TestKey::ed25519("thief"), TestKey::p256("thief")] {
        let mut world = world_with_targets_keys(&[key.clone(), key.listed_as("another-name")]);
        assert_eq!(world.refusal(), "metadata-unsigned");
        assert_eq!(world.trusted().targets, None);
    }
}

/// Upper-case hex is another key object with another (true!) id, and the same key.
#[test]
fn in_two_encodings() {
    let key = TestKey::ed25519("thief");
    let mut object = key.object.object().clone();
    let Some(Value::Object(keyval)) = object.get_mut("keyval") else {
        panic!("a keyval")
    };
    let shouted = keyval
        .get("public")
        .and_then(Value::as_str)
        .expect("hex")
        .to_uppercase();
    keyval.insert("public".into(), shouted.as_str().into());
    let second = key.written_as(Key::from_map(object));
    assert_ne!(second.id, key.id);
    let mut world = world_with_targets_keys(&[key, second]);
    assert_eq!(world.refusal(), "metadata-unsigned");
    assert_eq!(world.trusted().targets, None);
}

/// An extra member changes the id of the object and not the key in it.
#[test]
fn with_an_extra_member() {
    let key = TestKey::p256("thief");
    let mut object = key.object.object().clone();
    object.insert("x-owner".into(), "somebody else, truly".into());
    let second = key.written_as(Key::from_map(object));
    let mut world = world_with_targets_keys(&[key, second]);
    assert_eq!(world.refusal(), "metadata-unsigned");
}

#[test]
fn by_signing_twice() {
    let (one, two) = (TestKey::ed25519("one"), TestKey::ed25519("two"));
    let mut world = world_with_targets_keys(&[one.clone(), two]);
    world.repo.targets.signers = vec![one.clone(), one];
    world.repo.publish();
    assert_eq!(
        world.refusal(),
        "metadata-malformed",
        "one key id stands twice in signatures"
    );
    assert_eq!(world.trusted().targets, None);
}

/// The second signature stands under the id of a holder who did not sign.
#[test]
fn by_signing_in_the_name_of_the_other() {
    let (one, two) = (TestKey::ed25519("one"), TestKey::ed25519("two"));
    let mut world = world_with_targets_keys(&[one.clone(), two.clone()]);
    world.repo.targets.signers = vec![one.clone(), one.listed_as(two.id.as_str())];
    world.repo.publish();
    assert_eq!(world.refusal(), "metadata-unsigned");
}

/// The specification forbids the same id twice in `signatures` even where the threshold is met.
#[test]
fn even_where_it_would_not_matter() {
    let mut world = World::new();
    let signed = world.repo.targets.to_signed();
    let key = world.repo.targets.signers[0].clone();
    let good = signature(
        key.id.as_str(),
        &key.sign(&ampoule_protocol::json::canonical(&signed)),
    );
    let file = envelope(vec![good.clone(), good], signed);
    world
        .repo
        .tree
        .insert("metadata/1.targets.json".into(), file);
    assert_eq!(world.refusal(), "metadata-malformed");
}

/// The same id twice in a role's `keyids`.
#[test]
fn by_listing_its_id_twice() {
    let mut world = World::new();
    let role = world
        .repo
        .root
        .roles
        .get_mut(&RoleType::Targets)
        .expect("all four");
    let id: KeyId = role.keyids[0].clone();
    role.keyids.push(id);
    world.repo.release_root();
    assert_eq!(world.refusal(), "metadata-malformed");
    assert_eq!(world.trusted().root, Some(1));
}

/// A key of a kind that nobody here verifies is carried and never counts.
#[test]
fn beside_a_key_of_an_unknown_kind() {
    let known = TestKey::ed25519("known");
    let future = Map::from([
        ("keytype".into(), "ml-dsa".into()),
        ("scheme".into(), "ml-dsa-65/1".into()),
        (
            "keyval".into(),
            Value::Object(Map::from([("public".into(), "00".into())])),
        ),
    ]);
    let future = known.written_as(Key::from_map(future));
    let mut world = world_with_targets_keys(&[known.clone(), future.clone()]);
    assert_eq!(world.refusal(), "metadata-unsigned");
    world.repo.set_keys(RoleType::Targets, &[known, future], 1);
    world.repo.release_root();
    world
        .refresh()
        .expect("the known key is enough for a threshold of one");
    assert_eq!(world.trusted().root, Some(3));
}
