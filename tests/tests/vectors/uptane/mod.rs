//! The 86 Uptane vectors of advancedtelematic/tuf-test-vectors, as far as they concern the image
//! repository.
//!
//! Each vector is one or two steps; each step is a director and an image repository with the
//! verdict that a client should reach. Method: [`dialect`] rewrites the image repository into TUF
//! 1.0, signature by signature, and our device lives through the steps: it refreshes, looks the
//! target up and downloads it.
//!
//! - Where the corpus finds fault with the image repository, the device must refuse, with the code
//!   that [`code_of`] gives for that kind of fault.
//! - Where the corpus finds both repositories sound, the device must install.
//! - What the corpus refuses for its director, or for a difference between both, is beyond an image
//!   repository. Those that our device refuses nevertheless stand in [`REFUSED_HERE_ALREADY`], the
//!   others in [`DIRECTOR_ONLY`]: they wait for the director repository. Both lists are exact.
//! - [`DIFFERENT`] names the one vector in which we follow TUF 1.0.34 instead.

mod dialect;

use std::collections::{BTreeMap, BTreeSet};

use ampoule_protocol::time::UtcTime;
use ampoule_tests::device::{Device, Refused};
use ampoule_tests::sim::Tree;
use dialect::{Corpus, Step};

/// The corpus uses 2017 for expired and 2038 for fresh.
const NOW: &str = "2026-11-23T12:00:00Z";
const TARGET: &str = "file.txt";

/// Sound as image repositories: only the director, or its comparison with the image repository,
/// can refuse them.
const DIRECTOR_ONLY: [&str; 27] = [
    "bad_hw_id",
    "director_bad_ecu_id",
    "director_bad_hw_id",
    "director_delegations",
    "director_root_bad_key_ids",
    "director_root_expired",
    "director_root_non_unique_signatures",
    "director_root_role_type_mismatch",
    "director_root_rotation_no_new_signature",
    "director_root_rotation_no_original_signature",
    "director_root_rotation_version_skip",
    "director_root_rotation_version_unchanged",
    "director_root_unmet_threshold",
    "director_root_unsigned",
    "director_root_zero_threshold",
    "director_target_hash_mismatch",
    "director_target_oversized",
    "director_targets_bad_key_ids",
    "director_targets_expired",
    "director_targets_non_unique_signatures",
    "director_targets_role_type_mismatch",
    "director_targets_same_ecu",
    "director_targets_too_large",
    "director_targets_unmet_threshold",
    "director_targets_unsigned",
    "director_targets_zero_threshold",
    "image_repo_bad_hw_id",
];

/// To the corpus the repositories differ; to us the image repository alone gives the reason.
const REFUSED_HERE_ALREADY: [(&str, &str); 7] = [
    ("delegation_empty", "target-unknown"),
    ("delegation_expired", "metadata-expired"),
    ("delegation_hash_mismatch", "target-mismatch"),
    ("delegation_path_mismatch", "target-unknown"),
    ("image_repo_target_hash_mismatch", "target-mismatch"),
    ("image_repo_target_oversized", "target-too-long"),
    ("target_oversized", "target-too-long"),
];

/// The second step serves other content under the same version of all roles and expects it to be
/// taken. TUF 1.0.34 section 5.4.3.1 keeps the trusted timestamp where the version is equal, and so
/// do the conformance suite and we: the update passes, and the new target is not there.
const DIFFERENT: &str = "image_repo_metadata_changed_while_version_same";

/// The code with which we refuse each kind of fault in the image repository.
fn code_of(fault: &str) -> &'static str {
    match fault.split("::").next().unwrap_or(fault) {
        // We read any key id and look keys up by it: one listed under a wrong id is not found.
        "BadKeyId" | "UnmetThreshold" => "metadata-unsigned",
        // Broken formats by TUF 1.0.34: one id twice in signatures, a threshold of 0, another type.
        "NonUniqueSignatures" | "IllegalThreshold" | "SecurityException" => "metadata-malformed",
        "ExpiredMetadata" => "metadata-expired",
        "DelegationMissing" => "metadata-missing",
        "MetadataFetchFailure" => "metadata-too-long",
        // A role that snapshot does not list has no version to compare.
        "VersionMismatch" if fault.ends_with("skipped") => "metadata-not-in-snapshot",
        "VersionMismatch" | "RootRotationError" => "metadata-version",
        other => panic!("the corpus has a fault that nobody mapped: {other}"),
    }
}

