//! The whole story with the binary alone: ceremony, release, delta, signatures, publication,
//! verification; then keys change hands.

mod common;

use ampoule_protocol::metadata::{Envelope, Payload, Targets};
use ampoule_protocol::name::ProductName;
use common::Ground;

#[test]
fn from_a_ceremony_with_passphrases_to_a_tree_that_verifies() {
    let ground = Ground::bare();
    for name in common::HOLDERS {
        std::fs::remove_file(ground.path(&format!("{name}.pub"))).unwrap();
    }
    let init = ground.run(&[
        "init",
        "ceremony.toml",
        "-w",
        "w",
        "--generate",
        "keys",
        "--work-factor",
        "1",
        "--passphrase-file",
        "pw",
    ]);
    assert!(
        init.status.success(),
        "{}",
        String::from_utf8_lossy(&init.stderr)
    );
    let told = String::from_utf8(init.stdout).unwrap();
    assert!(told.contains("root: 2 of 3"), "{told}");
    assert!(told.contains("what each holder keeps"), "{told}");
    let sealed = ground.read("keys/alice.key");
    assert!(
        sealed.starts_with(b"age-encryption.org/v1"),
        "a holder's key lies bare"
    );
    assert!(
        ground
            .read("keys/timestamp.key")
            .starts_with(b"-----BEGIN PRIVATE KEY")
    );

    ground.build(0);
    ground.release("2.4.0", 16);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    for holder in ["alice", "carol", "engineer", "safety"] {
        let key = format!("keys/{holder}.key");
        ground.ok(&[
            "-w",
            "w",
            "sign",
            "--all",
            "-y",
            "-k",
            &key,
            "--passphrase-file",
            "pw",
        ]);
    }
    ground.ok(&[
        "-w",
        "w",
        "publish",
        "-k",
        "keys/snapshot.key",
        "-k",
        "keys/timestamp.key",
        "--passphrase-file",
        "pw",
    ]);
    let verified = ground.ok(&["verify", "w/published"]);
    assert!(verified.contains("4 target files"), "{verified}");
    assert!(ground.path("w/director/1.root.json").is_file());
}

#[test]
fn a_second_release_comes_with_a_proved_delta_and_words_that_say_what_changes() {
    let ground = Ground::published();
    ground.build(7);
    ground.release("2.4.1", 17);
    let added = ground.ok(&["-w", "w", "add", "release.toml", "--json"]);
    assert!(added.contains("\"deltas_wanted\": 1"), "{added}");
    let early = ground.refused(1, &["-w", "w", "sign", "--all", "-y", "-k", "engineer.key"]);
    assert!(
        early.starts_with("error: component \"rootfs\" asks for 1 more delta"),
        "{early}"
    );
    ground.ok(&["-w", "w", "delta"]);

    let words = ground.ok(&["-w", "w", "review"]);
    for expected in [
        "against version 1:",
        "release 2.4.1 of infusion-pump is added: rollback index 17, before 16",
        "class security: Closes CVE-2026-1234 in the network stack.",
        "out of service for 90 seconds, without infusion, alarm relay",
        "delta from 2.4.0",
        "asks for 2 of 2 signatures, 0 made: not complete",
    ] {
        assert!(words.contains(expected), "{expected}\n--\n{words}");
    }
    ground.sign_all(&["safety", "engineer"]);
    let published = ground.publish();
    assert!(published.contains("1 delta proved"), "{published}");
    ground.ok(&["verify", "w/published"]);
    assert!(ground.publish().contains("nothing to publish"));

    let bytes = ground.read("w/published/metadata/2.infusion-pump.json");
    let envelope = Envelope::parse(&bytes).unwrap();
    let targets = Targets::from_signed(envelope.unverified()).unwrap();
    let product = ProductName::parse("infusion-pump").unwrap();
    let releases = ampoule_signer::releases::of(&product, &targets).unwrap();
    let versions: Vec<_> = releases.iter().map(|r| r.version.to_string()).collect();
    assert_eq!(versions, ["2.4.0", "2.4.1"]);
    assert_eq!(releases[1].components[0].deltas.len(), 1);
}

