//! Components that are trees and files: first update, second update, an archive that leads out.

use std::path::Path;

use ampoule_protocol::release::Install;

use crate::kill::{Device, noise};
use crate::repo::Repo;
use crate::server::{self, Fault};

fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in entries {
        let mut header = tar::Header::new_gnu();
        // Written by hand: the builder itself refuses paths that lead out.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        builder
            .append(&header, content.as_bytes())
            .expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

fn current(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join("app/current/bin/tool")).ok()
}

#[test]
fn a_tree_is_swapped_by_its_link() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut repo = Repo::new();
    let server = server::start(folder, repo.tree.clone());
    let device = Device::new(
        folder,
        &server,
        repo.root(),
        "install = \"tree\"\ndir = \"app\"\n",
    );
    for (version, text) in [("1.0.0", "one"), ("1.1.0", "two")] {
        let index = text.len() as u64;
        repo.release(
            version,
            index,
            Install::Tree,
            &archive(&[("bin/tool", text), ("etc/a", "b")]),
        );
        server
            .world
            .lock()
            .expect("alive")
            .tree
            .clone_from(&repo.tree);
        device.settle();
        assert_eq!(current(folder).as_deref(), Some(text));
    }
    // What leads out is not unpacked, and what runs goes on running.
    repo.release("1.2.0", 9, Install::Tree, &archive(&[("../../out", "bad")]));
    server
        .world
        .lock()
        .expect("alive")
        .tree
        .clone_from(&repo.tree);
    let result = device.json(&["install"]);
    assert_eq!(
        (&result["result"], &result["fault"]["code"]),
        (&"failed".into(), &"unpack-failed".into())
    );
    assert!(!folder.join("out").exists());
    device.json(&["boot"]);
    assert_eq!(current(folder).as_deref(), Some("two"));
}

#[test]
fn a_file_is_replaced_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut repo = Repo::new();
    let server = server::start(folder, repo.tree.clone());
    let device = Device::new(
        folder,
        &server,
        repo.root(),
        "install = \"file\"\npath = \"library.db\"\n",
    );
    std::fs::write(folder.join("library.db"), b"from the factory").expect("writes");
    device.json(&["boot"]);
    assert_eq!(
        std::fs::read(folder.join("library.db")).expect("there"),
        b"from the factory"
    );
    for index in 1..=2 {
        let content = noise(index, 10_000);
        repo.release(
            &format!("1.{index}.0"),
            index.into(),
            Install::File,
            &content,
        );
        server
            .world
            .lock()
            .expect("alive")
            .tree
            .clone_from(&repo.tree);
        device.settle();
        assert_eq!(
            std::fs::read(folder.join("library.db")).expect("there"),
            content
        );
    }
}

#[test]
fn a_changed_byte_reaches_no_slot() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let mut repo = Repo::new();
    let server = server::start(folder, repo.tree.clone());
    let slots = "install = \"slot\"\nslots = { a = \"a.img\", b = \"b.img\" }\n";
    let device = Device::new(folder, &server, repo.root(), slots);
    repo.release("1.0.0", 1, Install::Slot, &noise(1, 10_000));
    {
        let mut world = server.world.lock().expect("alive");
        world.tree.clone_from(&repo.tree);
        world.fault = Fault::Flips;
    }
    let output = device.agent(&["install"]).output().expect("runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        error.contains("error: \"infusion-pump/rootfs-1.0.0.img\" is not what was signed"),
        "{error}"
    );
    let slot = std::fs::read(folder.join("b.img")).expect("made");
    assert!(
        slot.iter().all(|byte| *byte == 0),
        "an unsigned byte was written"
    );
    let receipt = server
        .world
        .lock()
        .expect("alive")
        .receipts
        .pop()
        .expect("told");
    let receipt: serde_json::Value = serde_json::from_slice(&receipt).expect("JSON");
    assert_eq!(receipt["signed"]["code"], "blocks-mismatch");
    // The next look, with the network mended, installs.
    server.world.lock().expect("alive").fault = Fault::None;
    device.settle();
    assert_eq!(
        device.json(&["status"])["components"][0]["version"],
        "1.0.0"
    );
}
