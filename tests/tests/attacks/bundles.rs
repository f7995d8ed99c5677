//! A bundle is altered, kept too long, made by a thief, or passed off as something else.
//!
//! Method: the simulator publishes, a statement over its snapshot is signed as a bundle's is, and a
//! device without a network refreshes from a copy of the tree. After each refusal the test asserts
//! what the device trusts. Catches: a statement whose expiry, signature, kind or snapshot version
//! is not looked at; a statement that is stored as a timestamp, which would freeze the device later.

use ampoule_protocol::metadata::{Bundle, Common, MetaFile, NotFor, Payload};
use ampoule_protocol::name::{DeviceId, HardwareId, ProductName};
use ampoule_protocol::version::MetaVersion;
use ampoule_tests::sim::{TestKey, Tree, sign};
use ampoule_tests::world::{Versions, World};

const DAY_SECS: i64 = 86_400;
const STATEMENT: &str = "metadata/bundle.json";

/// The statement over the published snapshot, as an honest holder would write it: for ten days.
fn statement(world: &World) -> Bundle {
    let version = MetaVersion::new(world.repo.snapshot.version).expect("from 1");
    let snapshot = &world.repo.tree[&format!("metadata/{version}.snapshot.json")];
    Bundle {
        common: Common::new(world.now.plus_secs(10 * DAY_SECS)),
        signed_at: world.now,
        snapshot: MetaFile::of(version, snapshot),
        product: ProductName::parse("infusion-pump").expect("a name"),
        hardware: vec![HardwareId::parse("pump-mk3").expect("an id")],
        devices: vec![DeviceId::parse("pump-0042").expect("an id")],
    }
}

/// What lies on the stick: a copy of the tree without its timestamp, and the statement.
fn stick(world: &World, statement: &Bundle, signers: &[TestKey]) -> Tree {
    let mut tree = world.repo.tree.clone();
    tree.remove("metadata/timestamp.json");
    tree.insert(STATEMENT.into(), sign(&statement.to_signed(), signers));
    tree
}

fn honest(world: &World) -> Tree {
    stick(world, &statement(world), &world.repo.snapshot.signers)
}

fn refusal(world: &mut World, stick: &Tree) -> String {
    let refused = world.device.refresh_bundle(stick, world.now);
    refused
        .expect_err("the device takes what it must refuse")
        .code
}

/// Trusts what it was made with and nothing else.
fn nothing() -> Versions {
    Versions {
        root: Some(1),
        ..Versions::default()
    }
}

/// Trusts what a bundle vouched for, and no timestamp.
fn bundled(snapshot: u64, targets: u64) -> Versions {
    Versions {
        timestamp: None,
        ..Versions::of(1, 0, snapshot, targets)
    }
}

#[test]
fn an_honest_bundle_is_trusted_and_leaves_no_timestamp_behind() {
    let mut world = World::new();
    let stick = honest(&world);
    let trusted = world.device.refresh_bundle(&stick, world.now);
    let set = trusted.expect("sound");
    assert!(set.set().timestamp().is_none());
    assert_eq!(world.trusted(), bundled(1, 1));
    world.refresh().expect("the network goes on as before");
    assert_eq!(world.trusted(), Versions::of(1, 1, 1, 1));
}

#[test]
fn a_bundle_outlives_the_timestamp_and_newer_publications_and_other_bundles() {
    let mut world = World::new();
    world.repo.timestamp.expires = world.now.plus_secs(DAY_SECS);
    world.repo.release();
    let stick = honest(&world);
    world.repo.release();
    let _other = honest(&world);
    world.wait_secs(9 * DAY_SECS);
    let trusted = world.device.refresh_bundle(&stick, world.now);
    trusted.expect("its own expiry is what counts");
    assert_eq!(world.trusted(), bundled(2, 2));
}