#[test]
fn every_role_changes_hands_and_the_tree_still_verifies() {
    let ground = Ground::published();
    let keys = [
        "alice.key",
        "bob.key",
        "carol.key",
        "engineer.key",
        "safety.key",
    ];
    for (role, gone, mut signers) in [
        ("timestamp", "timestamp", vec!["alice", "bob"]),
        ("snapshot", "snapshot", vec!["alice", "bob"]),
        ("infusion-pump", "engineer", vec!["alice", "bob", "safety"]),
        ("targets", "carol", vec!["alice", "bob"]),
        ("root", "carol", vec!["alice", "bob"]),
    ] {
        let new = format!("{role}-2");
        ground.make_key(&new);
        let (public, secret) = (format!("{new}.pub"), format!("{new}.key"));
        ground.ok(&[
            "-w", "w", "rotate", role, "--remove", gone, "--add", &public,
        ]);
        signers.retain(|name| *name != gone);
        let files: Vec<String> = signers.iter().map(|name| format!("{name}.key")).collect();
        let mut sign = vec!["-w", "w", "sign", "--all", "-y", "-k", &secret];
        for file in &files {
            sign.extend(["-k", file]);
        }
        let signed = ground.run(&sign);
        let stderr = String::from_utf8_lossy(&signed.stderr);
        assert!(signed.status.success(), "{role}: {stderr}");
        let mut publish = vec!["-w", "w", "publish", "-k", &secret];
        for file in [
            "snapshot-2.key",
            "timestamp-2.key",
            "snapshot.key",
            "timestamp.key",
        ] {
            if ground.path(file).is_file() && file != secret {
                publish.extend(["-k", file]);
            }
        }
        ground.ok(&publish);
        ground.ok(&["verify", "w/published"]);
    }
    // The keys that went are not asked for any more.
    ground.build(9);
    ground.release("2.5.0", 18);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.ok(&["-w", "w", "delta"]);
    let refused = ground.refused(1, &["-w", "w", "sign", "--all", "-y", "-k", keys[3]]);
    assert!(
        refused.contains("nothing is drafted for these keys"),
        "{refused}"
    );
}

#[test]
fn a_refresh_signs_a_newer_timestamp_and_leaves_drafts_alone() {
    let ground = Ground::published();
    ground.build(3);
    ground.release("2.4.1", 17);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    let told = ground.ok(&["-w", "w", "refresh", "-k", "timestamp.key"]);
    assert!(told.contains("metadata: timestamp.json"), "{told}");
    assert!(
        told.contains("left as a draft: infusion-pump version 2"),
        "{told}"
    );
    let told = ground.ok(&[
        "-w",
        "w",
        "refresh",
        "--snapshot",
        "-k",
        "timestamp.key",
        "-k",
        "snapshot.key",
    ]);
    assert!(told.contains("2.snapshot.json, timestamp.json"), "{told}");
    ground.ok(&["verify", "w/published"]);
    assert!(ground.path("w/staging/2.infusion-pump.request").is_file());
}

#[test]
fn a_copy_of_the_tree_elsewhere_verifies_and_the_second_copy_writes_nothing() {
    let ground = Ground::published();
    ground.ok(&["-w", "w", "publish", "mirror"]);
    ground.ok(&["verify", "mirror"]);
    assert_eq!(
        ground
            .files("mirror")
            .into_iter()
            .map(|f| f.1)
            .collect::<Vec<_>>(),
        ground
            .files("w/published")
            .into_iter()
            .map(|f| f.1)
            .collect::<Vec<_>>()
    );
    let again = ground.ok(&["-w", "w", "publish", "mirror"]);
    assert!(again.contains("0 files written"), "{again}");
}

