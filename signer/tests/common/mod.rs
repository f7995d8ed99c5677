//! A folder to sign in: a ceremony with deterministic keys, a workspace, builds.
//!
//! The keys are for tests alone: their seeds are their names.

#![allow(dead_code)] // Each test file uses its part of this.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_signer::sign::OpenKey;

pub(crate) const HOLDERS: [&str; 8] = [
    "alice",
    "bob",
    "carol",
    "engineer",
    "safety",
    "snapshot",
    "timestamp",
    "director",
];

/// Publishes what is signed, with the keys that sign online roles.
pub(crate) const PUBLISH: [&str; 7] = [
    "-w",
    "w",
    "publish",
    "-k",
    "snapshot.key",
    "-k",
    "timestamp.key",
];

/// The secret key of a holder.
pub(crate) fn key(name: &str) -> Ed25519Key {
    let seed = Digest::of(name.as_bytes());
    Ed25519Key::from_seed(seed.as_bytes()).expect("a seed")
}

/// The same, ready to sign with the library.
pub(crate) fn open(names: &[&str]) -> Vec<OpenKey> {
    let open = |name: &&str| OpenKey {
        name: (*name).to_owned(),
        key: Box::new(key(name)),
    };
    names.iter().map(open).collect()
}

/// A temporary folder with everything in it.
pub(crate) struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    /// Keys and a ceremony file; no workspace yet.
    pub(crate) fn bare() -> Self {
        let ground = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        };
        for name in HOLDERS {
            ground.make_key(name);
        }
        ground.write(
            "ceremony.toml",
            ampoule_signer::ceremony::EXAMPLE.as_bytes(),
        );
        ground.write("pw", b"a passphrase for tests\n");
        ground
    }

    /// With a workspace `w` whose drafts nobody has signed.
    pub(crate) fn new() -> Self {
        let ground = Self::bare();
        ground.ok(&["init", "ceremony.toml", "-w", "w"]);
        ground
    }

    /// With release 2.4.0 published.
    pub(crate) fn published() -> Self {
        let ground = Self::new();
        ground.build(0);
        ground.release("2.4.0", 16);
        ground.ok(&["-w", "w", "add", "release.toml"]);
        ground.sign_all(&["alice", "bob", "engineer", "safety"]);
        ground.publish();
        ground
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, bytes).expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// `NAME.key`, bare, and `NAME.pub`.
    pub(crate) fn make_key(&self, name: &str) {
        let key = key(name);
        self.write(&format!("{name}.key"), key.to_pkcs8_pem().as_bytes());
        self.write(
            &format!("{name}.pub"),
            &ampoule_signer::keys::public::to_bytes(key.public_key()),
        );
    }

    /// An image that differs a little from that of another number.
    pub(crate) fn build(&self, number: u8) {
        let mut image: Vec<u8> = (0..200_000u32)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
            .collect();
        image[1000..1064].fill(number);
        image.splice(
            90_000..90_000,
            std::iter::repeat_n(number, usize::from(number)),
        );
        self.write("build/rootfs.img", &image);
        self.write(
            "build/rootfs.cdx.json",
            br#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#,
        );
    }

    /// A `release.toml` without a fault.
    pub(crate) fn release(&self, version: &str, rollback_index: u64) {
        self.write(
            "release.toml",
            release_toml(version, rollback_index).as_bytes(),
        );
    }

    /// The command with these arguments, in this folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ampoule-signer"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("NO_COLOR", "1")
            .env_remove("RUST_BACKTRACE")
            .env_remove("AMPOULE_PASSPHRASE_FILE")
            .stdin(std::process::Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("the signer starts")
    }

    /// Runs to exit 0; standard output.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Runs to this exit code; standard error.
    pub(crate) fn refused(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
        stderr
    }

    /// Signs every draft that asks for these holders, one after the other.
    pub(crate) fn sign_all(&self, holders: &[&str]) {
        for holder in holders {
            let key = format!("{holder}.key");
            self.ok(&["-w", "w", "sign", "--all", "--yes", "-k", &key]);
        }
    }

    pub(crate) fn publish(&self) -> String {
        self.ok(&PUBLISH)
    }

    /// Every file below `name` with its bytes, lock files and part files aside.
    pub(crate) fn files(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        collect(&self.path(name), &mut files);
        files.sort();
        files
    }
}

fn collect(path: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            collect(&path, files);
        } else if !name.starts_with('.') {
            files.push((path.clone(), fs::read(&path).expect("read")));
        }
    }
}

pub(crate) fn release_toml(version: &str, rollback_index: u64) -> String {
    format!(
        r#"product = "infusion-pump"
version = "{version}"
rollback_index = {rollback_index}
class = "security"
purpose = "Closes CVE-2026-1234 in the network stack."
risk_if_not_applied = "A device can be stopped from the ward network."
downtime_secs = 90
functions_unavailable = ["infusion", "alarm relay"]
regions = ["US", "EU"]

[[component]]
name = "rootfs"
hardware = ["pump-mk3"]
artifact = "build/rootfs.img"
install = "slot"
requires = {{ bootloader = ">=2024.01" }}
[component.delta]
bases = "last:3"

[sbom]
file = "build/rootfs.cdx.json"
"#
    )
}

impl Ground {
    /// Another folder with the same files.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        };
        copy_dir(self.dir.path(), copy.dir.path());
        copy
    }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}