#[test]
fn kept_for_an_everlasting_downgrade() {
    let mut world = World::new();
    let stick = honest(&world);
    world.wait_secs(10 * DAY_SECS);
    assert_eq!(refusal(&mut world, &stick), "metadata-expired");
    assert_eq!(world.trusted(), nothing());
}

#[test]
fn an_older_bundle_after_a_newer_one() {
    let mut world = World::new();
    let old = honest(&world);
    world.repo.release();
    let new = honest(&world);
    let trusted = world.device.refresh_bundle(&new, world.now);
    trusted.expect("sound");
    assert_eq!(refusal(&mut world, &old), "metadata-rollback");
    assert_eq!(world.trusted(), bundled(2, 2));
}

#[test]
fn an_older_bundle_after_the_network() {
    let mut world = World::new();
    let old = honest(&world);
    world.repo.release();
    world.refresh().expect("sound");
    assert_eq!(refusal(&mut world, &old), "metadata-rollback");
    assert_eq!(world.trusted(), Versions::of(1, 2, 2, 2));
}

#[test]
fn made_with_the_stolen_timestamp_key() {
    let mut world = World::new();
    let stick = stick(&world, &statement(&world), &world.repo.timestamp.signers);
    assert_eq!(refusal(&mut world, &stick), "metadata-unsigned");
    assert_eq!(world.trusted(), nothing());
}

#[test]
fn its_list_of_devices_is_altered() {
    let mut world = World::new();
    let mut stick = honest(&world);
    let signed = String::from_utf8(stick[STATEMENT].clone()).expect("JSON");
    let altered = signed.replace("pump-0042", "pump-0666");
    assert_ne!(signed, altered);
    stick.insert(STATEMENT.into(), altered.into_bytes());
    assert_eq!(refusal(&mut world, &stick), "metadata-unsigned");
    assert_eq!(world.trusted(), nothing());
}

#[test]
fn its_snapshot_is_another() {
    let mut world = World::new();
    let statement = statement(&world);
    world.repo.snapshot.expires = world.now.plus_secs(DAY_SECS);
    world.repo.publish();
    let stick = stick(&world, &statement, &world.repo.snapshot.signers);
    assert_eq!(refusal(&mut world, &stick), "metadata-mismatch");
    assert_eq!(world.trusted(), nothing());
}

#[test]
fn a_statement_served_as_a_timestamp_or_a_snapshot_as_a_statement() {
    let mut world = World::new();
    let stick = honest(&world);
    // The keys of snapshot and timestamp may be the same in another house: the kind must tell.
    world.repo.timestamp.signers = world.repo.snapshot.signers.clone();
    let mut served = world.repo.tree.clone();
    served.insert("metadata/timestamp.json".into(), stick[STATEMENT].clone());
    let refused = world.device.refresh(&served, world.now);
    refused.expect_err("a bundle freezes nobody who has a network");
    let mut other = stick.clone();
    let snapshot = stick["metadata/1.snapshot.json"].clone();
    other.insert(STATEMENT.into(), snapshot);
    assert_eq!(refusal(&mut world, &other), "metadata-malformed");
    assert_eq!(world.trusted(), nothing());
}

#[test]
fn whom_it_is_for() {
    let bundle = statement(&World::new());
    let is_for = |product: &str, hardware: &str, device: &str| {
        bundle.is_for(
            &ProductName::parse(product).expect("a name"),
            &HardwareId::parse(hardware).expect("an id"),
            &DeviceId::parse(device).expect("an id"),
        )
    };
    assert_eq!(is_for("infusion-pump", "pump-mk3", "pump-0042"), Ok(()));
    let other = is_for("monitor", "pump-mk3", "pump-0042");
    assert_eq!(other, Err(NotFor::Product));
    let other = is_for("infusion-pump", "pump-mk2", "pump-0042");
    assert_eq!(other, Err(NotFor::Hardware));
    let other = is_for("infusion-pump", "pump-mk3", "pump-0043");
    assert_eq!(other, Err(NotFor::Device));
}