#[test]
fn root_targets_and_products_are_renewed_as_they_are() {
    let ground = Ground::published();
    for (role, holders) in [
        ("root", ["alice", "bob"]),
        ("targets", ["bob", "carol"]),
        ("infusion-pump", ["engineer", "safety"]),
    ] {
        ground.ok(&["-w", "w", "renew", role]);
        let words = ground.ok(&["-w", "w", "review"]);
        assert!(
            words.contains("nothing changes but version and expiry"),
            "{words}"
        );
        ground.sign_all(&holders);
        ground.publish();
    }
    let verified = ground.ok(&["verify", "w/published"]);
    for row in [
        "| root          | 2 ",
        "| targets       | 2 ",
        "| infusion-pump | 2 ",
    ] {
        assert!(verified.contains(row), "{row}\n{verified}");
    }
}

#[test]
fn a_product_comes_later_and_gets_its_first_release() {
    let ground = Ground::published();
    ground.make_key("monitor-lead");
    let add = [
        "-w",
        "w",
        "product",
        "monitor",
        "--hardware",
        "mon-1",
        "--add",
        "monitor-lead.pub",
        "--threshold",
        "1",
    ];
    ground.ok(&add);
    let refused = ground.refused(1, &add);
    assert!(
        refused.starts_with("error: there is a product \"monitor\" already"),
        "{refused}"
    );
    let toml = common::release_toml("1.0.0", 1)
        .replace("infusion-pump", "monitor")
        .replace("pump-mk3", "mon-1")
        .replace("[component.delta]\nbases = \"last:3\"\n", "");
    ground.write("release.toml", toml.as_bytes());
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.sign_all(&["alice", "bob", "monitor-lead"]);
    ground.publish();
    let verified = ground.ok(&["verify", "w/published"]);
    assert!(verified.contains("| monitor "), "{verified}");
    assert!(verified.contains("8 target files"), "{verified}");
}

#[test]
fn a_withdrawn_release_is_offered_no_more_and_its_numbers_are_not_used_again() {
    let ground = Ground::published();
    let refused = ground.refused(1, &["-w", "w", "withdraw", "infusion-pump", "9.9.9"]);
    assert!(
        refused.starts_with("error: there is no release 9.9.9 of infusion-pump"),
        "{refused}"
    );
    ground.ok(&["-w", "w", "withdraw", "infusion-pump", "2.4.0"]);
    let words = ground.ok(&["-w", "w", "review"]);
    assert!(
        words.contains("release 2.4.0 of infusion-pump is withdrawn"),
        "{words}"
    );
    ground.sign_all(&["engineer", "safety"]);
    ground.publish();
    let verified = ground.ok(&["verify", "w/published"]);
    assert!(verified.contains("0 target files"), "{verified}");

    ground.build(1);
    ground.release("2.4.0", 15);
    let refused = ground.refused(1, &["-w", "w", "add", "release.toml"]);
    assert!(
        refused.contains("version 2.4.0 is not above the last, 2.4.0"),
        "{refused}"
    );
    assert!(
        refused.contains("rollback_index 15 is below 16"),
        "{refused}"
    );
}

#[test]
fn a_signed_draft_is_thrown_away_and_made_anew() {
    // Before the first publication the draft stays, empty and unsigned.
    let ground = Ground::new();
    ground.build(0);
    ground.release("2.4.0", 16);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.sign_all(&["alice", "bob", "engineer"]);
    let told = ground.ok(&["-w", "w", "discard", "infusion-pump"]);
    assert!(told.contains("as it was after the ceremony"), "{told}");
    let words = ground.ok(&["review", "w/staging/1.infusion-pump.request"]);
    assert!(
        !words.contains("2.4.0") && words.contains("0 made"),
        "{words}"
    );
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.sign_all(&["engineer", "safety"]);
    ground.publish();
    // After it the draft goes, and what is published stays.
    ground.build(1);
    ground.release("2.4.1", 17);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.ok(&["-w", "w", "delta"]);
    ground.sign_all(&["engineer"]);
    ground.ok(&["-w", "w", "discard", "infusion-pump"]);
    assert!(!ground.path("w/staging/2.infusion-pump.request").exists());
    assert!(ground.publish().contains("nothing to publish"));
    ground.ok(&["verify", "w/published"]);
}

