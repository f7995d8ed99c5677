//! Ten thousand mutants of a valid release, and none installs.
//!
//! A device has installed release 2.4.0 and is offered 2.4.1. Each mutant is the published tree
//! with one thing changed; the device refreshes, chooses, downloads and checks. It may refuse, with
//! a code of [`STABLE_CODES`] and the repository as the guilty party; install exactly 2.4.1, where
//! the change does not touch what was signed (one of three root signatures broken, hex digits in
//! capitals); or stay on exactly 2.4.0, where nothing newer can be seen (withholding, which expiry
//! bounds). Nothing else: no other release, no changed one, no panic, no unknown code. Versions that
//! the device trusts never fall, and every file in its store is one that was really signed.
//!
//! The mistake it catches is any check left out anywhere between the bytes and the slot; leaving
//! out one byte of the signed payload from the signature is enough to turn it red.

mod changes;

use std::collections::{BTreeMap, BTreeSet};

use ampoule_protocol::error::Guilty;
use ampoule_protocol::json;
use ampoule_protocol::metadata::RoleType;
use ampoule_protocol::name::ProductName;
use ampoule_protocol::time::UtcTime;
use ampoule_tests::device::{Device, Installed, Refused};
use ampoule_tests::sim::{BLOCK_LEN, DAWN, RepositorySimulator, TestKey, Tree};
use ampoule_tests::world::Versions;

/// What a refused mutant may be refused with; a new code here is a decision.
const STABLE_CODES: [&str; 12] = [
    "metadata-expired",
    "metadata-malformed",
    "metadata-mismatch",
    "metadata-missing",
    "metadata-not-in-snapshot",
    "metadata-rollback",
    "metadata-too-long",
    "metadata-unsigned",
    "metadata-version",
    "target-mismatch",
    "target-missing",
    "target-too-long",
];

/// The sound state of things.
struct Sound {
    /// Before 2.4.1 was published.
    old_tree: Tree,
    /// With 2.4.1.
    tree: Tree,
    /// Has 2.4.0.
    device: Device,
    /// What it runs.
    running: Installed,
    /// What it should install now.
    installed: Installed,
    /// The payloads that were really signed, canonical.
    signed: BTreeSet<Vec<u8>>,
}

fn product() -> ProductName {
    ProductName::parse("infusion-pump").expect("a product name")
}

fn now() -> UtcTime {
    UtcTime::parse(DAWN).expect("a time")
}

/// `described`: whether lengths and digests stand in snapshot and timestamp, which catch most
/// changes before a signature is looked at.
fn sound(described: bool) -> Sound {
    let mut repo = RepositorySimulator::new();
    let holders: Vec<TestKey> = (0..3)
        .map(|n| TestKey::ed25519(&format!("root holder {n}")))
        .collect();
    repo.set_keys(RoleType::Root, &holders, 2);
    repo.describe_files = described;
    repo.add_product("infusion-pump");
    repo.add_product("monitor");
    let image = |version: u8| vec![version; BLOCK_LEN as usize + 200];
    repo.add_release("infusion-pump", "2.4.0", 16, &image(0));
    repo.add_release("monitor", "7.0.0", 99, &image(7));
    repo.publish();
    let old_tree = repo.tree.clone();
    let mut device = Device::new(&repo.tree["metadata/1.root.json"]);
    let running = device
        .install(&repo.tree, now(), &product())
        .expect("2.4.0 is sound");
    repo.rotate(RoleType::Timestamp);
    repo.add_release("infusion-pump", "2.4.1", 17, &image(1));
    repo.root.version += 1;
    repo.release();
    let tree = repo.tree.clone();
    let installed = device
        .clone()
        .install(&tree, now(), &product())
        .expect("2.4.1 is sound");
    assert_eq!(installed.release.version.to_string(), "2.4.1");
    let metadata = old_tree
        .iter()
        .chain(&tree)
        .filter(|(path, _)| path.starts_with("metadata/"));
    let signed = metadata
        .map(|(_, bytes)| canonical(bytes).expect("published"))
        .collect();
    Sound {
        old_tree,
        tree,
        device,
        running,
        installed,
        signed,
    }
}

fn canonical(file: &[u8]) -> Option<Vec<u8>> {
    let value = json::parse(file).ok()?;
    value.member("signed").map(json::canonical)
}

