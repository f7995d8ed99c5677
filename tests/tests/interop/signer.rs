//! The tree that `ampoule-signer` publishes, run as the command it is, read by everybody.
//!
//! Ceremony, release, signatures of every holder, publication; then a root holder changes and the
//! tree is published again. After each, our device, python-tuf over HTTP and sigstore-tuf read it.

use std::path::Path;
use std::process::Command;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::ProductName;
use ampoule_tests::device::Device;
use ampoule_tests::sim::Tree;

use crate::peers;
use crate::python;
use crate::sigstore::Peer;

const RELEASE: &str = r#"product = "infusion-pump"
version = "2.4.0"
rollback_index = 16
class = "security"
purpose = "Closes CVE-2026-1234 in the network stack."
risk_if_not_applied = "A device can be stopped from the ward network."
downtime_secs = 90
functions_unavailable = ["infusion"]
regions = ["EU"]

[[component]]
name = "rootfs"
hardware = ["pump-mk3"]
artifact = "rootfs.img"
install = "slot"

[sbom]
file = "rootfs.cdx.json"
"#;
const TARGET: &str = "infusion-pump/rootfs-2.4.0.img";

/// Runs the signer in `folder`.
fn sign(folder: &Path, arguments: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_signer-under-test"))
        .args(arguments)
        .current_dir(folder)
        .env("AMPOULE_PASSPHRASE_FILE", folder.join("passphrase"))
        .output()
        .expect("the signer runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "ampoule-signer {arguments:?}: {errors}"
    );
}

fn sign_all_and_publish(folder: &Path, holders: &[&str]) {
    for holder in holders {
        let key = format!("keys/{holder}.key");
        sign(folder, &["-w", "w", "sign", "--all", "--yes", "-k", &key]);
    }
    let online = ["-k", "keys/snapshot.key", "-k", "keys/timestamp.key"];
    sign(folder, &[&["-w", "w", "publish"][..], &online].concat());
}

/// A workspace with one release, published.
fn published(folder: &Path) {
    let image = peers::image();
    for (name, content) in [
        (
            "ceremony.toml",
            ampoule_signer::ceremony::EXAMPLE.as_bytes(),
        ),
        ("passphrase", b"a passphrase for tests\n"),
        ("release.toml", RELEASE.as_bytes()),
        ("rootfs.img", &image),
        (
            "rootfs.cdx.json",
            br#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#,
        ),
    ] {
        std::fs::write(folder.join(name), content).expect("written");
    }
    sign(
        folder,
        &[
            "init",
            "ceremony.toml",
            "-w",
            "w",
            "--generate",
            "keys",
            "--work-factor",
            "1",
        ],
    );
    sign(folder, &["-w", "w", "add", "release.toml"]);
    sign_all_and_publish(folder, &["alice", "carol", "engineer", "safety"]);
}

/// Our device installs the release; a peer downloads its image.
fn is_read_by_all(tree: &Tree, device: &mut Device, peer: &Peer) {
    let image = Digest::of(&peers::image());
    let product = ProductName::parse("infusion-pump").expect("a product");
    let installed = device
        .install(tree, peers::now(), &product)
        .expect("our device");
    assert_eq!(installed.image, image);
    let bytes = peer
        .download(tree, peers::now(), TARGET)
        .expect("sigstore-tuf");
    assert_eq!(Digest::of(&bytes), image);
}

#[test]
fn everybody_reads_what_the_signer_publishes_and_follows_its_rotation() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    published(folder);
    let tree = peers::read_tree(&folder.join("w/published"));
    let root = tree["metadata/1.root.json"].clone();
    let (mut device, peer) = (Device::new(&root), Peer::new(&root));
    is_read_by_all(&tree, &mut device, &peer);
    let targets = [(TARGET, Digest::of(&peers::image()))];
    let work = tempfile::tempdir().expect("a folder");
    if let Some(python) = python::python() {
        assert_eq!(python::read(&python, work.path(), &tree, &targets), 1);
    }

    sign(
        folder,
        &["key", "generate", "keys/dora.key", "--work-factor", "1"],
    );
    sign(
        folder,
        &[
            "-w",
            "w",
            "rotate",
            "root",
            "--remove",
            "carol",
            "--add",
            "keys/dora.pub",
        ],
    );
    sign_all_and_publish(folder, &["alice", "bob", "dora"]);
    let tree = peers::read_tree(&folder.join("w/published"));
    assert!(tree.contains_key("metadata/2.root.json"));
    is_read_by_all(&tree, &mut device, &peer);
    assert_eq!(peer.version("root.json"), Some(2));
    if let Some(python) = python::python() {
        assert_eq!(python::read(&python, work.path(), &tree, &targets), 2);
        let metadata = folder.join("w/published/metadata");
        python::peer(
            &python,
            &["check", metadata.to_str().expect("a plain path")],
        );
    }
}