/// Catches a base that no device runs, one with too few devices, and a delta that does not pay and
/// is asked for again by `sign` and `publish`.
#[test]
fn deltas_follow_the_fleet_and_those_that_do_not_pay_are_left_out() {
    let ground = Ground::published();
    for (number, version, index) in [(7, "2.4.1", 17), (9, "2.4.2", 18)] {
        ground.build(number);
        ground.release(version, index);
        ground.ok(&["-w", "w", "add", "release.toml"]);
        ground.ok(&["-w", "w", "delta"]);
        ground.sign_all(&["safety", "engineer"]);
        ground.publish();
    }
    ground.build(11);
    ground.release("2.4.3", 19);
    let toml = String::from_utf8(ground.read("release.toml")).unwrap();
    let toml = toml.replace(
        "bases = \"last:3\"",
        "bases = \"fleet:1\"\nfleet = \"fleet.json\"",
    );
    ground.write("release.toml", toml.as_bytes());
    ground.write("fleet.json", br#"{"2.4.1": "many"}"#);
    let refused = ground.refused(1, &["-w", "w", "add", "release.toml"]);
    assert!(refused.contains("is no object of versions"), "{refused}");
    ground.write(
        "fleet.json",
        br#"{"2.4.0": 5, "2.4.1": 812, "2.4.2": 40, "1.0.0": 9999}"#,
    );
    let added = ground.ok(&["-w", "w", "add", "release.toml", "--json"]);
    assert!(added.contains("\"deltas_wanted\": 1"), "{added}");
    let built = ground.ok(&["-w", "w", "delta", "--json"]);
    assert!(built.contains("\"base\": \"2.4.1\""), "{built}");

    // An image that has nothing to do with the one before: its delta is as long as itself.
    let mut state = 1u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[4]
    })
    .take(50_000)
    .collect();
    ground.write("build/rootfs.img", &noise);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    let built = ground.ok(&["-w", "w", "delta", "--json"]);
    assert!(built.contains("\"pays\": false"), "{built}");
    assert_eq!(ground.ok(&["-w", "w", "delta", "--json"]).trim(), "[]");
    ground.sign_all(&["safety", "engineer"]);
    ground.publish();
    ground.ok(&["verify", "w/published"]);
}

/// A script reads all that a person reads. Catches: faults that are on standard error alone.
#[test]
fn an_error_in_json_has_its_causes() {
    let ground = Ground::published();
    ground.release("2.4.0", 15);
    let output = ground.run(&["--json", "-w", "w", "add", "release.toml"]);
    assert_eq!(output.status.code(), Some(1));
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["code"], "faults-in-file");
    let causes = error["causes"].as_array().unwrap();
    assert_eq!(causes.len(), 2, "{error}");
    assert_eq!(
        causes[1],
        "line 3: rollback_index 15 is below 16, which was signed before"
    );
}

/// Catches: a folder full of secret keys that is told to be empty.
#[test]
fn secret_keys_are_listed_without_their_public_halves() {
    let ground = Ground::bare();
    ground.write("keys/alice.key", &ground.read("alice.key"));
    ground.write("keys/bob.2.pub", &ground.read("bob.pub"));
    let listed = ground.ok(&["--json", "key", "list", "keys"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["holder"], "alice");
    assert_eq!(listed[0]["secret"], "keys/alice.key");
    assert!(listed[0]["keyid"].is_null());
    assert_eq!(listed[1]["holder"], "bob.2");
    assert!(listed[1]["secret"].is_null());
    assert_eq!(listed.as_array().unwrap().len(), 2);
    let said = ground.refused(1, &["key", "list"]);
    assert!(
        said.starts_with("error: \".\" is not a signer workspace"),
        "{said}"
    );
}