/// What a step should come to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Installed,
    /// The image repository is at fault, in this way.
    Fault(String),
    /// The director is, or both differ.
    Beyond,
}

fn expected(step: &Step) -> Outcome {
    let image = &step.image.expected;
    let fetch_failure = image
        .targets
        .values()
        .find(|v| v.starts_with("MetadataFetchFailure"));
    if image.update != "ok" {
        Outcome::Fault(image.update.clone())
    } else if let Some(fault) = fetch_failure {
        Outcome::Fault(fault.clone())
    } else if image.is_sound() && step.director.is_sound() {
        Outcome::Installed
    } else {
        Outcome::Beyond
    }
}

fn live(device: &mut Device, tree: &Tree) -> Result<Vec<u8>, Refused> {
    let now = UtcTime::parse(NOW).expect("a time");
    let mut trusted = device.refresh(tree, now)?;
    device.download(&mut trusted, tree, TARGET)
}

#[test]
fn all_86_as_far_as_they_concern_the_image_repository() {
    let corpus = Corpus::read();
    assert_eq!(corpus.vectors.len(), 86);
    let mut beyond = BTreeSet::new();
    let mut refused_already = BTreeMap::new();
    let mut judged = BTreeMap::from([("installed", 0), ("fault", 0)]);
    for (name, steps) in &corpus.vectors {
        let mut device = Device::new(&steps[0].image.tree["metadata/1.root.json"]);
        for (number, step) in steps.iter().enumerate() {
            let place = format!("{name}, step {number}");
            let outcome = live(&mut device, &step.image.tree);
            match (expected(step), outcome) {
                (Outcome::Installed, outcome) => {
                    let content = outcome.unwrap_or_else(|e| panic!("{place}: {}", e.text));
                    assert_eq!(content, b"wat wat wat", "{place}");
                    *judged.entry("installed").or_default() += 1;
                }
                (Outcome::Fault(fault), outcome) => {
                    let refused = outcome.expect_err(&place);
                    assert_eq!(refused.code, code_of(&fault), "{place}: {}", refused.text);
                    *judged.entry("fault").or_default() += 1;
                }
                (Outcome::Beyond, Ok(_)) => {
                    beyond.insert(name.as_str());
                }
                (Outcome::Beyond, Err(refused)) => {
                    refused_already.insert(name.as_str(), refused.code);
                }
            }
        }
    }
    let listed: BTreeSet<&str> = DIRECTOR_ONLY.into_iter().collect();
    assert_eq!(
        beyond, listed,
        "the list of what waits for the director is exact"
    );
    let already: Vec<(&str, &str)> = refused_already
        .iter()
        .map(|(n, c)| (*n, c.as_str()))
        .collect();
    assert_eq!(already, REFUSED_HERE_ALREADY);
    assert_eq!(
        judged,
        BTreeMap::from([("installed", 22), ("fault", 43)]),
        "no step went unjudged"
    );
}

#[test]
fn the_one_in_which_we_differ() {
    let corpus = Corpus::read();
    let steps = &corpus.vectors[DIFFERENT];
    let mut device = Device::new(&steps[0].image.tree["metadata/1.root.json"]);
    live(&mut device, &steps[0].image.tree).expect("the first step is sound");
    let first = device.store.clone();
    let now = UtcTime::parse(NOW).expect("a time");
    let tree = &steps[1].image.tree;
    let mut trusted = device.refresh(tree, now).expect("the update passes");
    assert_eq!(device.store, first, "the trusted files stay");
    let unknown = device
        .download(&mut trusted, tree, "file01.txt")
        .expect_err("not in them");
    assert_eq!(unknown.code, "target-unknown");
}