/// What became of the mutants.
#[derive(Default, Debug)]
struct Tally {
    mutants: usize,
    harmless: usize,
    withheld: usize,
    refused: BTreeMap<String, usize>,
}

impl Sound {
    /// Lives through one mutant.
    fn judge(&self, name: &str, mutant: &Tree, tally: &mut Tally) {
        let mut device = self.device.clone();
        let before = Versions::trusted_by(&device);
        let outcome = device.install(mutant, now(), &product());
        tally.mutants += 1;
        match outcome {
            Ok(installed) if installed == self.running => tally.withheld += 1,
            Ok(installed) => {
                assert_eq!(
                    installed, self.installed,
                    "{name}: another release was installed"
                );
                tally.harmless += 1;
            }
            Err(Refused { code, guilty, text }) => {
                assert!(
                    STABLE_CODES.contains(&code.as_str()),
                    "{name}: {code}: {text}"
                );
                assert_eq!(guilty, Guilty::Repository, "{name}: {code}: {text}");
                *tally.refused.entry(code).or_default() += 1;
            }
        }
        let after = Versions::trusted_by(&device);
        assert!(
            !fell(&before, &after),
            "{name}: {before:?} fell to {after:?}"
        );
        for (file, bytes) in &device.store.files {
            let signed = canonical(bytes).is_some_and(|payload| self.signed.contains(&payload));
            assert!(signed, "{name}: \"{file}\" in the store was never signed");
        }
    }
}

fn fell(before: &Versions, after: &Versions) -> bool {
    let delegated = before
        .delegated
        .iter()
        .any(|(role, v)| after.delegated.get(role) < Some(v));
    delegated
        || after.root < before.root
        || after.timestamp < before.timestamp
        || after.snapshot < before.snapshot
        || after.targets < before.targets
}

#[test]
fn none_of_ten_thousand_mutants_installs() {
    let sound = sound(true);
    let mut tally = Tally::default();
    for change in changes::ALL {
        let before = tally.mutants;
        change(&sound.old_tree, &sound.tree, &mut |name, mutant| {
            sound.judge(name, mutant, &mut tally);
        });
        assert!(tally.mutants > before, "a kind of change changed nothing");
    }
    println!("{tally:#?}");
    assert!(tally.mutants >= 10_000, "only {} mutants", tally.mutants);
    assert!(
        tally.harmless * 10 < tally.mutants,
        "{} were harmless",
        tally.harmless
    );
}

/// Without digests in snapshot and timestamp the signatures alone stand between.
#[test]
fn nor_where_only_signatures_stand_between() {
    let sound = sound(false);
    let mut tally = Tally::default();
    for change in changes::OF_METADATA {
        change(&sound.old_tree, &sound.tree, &mut |name, mutant| {
            sound.judge(name, mutant, &mut tally);
        });
    }
    println!("{tally:#?}");
    assert!(tally.refused["metadata-unsigned"] > 5_000, "{tally:?}");
}

/// The thief of the one online key signs what it likes: every number in timestamp at its edges.
#[test]
fn the_thief_of_the_timestamp_key_installs_nothing_else() {
    let sound = sound(true);
    let thief = TestKey::ed25519("timestamp after version 1");
    let mut tally = Tally::default();
    let signed = json::parse(&sound.tree["metadata/timestamp.json"]).expect("JSON");
    let signed = signed.member("signed").expect("signed");
    for (name, changed) in changes::numbers_at_edges(signed) {
        let mut mutant = sound.tree.clone();
        let file = ampoule_tests::sim::sign(&changed, std::slice::from_ref(&thief));
        mutant.insert("metadata/timestamp.json".into(), file);
        let mut device = sound.device.clone();
        tally.mutants += 1;
        match device.install(&mutant, now(), &product()) {
            Ok(installed) => assert_eq!(installed, sound.installed, "{name}"),
            Err(refused) => {
                assert!(
                    STABLE_CODES.contains(&refused.code.as_str()),
                    "{name}: {}",
                    refused.code
                );
                *tally.refused.entry(refused.code).or_default() += 1;
            }
        }
    }
    assert!(tally.mutants >= 30, "{tally:?}");
    assert!(tally.refused.contains_key("metadata-mismatch"), "{tally:?}");
}
