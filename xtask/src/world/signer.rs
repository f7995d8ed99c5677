//! The release engineers' side: the ceremony, and releases that two people sign.

use std::path::{Path, PathBuf};

use super::{COMPONENT, HARDWARE, PRODUCT, Room};
use crate::shell::{Fault, Outcome};

/// Everybody in this world keeps their keys under one passphrase; nobody else should.
const PASSPHRASE: &str = "for trying out only\n";

pub(crate) const WORKSPACE: &str = "release";
/// Where `publish` leaves the tree, in the room.
pub(crate) const TREE: &str = "release/published";
/// The key that goes to the server, in the room.
pub(crate) const TIMESTAMP_KEY: &str = "keys/timestamp.key";

/// The key that takes its place when it was stolen.
pub(crate) const NEXT_TIMESTAMP_KEY: &str = "keys/timestamp-2.key";

/// A release to be made.
pub(crate) struct Plan<'a> {
    /// Its version, for people.
    pub(crate) version: &'a str,
    /// Its rollback index, for machines.
    pub(crate) rollback_index: u64,
    /// What it is for.
    pub(crate) purpose: &'a str,
    /// The image.
    pub(crate) image: &'a Path,
    /// Whether deltas from older versions are made.
    pub(crate) with_delta: bool,
}

/// Root 2 of 3, product 2 of 2, snapshot and timestamp one key each.
pub(crate) fn ceremony(room: &Room) -> Outcome {
    room.write("keys/passphrase.txt", PASSPHRASE)?;
    let text = format!(
        r#"# Who holds which power.
[root]
threshold = 2
keys = ["alice.pub", "bob.pub", "carol.pub"]

[snapshot]
keys = ["snapshot.pub"]

[timestamp]
keys = ["timestamp.pub"]

[[product]]
name = "{PRODUCT}"
hardware = ["{HARDWARE}"]
threshold = 2
keys = ["engineer.pub", "safety.pub"]
"#
    );
    room.write("ceremony/ceremony.toml", text)?;
    let out = room.run(
        "ampoule-signer",
        &[
            "-w",
            WORKSPACE,
            "init",
            "ceremony/ceremony.toml",
            "--generate",
            "keys",
        ],
    )?;
    for line in out.lines().filter(|line| !line.trim().is_empty()).take(10) {
        room.say(line);
    }
    for holder in ["alice", "bob"] {
        sign_all(room, holder)?;
    }
    Ok(())
}

/// Drafts, reviews, signs by both holders and publishes.
pub(crate) fn release(room: &Room, plan: &Plan<'_>) -> Outcome {
    let version = plan.version;
    let sbom = format!("sources/sbom-{version}.cdx.json");
    room.write(&sbom, sbom_text(version))?;
    let toml = format!("sources/release-{version}.toml");
    room.write(&toml, release_text(plan)?)?;
    room.run("ampoule-signer", &["-w", WORKSPACE, "add", &toml])?;
    if plan.with_delta {
        room.run("ampoule-signer", &["-w", WORKSPACE, "delta"])?;
    }
    room.run("ampoule-signer", &["-w", WORKSPACE, "review"])?;
    for holder in ["engineer", "safety"] {
        sign_all(room, holder)?;
    }
    let keys = ["-k", "keys/snapshot.key", "-k", TIMESTAMP_KEY];
    room.run(
        "ampoule-signer",
        &[&["-w", WORKSPACE, "publish"][..], &keys].concat(),
    )?;
    Ok(())
}

/// Ends the power of whoever stole the timestamp key: root, signed by two of its holders, names
/// another one.
pub(crate) fn replace_timestamp_key(room: &Room) -> Outcome {
    let signer = |words: &[&str]| room.run("ampoule-signer", &[&["-w", WORKSPACE], words].concat());
    signer(&["key", "generate", NEXT_TIMESTAMP_KEY, "--unencrypted"])?;
    let public = NEXT_TIMESTAMP_KEY.replace(".key", ".pub");
    signer(&[
        "rotate",
        "timestamp",
        "--remove",
        "timestamp",
        "--add",
        &public,
    ])?;
    for holder in ["alice", "bob"] {
        sign_all(room, holder)?;
    }
    signer(&[
        "publish",
        "-k",
        "keys/snapshot.key",
        "-k",
        NEXT_TIMESTAMP_KEY,
    ])?;
    Ok(())
}

fn sign_all(room: &Room, holder: &str) -> Outcome {
    let key = format!("keys/{holder}.key");
    room.run(
        "ampoule-signer",
        &["-w", WORKSPACE, "sign", "--all", "-k", &key, "--yes"],
    )?;
    Ok(())
}

/// The published file of this name, under its digest.
pub(crate) fn published(room: &Room, name: &str) -> Outcome<PathBuf> {
    let folder = room.path(TREE).join("targets").join(PRODUCT);
    let entries = std::fs::read_dir(&folder).map_err(|e| super::cannot("list", &folder, &e))?;
    let ending = format!(".{name}");
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().ends_with(&ending))
        .ok_or_else(|| Fault::new(format!("\"{name}\" was not published")))
}

fn release_text(plan: &Plan<'_>) -> Outcome<String> {
    let Plan {
        version,
        rollback_index,
        purpose,
        image,
        with_delta,
    } = plan;
    let image = image
        .to_str()
        .ok_or_else(|| Fault::new(format!("\"{}\" is not UTF-8", image.display())))?;
    let mut text = format!(
        r#"product = "{PRODUCT}"
version = "{version}"
rollback_index = {rollback_index}
class = "security"
purpose = "{purpose}"
risk_if_not_applied = "The fault that it mends stays."
downtime_secs = 30
functions_unavailable = ["infusion"]
regions = ["US", "EU"]

[[component]]
name = "{COMPONENT}"
hardware = ["{HARDWARE}"]
artifact = '{image}'
install = "slot"
"#
    );
    if *with_delta {
        text.push_str("[component.delta]\nbases = \"last:2\"\n");
    }
    text += &["\n[sbom]\nfile = \"sbom-", version, ".cdx.json\"\n"].concat();
    Ok(text)
}

fn sbom_text(version: &str) -> String {
    format!(
        r#"{{"bomFormat":"CycloneDX","specVersion":"1.6","version":1,
"metadata":{{"component":{{"type":"firmware","name":"{PRODUCT}","version":"{version}"}}}},
"components":[]}}
"#
    )
}
