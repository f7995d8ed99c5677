//! The three images of the demo: one that runs, one that is better, one that is bad.
//!
//! Without files of your own they are made of this workspace's release programs. The second is
//! really rebuilt with another version stamp and another feature; the third is built with a bug
//! that its self-test finds on the device. With `--old` and `--new` they are your files, and the
//! third is the second with a last block that says it is bad.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Outcome};
use crate::workspace;
use crate::world::{Room, cannot};

/// What else is in an image, beside the pump's own program.
const PROGRAMS: [&str; 4] = [
    "ampoule-agent",
    "ampoule-delta",
    "ampoule-server",
    "ampoule-signer",
];

/// Looked for by the device's health check in images that are no archive of ours.
const BAD_TRAILER: &str = "ampoule-demo: self-test failed";

/// Where the images lie.
pub(crate) struct Images {
    /// Runs at first.
    pub(crate) old: PathBuf,
    /// The good update.
    pub(crate) new: PathBuf,
    /// The bad one.
    pub(crate) bad: PathBuf,
}

/// Makes the images from what cargo builds. `programs` is the folder of release programs, which
/// holds the plain build again when this is done.
pub(crate) fn built(room: &Room, programs: &Path) -> Outcome<Images> {
    let make = |name: &str, version: &str, features: &str| -> Outcome<PathBuf> {
        build_pump(version, features)?;
        pack(room, programs, name, version)
    };
    let bad = make("bad.img", "2.4.2", "alarm-relay,stuck-alarm")?;
    let new = make("new.img", "2.4.1", "alarm-relay")?;
    let old = make("old.img", "2.4.0", "")?;
    Ok(Images { old, new, bad })
}

/// Takes two files as they are, and makes the third of the second.
pub(crate) fn given(room: &Room, old: &Path, new: &Path) -> Outcome<Images> {
    let copy = |from: &Path, name: &str| -> Outcome<PathBuf> {
        let to = room.path("sources").join(name);
        fs::create_dir_all(room.path("sources")).map_err(|e| cannot("make", &to, &e))?;
        fs::copy(from, &to).map_err(|e| cannot("copy", from, &e))?;
        Ok(to)
    };
    let (old, good, bad) = (
        copy(old, "old.img")?,
        copy(new, "new.img")?,
        copy(new, "bad.img")?,
    );
    let mut bytes = fs::read(&bad).map_err(|e| cannot("read", &bad, &e))?;
    bytes.extend_from_slice(format!("{BAD_TRAILER:\0<4096}").as_bytes());
    fs::write(&bad, bytes).map_err(|e| cannot("write", &bad, &e))?;
    Ok(Images {
        old,
        new: good,
        bad,
    })
}

/// The device's health check: what runs must say of itself that it is well.
pub(crate) fn health_check(room: &Room) -> Outcome<PathBuf> {
    let script = format!(
        r#"#!/bin/sh
# The image in the running slot must pass its own self-test.
here=$(dirname "$0")
slot=$(cat "$here/running")
if tar -xOf "$slot" bin/pump > "$here/pump" 2> "$here/tar.log"; then
    chmod +x "$here/pump"
    exec "$here/pump" --self-test
fi
! tail -c 4096 "$slot" | grep -aq '{BAD_TRAILER}'
"#
    );
    let path = room.write("device/self-test", script)?;
    shell::quietly(Command::new("chmod").arg("+x").arg(&path))?;
    Ok(path)
}

fn build_pump(version: &str, features: &str) -> Outcome {
    let mut cargo = workspace::cargo();
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "ampoule-examples",
    ]);
    cargo
        .args(["--bin", "pump", "--features", features])
        .env("PUMP_VERSION", version);
    shell::run(&mut cargo)
}

/// An archive with nothing in it that differs from one run to the next.
fn pack(room: &Room, programs: &Path, name: &str, version: &str) -> Outcome<PathBuf> {
    let tree = room.path("sources/tree");
    for (file, text) in [
        ("etc/version", version),
        ("etc/hardware", crate::world::HARDWARE),
    ] {
        room.write(&format!("sources/tree/{file}"), format!("{text}\n"))?;
    }
    fs::create_dir_all(tree.join("bin")).map_err(|e| cannot("make", &tree, &e))?;
    for program in PROGRAMS.iter().chain(&["pump"]) {
        let from = programs.join(program);
        fs::copy(&from, tree.join("bin").join(program)).map_err(|e| cannot("copy", &from, &e))?;
    }
    let image = room.path("sources").join(name);
    let mut tar = Command::new("tar");
    tar.args([
        "--create",
        "--sort=name",
        "--owner=0",
        "--group=0",
        "--numeric-owner",
    ]);
    tar.args(["--mtime=@0", "--format=gnu", "--directory"])
        .arg(&tree)
        .arg("--file")
        .arg(&image);
    tar.args(["bin", "etc"]);
    shell::quietly(&mut tar)?;
    Ok(image)
}
