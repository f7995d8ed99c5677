//! Block devices: what is read back comes from the medium, and the unused rest is given back.
//!
//! Method: a loop device over a file. Behind the system's back the file is changed, so that medium
//! and page cache differ, and the medium must be what is seen. Without root, or without loop
//! devices, there is nothing to look at, and the test says so.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use ampoule_agent::disk::Disk;
use ampoule_agent::ports::{Access, Kind, Storage};

const LEN: usize = 1 << 20;

/// A loop device, detached when it is dropped.
struct Loop {
    device: PathBuf,
    file: File,
    _folder: tempfile::TempDir,
}

impl Loop {
    fn new(name: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("medium");
        std::fs::write(&path, vec![1; LEN]).expect("writes");
        let attached = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(&path)
            .output();
        let attached = attached.ok().filter(|output| output.status.success());
        let Some(attached) = attached else {
            println!("{name}: no loop device to be had here; not tried");
            return None;
        };
        let device = String::from_utf8(attached.stdout).expect("a path");
        Some(Self {
            device: device.trim().into(),
            file: File::options().write(true).open(&path).expect("there"),
            _folder: folder,
        })
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup")
            .arg("--detach")
            .arg(&self.device)
            .status();
    }
}

fn first_byte(path: &Path, is_medium: bool) -> u8 {
    let file = if is_medium {
        Disk.open_medium(path)
    } else {
        Disk.open(path, Access::Read)
    };
    let mut byte = [0];
    let file = file.expect("opens");
    file.read_exact_at(&mut byte, 0).expect("reads");
    byte[0]
}

/// Meant to catch: an `open_medium` that opens as ever sees what is in memory.
#[test]
fn what_is_read_back_comes_from_the_medium() {
    let Some(disk) = Loop::new("reading back") else {
        return;
    };
    assert_eq!(Disk.kind(&disk.device).expect("there"), Some(Kind::Device));
    // Somebody else who has the device open keeps its pages in memory.
    let other = File::open(&disk.device).expect("opens");
    let mut page = [0; 4096];
    other.read_exact_at(&mut page, 0).expect("reads");
    disk.file.write_all_at(&[9; 4096], 0).expect("writes");
    assert_eq!(first_byte(&disk.device, false), 1, "the page is in memory");
    assert_eq!(first_byte(&disk.device, true), 9);
}

#[test]
fn every_place_and_length_reads_the_same() {
    let Some(disk) = Loop::new("places and lengths") else {
        return;
    };
    let content: Vec<u8> = (0..LEN)
        .map(|at| u8::try_from(at / 7 % 251).expect("below 251"))
        .collect();
    let mut file = Disk.open(&disk.device, Access::Write).expect("opens");
    file.write_at(&content, 0).expect("writes");
    file.sync().expect("flushes");
    let medium = Disk.open_medium(&disk.device).expect("opens");
    assert_eq!(medium.len().expect("told"), LEN as u64);
    for (offset, len) in [
        (0, 1),
        (4095, 2),
        (5, 9000),
        (0, LEN),
        (LEN - 3, 3),
        (100_000, 300_000),
    ] {
        let mut found = vec![0; len];
        medium
            .read_exact_at(&mut found, offset as u64)
            .expect("reads");
        assert!(found == content[offset..offset + len], "{offset} {len}");
    }
    let mut beyond = [0; 2];
    medium
        .read_exact_at(&mut beyond, LEN as u64 - 1)
        .expect_err("the end");
}

#[test]
fn the_unused_rest_is_given_back() {
    let Some(disk) = Loop::new("discard") else {
        return;
    };
    let before = disk.file.metadata().expect("there").blocks();
    let mut file = Disk.open(&disk.device, Access::Write).expect("opens");
    file.discard(LEN as u64 / 2).expect("punches");
    file.sync().expect("flushes");
    let after = disk.file.metadata().expect("there").blocks();
    println!("{before} blocks before, {after} after");
    assert!(
        after <= before * 3 / 4,
        "{before} blocks before, {after} after"
    );
    assert_eq!(first_byte(&disk.device, true), 1, "the image itself stays");
}
