//! A downgrade record: drafted, told in words, signed by the product's threshold, published.

mod common;

use ampoule_protocol::downgrade::Downgrade;
use ampoule_protocol::metadata::{Envelope, Payload, Targets};
use common::{Ground, PUBLISH};

/// 2.4.1 over 2.4.0, both listed.
fn ground() -> Ground {
    let ground = Ground::published();
    ground.build(7);
    ground.release("2.4.1", 17);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.ok(&["-w", "w", "delta"]);
    ground.sign_all(&["engineer", "safety"]);
    ground.publish();
    ground
}

fn downgrade<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        "-w",
        "w",
        "downgrade",
        "infusion-pump",
        "--device",
        "pump-0042",
    ];
    args.extend([
        "--from",
        "2.4.1",
        "--to",
        "2.4.0",
        "--reason",
        "The relay chatters.",
    ]);
    args.extend(more);
    args
}

/// The records in a version of the product's role.
fn records(ground: &Ground, version: u64) -> Vec<Downgrade> {
    let bytes = ground.read(&format!(
        "w/published/metadata/{version}.infusion-pump.json"
    ));
    let envelope = Envelope::parse(&bytes).expect("an envelope");
    let targets = Targets::from_signed(envelope.unverified()).expect("targets");
    let read = |(path, file): (_, &ampoule_protocol::metadata::TargetFile)| {
        Downgrade::at(path, file.custom.as_ref()).ok()
    };
    targets.targets.iter().filter_map(read).collect()
}

#[test]
fn a_record_is_told_in_words_and_needs_the_products_threshold() {
    let ground = ground();
    let drafted = ground.run(&downgrade(&[
        "--device",
        "pump-0043",
        "--expires-in-days",
        "7",
    ]));
    assert!(drafted.status.success());
    let warning = String::from_utf8_lossy(&drafted.stderr);
    assert!(
        warning.contains("warning: 2.4.1 is still listed"),
        "{warning}"
    );
    let words = ground.ok(&["-w", "w", "review"]);
    for expected in [
        "DOWNGRADE 1 of infusion-pump: from 2.4.1 to 2.4.0, their floor FALLS to 16",
        "for pump-0042, pump-0043",
        "because: The relay chatters.",
    ] {
        assert!(words.contains(expected), "{expected}\n--\n{words}");
    }
    ground.sign_all(&["engineer"]);
    ground.refused(1, &PUBLISH);
    ground.sign_all(&["safety"]);
    ground.publish();
    ground.ok(&["verify", "w/published"]);
    let records = records(&ground, 3);
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].serial, records[0].rollback_index.0), (1, 16));
}

#[test]
fn a_serial_is_never_used_again() {
    let ground = ground();
    for version in [3, 4] {
        ground.ok(&downgrade(&[]));
        ground.sign_all(&["engineer", "safety"]);
        ground.publish();
        let serials: Vec<u64> = records(&ground, version)
            .iter()
            .map(|it| it.serial)
            .collect();
        assert_eq!(serials.last(), Some(&(version - 2)), "{serials:?}");
    }
}

#[test]
fn what_cannot_be_a_downgrade_is_refused() {
    let ground = ground();
    let before = ["-w", "w", "downgrade", "infusion-pump", "--reason", "x"];
    for (more, expected) in [
        (
            vec!["--device", "p", "--from", "2.4.1", "--to", "1.0.0"],
            "there is no release 1.0.0",
        ),
        (
            vec!["--device", "p", "--from", "2.4.0", "--to", "2.4.1"],
            "it is not below \"from\"",
        ),
        (
            vec!["--device", "a/b", "--from", "2.4.1", "--to", "2.4.0"],
            "device id",
        ),
    ] {
        let args: Vec<&str> = before.into_iter().chain(more).collect();
        let refused = ground.refused(1, &args);
        assert!(refused.contains(expected), "{refused}");
    }
    let no_device = ["--from", "2.4.1", "--to", "2.4.0"];
    let args: Vec<&str> = before.into_iter().chain(no_device).collect();
    ground.refused(2, &args);
}
