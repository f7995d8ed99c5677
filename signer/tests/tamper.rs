//! Somebody changes a byte, a file or a delta on the way: the verifier refuses the tree, and
//! `publish` refuses to make one of it.

mod common;

use ampoule_protocol::json::{self, Value};
use ampoule_protocol::metadata::{Payload, Targets};
use ampoule_protocol::name::{ProductName, TargetPath};
use ampoule_protocol::time::UtcTime;
use ampoule_signer::durable::RealDisk;
use ampoule_signer::error::{OperatorError, SignerError, TreeError};
use ampoule_signer::progress::Silent;
use ampoule_signer::publish::{Options, Scope, publish};
use ampoule_signer::request::{Request, payload, unsigned};
use ampoule_signer::verify::{self, Expiry};
use ampoule_signer::{blob, releases};
use common::Ground;

const DRAFT: &str = "w/staging/2.infusion-pump.request";

fn verify(ground: &Ground) -> Result<verify::Report, SignerError> {
    let now = UtcTime::parse("2026-12-01T00:00:00Z").unwrap();
    verify::tree(&ground.path("w/published"), Expiry::Ignore, now, &Silent)
}

#[test]
fn a_flipped_bit_in_any_file_of_the_tree_is_refused() {
    /// Every byte of metadata would take a minute; a prime step reaches all kinds of places.
    const STEP: usize = 13;
    let ground = Ground::published();
    verify(&ground).expect("the untouched tree");
    let mut flips = 0;
    for (path, bytes) in ground.files("w/published") {
        let step = if path.extension().is_some_and(|e| e == "json") {
            STEP
        } else {
            bytes.len() / 3
        };
        for at in (0..bytes.len()).step_by(step.max(1)) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(
                verify(&ground).is_err(),
                "{} byte {at} was flipped unseen",
                path.display()
            );
            flips += 1;
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    verify(&ground).expect("the restored tree");
    assert!(flips > 300, "{flips} flips");
}

#[test]
fn a_missing_file_and_an_older_snapshot_are_refused() {
    let ground = Ground::published();
    for (path, bytes) in ground.files("w/published") {
        std::fs::remove_file(&path).unwrap();
        assert!(
            verify(&ground).is_err(),
            "{} was not missed",
            path.display()
        );
        std::fs::write(&path, &bytes).unwrap();
    }
    // Mix and match: the old snapshot under the name of the new.
    let old = ground.read("w/published/metadata/1.snapshot.json");
    ground.ok(&[
        "-w",
        "w",
        "refresh",
        "--snapshot",
        "-k",
        "timestamp.key",
        "-k",
        "snapshot.key",
    ]);
    verify(&ground).expect("the refreshed tree");
    ground.write("w/published/metadata/2.snapshot.json", &old);
    assert!(matches!(
        verify(&ground),
        Err(SignerError::Tree(TreeError::NotNamed { .. }))
    ));
}

#[test]
fn an_expired_tree_is_refused_unless_asked_otherwise() {
    let ground = Ground::published();
    let later = UtcTime::parse("2099-01-01T00:00:00Z").unwrap();
    let tree = ground.path("w/published");
    let error = verify::tree(&tree, Expiry::Enforce, later, &Silent).unwrap_err();
    assert!(
        matches!(error, SignerError::Tree(TreeError::Expired { .. })),
        "{error}"
    );
    verify::tree(&tree, Expiry::Ignore, later, &Silent).unwrap();
}

/// The second release, drafted with its delta and signed by nobody.
fn second() -> Ground {
    let ground = Ground::published();
    ground.build(5);
    ground.release("2.4.1", 17);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.ok(&["-w", "w", "delta"]);
    ground
}

fn publish_error(ground: &Ground) -> SignerError {
    let before = ground.files("w/published");
    let keys = common::open(&["snapshot", "timestamp"]);
    let options = Options {
        scope: Scope::All,
        renew_snapshot: false,
        renew_timestamp: false,
    };
    let now = UtcTime::parse("2026-12-01T00:00:00Z").unwrap();
    let error = publish(&RealDisk, &ground.path("w"), &keys, options, now, &Silent)
        .expect_err("something wrong was published");
    assert!(
        ground.files("w/published") == before,
        "a refused publication changed the tree"
    );
    assert!(
        !ground.path("w/staging/2.snapshot.request").exists(),
        "a snapshot was drafted"
    );
    error
}

#[test]
fn an_artifact_that_changed_after_it_was_added_is_not_published() {
    let ground = second();
    ground.sign_all(&["engineer", "safety"]);
    for (path, mut bytes) in ground.files("w/staging/targets") {
        let good = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = publish_error(&ground);
        assert!(
            matches!(error, SignerError::Tree(_)),
            "{}: {error}",
            path.display()
        );
        std::fs::write(&path, &good).unwrap();
    }
    ground.publish();
    verify(&ground).unwrap();
}

#[test]
fn a_delta_that_makes_something_else_is_not_published_though_all_have_signed() {
    let ground = second();
    // A well-formed delta with the right digests in the description, but to another image.
    let path = ground.path(DRAFT);
    let mut request = Request::load(&path).unwrap();
    let mut targets: Targets = payload(&request.envelope).unwrap();
    let product = ProductName::parse("infusion-pump").unwrap();
    let mut release = releases::of(&product, &targets).unwrap().pop().unwrap();
    let layout = ampoule_signer::layout::Layout::new(&ground.path("w"));
    let old = releases::of(&product, &targets)
        .unwrap()
        .remove(0)
        .components
        .remove(0)
        .artifact;
    let old = std::fs::read(blob::find(&layout, &old).unwrap()).unwrap();
    let mut other = old.clone();
    other[77] ^= 0xff;
    let patch = ampoule_delta::diff(
        &old,
        &other,
        &ampoule_delta::DiffOptions::default(),
        &mut |_| {},
    )
    .unwrap();
    let delta = &mut release.components[0].deltas[0];
    let name = TargetPath::parse(delta.file.path.as_str()).unwrap();
    delta.file = blob::store(
        &RealDisk,
        &layout.staged_targets(),
        &name,
        &mut patch.as_slice(),
        None,
    )
    .unwrap();
    let toml = targets.targets[&release.path()].clone();
    let toml = ampoule_protocol::release::FileRef {
        path: release.path(),
        length: toml.length,
        sha256: toml.hashes.sha256.unwrap(),
    };
    releases::insert(&mut targets, &release, &toml).unwrap();
    request.envelope = unsigned(targets.to_signed());
    request.store(&RealDisk, &path).unwrap();
    ground.sign_all(&["engineer", "safety"]);

    let error = publish_error(&ground);
    assert!(
        matches!(
            error,
            SignerError::Operator(OperatorError::DeltaWrong { .. })
        ),
        "{error}"
    );
}

#[test]
fn a_published_release_that_a_draft_changes_is_checked_again() {
    // The same path, another artifact: the holders are told, and sign all the same.
    let ground = second();
    let path = ground.path(DRAFT);
    let mut request = Request::load(&path).unwrap();
    let mut targets: Targets = payload(&request.envelope).unwrap();
    let artifact = TargetPath::parse("infusion-pump/rootfs-2.4.0.img").unwrap();
    let file = targets.targets.get_mut(&artifact).unwrap();
    file.hashes = ampoule_protocol::digest::Hashes::sha256(ampoule_protocol::digest::Digest::of(
        b"something else",
    ));
    request.envelope = unsigned(targets.to_signed());
    request.store(&RealDisk, &path).unwrap();
    let words = ground.ok(&["-w", "w", "review"]);
    for told in [
        "file \"infusion-pump/rootfs-2.4.0.img\" is CHANGED",
        "caution: \"infusion-pump/rootfs-2.4.0.img\" is not what release 2.4.0 says of it",
    ] {
        assert!(words.contains(told), "{told}\n{words}");
    }
    ground.sign_all(&["engineer", "safety"]);
    let error = publish_error(&ground);
    assert!(
        matches!(error, SignerError::Tree(TreeError::Missing { .. })),
        "{error}"
    );
}

#[test]
fn a_draft_changed_after_it_was_signed_is_not_published() {
    let ground = second();
    ground.sign_all(&["engineer", "safety"]);
    let path = ground.path(DRAFT);
    let text = String::from_utf8(std::fs::read(&path).unwrap()).unwrap();
    let changed = text.replace("\"rollback_index\":17", "\"rollback_index\":99");
    assert_ne!(text, changed);
    std::fs::write(&path, changed).unwrap();
    let error = publish_error(&ground);
    assert!(
        matches!(
            error,
            SignerError::Operator(OperatorError::Threshold {
                have: 0,
                need: 2,
                ..
            })
        ),
        "{error}"
    );
}

#[test]
fn a_published_tree_that_somebody_changed_is_not_built_upon() {
    let ground = Ground::published();
    let name = "w/published/metadata/1.infusion-pump.json";
    let mut value = json::parse(&ground.read(name)).unwrap();
    if let Value::Object(members) = &mut value {
        members.insert("signatures".into(), Value::Array(Vec::new()));
    }
    ground.write(name, &json::compact(&value));
    ground.build(5);
    ground.release("2.4.1", 17);
    ground.refused(1, &["-w", "w", "add", "release.toml"]);
    assert!(!ground.path(DRAFT).exists());
}
