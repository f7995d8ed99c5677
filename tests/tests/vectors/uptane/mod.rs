//! The 86 Uptane vectors of advancedtelematic/tuf-test-vectors.
//!
//! Each vector is one or two steps; each step is a director and an image repository with the
//! verdict that a client should reach. Method: [`dialect`] rewrites both repositories into TUF
//! 1.0, signature by signature, and our device lives through the steps twice.
//!
//! *Alone* it knows the image repository only: it refreshes, looks the target up and downloads it.
//! - Where the corpus finds fault with the image repository, the device must refuse, with the code
//!   that [`code_of`] gives for that kind of fault.
//! - Where the corpus finds both repositories sound, the device must install.
//! - What the corpus refuses for its director, or for a difference between both, is beyond an image
//!   repository. Those that our device refuses nevertheless stand in [`REFUSED_HERE_ALREADY`].
//! - [`DIFFERENT`] names the one vector in which we follow TUF 1.0.34 instead.
//!
//! *In a fleet* it asks the director first and acts where both agree: it must install exactly where
//! the corpus finds both sound. Where the director is at fault, the code is that of the fault.

mod dialect;

use std::collections::BTreeMap;

use ampoule_protocol::director::{self, Assignment};
use ampoule_protocol::error::Coded;
use ampoule_protocol::name::{DeviceId, HardwareId};
use ampoule_protocol::time::UtcTime;
use ampoule_tests::device::{Device, Refused};
use ampoule_tests::sim::Tree;
use dialect::{Corpus, Step};

/// The corpus uses 2017 for expired and 2038 for fresh.
const NOW: &str = "2026-11-23T12:00:00Z";
const TARGET: &str = "file.txt";

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
    } else if image.is_sound() && step.director.expected.is_sound() {
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
    let mut beyond = 0;
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
                // The test of a device in a fleet refuses these.
                (Outcome::Beyond, Ok(_)) => beyond += 1,
                (Outcome::Beyond, Err(refused)) => {
                    refused_already.insert(name.as_str(), refused.code);
                }
            }
        }
    }
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
    assert_eq!(beyond, 27, "only a director can refuse these");
}

/// Who the corpus's device is.
fn own() -> (DeviceId, HardwareId) {
    let device = DeviceId::parse("primary-ecu").expect("an id");
    (device, HardwareId::parse("primary-hw").expect("an id"))
}

/// A device in a fleet: the director's refresh, its assignment, then for the offer the image
/// repository's, and the comparison of both.
fn live_in_fleet(
    (director, image): (&mut Device, &mut Device),
    step: &Step,
) -> Result<Option<Vec<u8>>, Refused> {
    let now = UtcTime::parse(NOW).expect("a time");
    let (device, hardware) = own();
    let trusted = director.refresh(&step.director.tree, now)?;
    let assignment = Assignment::read(&trusted, &device, &hardware)
        .map_err(|e| Refused::by(&e as &dyn Coded))?;
    let Some(offer) = assignment.offer() else {
        return Ok(None);
    };
    let mut trusted = image.refresh(&step.image.tree, now)?;
    let path = offer.path().as_str();
    let target = image.find(&mut trusted, &step.image.tree, path)?;
    let fits = |wanted: &HardwareId| {
        let custom = target.file().custom.as_ref();
        let listed = custom.and_then(|custom| custom.member("hardwareIds")?.as_array());
        // Where the corpus's image repository says nothing of hardware, the director's word stands.
        listed.is_none_or(|ids| ids.iter().any(|id| id.as_str() == Some(wanted.as_str())))
    };
    offer
        .compare(&target, fits)
        .map_err(|e| Refused::by(&e as &dyn Coded))?;
    image
        .download(&mut trusted, &step.image.tree, path)
        .map(Some)
}

/// The code with which a device in a fleet refuses each kind of fault in the director; `None`
/// where the corpus finds none there.
fn director_code_of(step: &Step) -> Option<&'static str> {
    let expected = &step.director.expected;
    let fault = match expected.update.as_str() {
        "ok" => expected.targets.values().find(|verdict| *verdict != "ok")?,
        fault => fault,
    };
    Some(match fault.split("::").next().unwrap_or(fault) {
        "DirectorDelegation" => "director-delegates",
        "DirectorRepeatedEcuId" => "director-two-offers",
        "BadEcuId" => "director-wrong-device",
        "BadHardwareId" => "director-wrong-hardware",
        "TargetMismatch" | "OversizedTarget" => "director-differs",
        _ => code_of(fault),
    })
}

#[test]
fn all_86_in_a_fleet() {
    let corpus = Corpus::read();
    let mut judged = BTreeMap::from([("installed", 0), ("director", 0), ("image", 0)]);
    for (name, steps) in &corpus.vectors {
        if name == DIFFERENT {
            continue;
        }
        let mut image = Device::new(&steps[0].image.tree["metadata/1.root.json"]);
        let mut director = Device::new(&steps[0].director.tree["metadata/1.root.json"]);
        director.lengths = director::LENGTHS;
        for (number, step) in steps.iter().enumerate() {
            let place = format!("{name}, step {number}");
            let outcome = live_in_fleet((&mut director, &mut image), step);
            let sound = step.image.expected.is_sound() && step.director.expected.is_sound();
            match (sound, director_code_of(step), outcome) {
                (true, _, outcome) => {
                    let content = outcome.unwrap_or_else(|e| panic!("{place}: {}", e.text));
                    assert_eq!(content.as_deref(), Some(&b"wat wat wat"[..]), "{place}");
                    *judged.entry("installed").or_default() += 1;
                }
                (false, Some(code), outcome) => {
                    let refused = outcome.expect_err(&place);
                    // Both may be at fault, and the image repository's may be found first.
                    let image_too = !step.image.expected.is_sound();
                    let already = (name.as_str(), refused.code.as_str());
                    let fits = refused.code == code
                        || image_too
                        || REFUSED_HERE_ALREADY.contains(&already);
                    assert!(
                        fits,
                        "{place}: {} ({}), expected {code}",
                        refused.code, refused.text
                    );
                    *judged.entry("director").or_default() += 1;
                }
                (false, None, outcome) => {
                    outcome.expect_err(&place);
                    *judged.entry("image").or_default() += 1;
                }
            }
        }
    }
    let steps: usize = corpus.vectors.values().map(Vec::len).sum();
    let all: i32 = judged.values().sum();
    assert_eq!(
        all,
        i32::try_from(steps).expect("few") - 2,
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
