//! The real daemon is two processes, and both stand their walls: seen from outside, in `/proc`, while an
//! update goes from the server into the slot.
//!
//! Meant to catch: a daemon that speaks to the server itself; a half that keeps its user or its
//! capabilities; walls that are built and not stood.

use std::path::Path;

use serde_json::Value;

use crate::gates::Ward;
use crate::kill::noise;
use crate::recover::{IMAGE, settled};

/// Nothing in it names a program.
const CONSENT: &str = "[gates]\ninterval_secs = 1\n[gates.consent]\n";
const POLL: &str = "[poll]\ninterval_secs = 600\n";

/// A field of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name}:")))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The child of a process that runs as `network`.
fn half_of(parent: u32) -> Option<u32> {
    let pids = std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let mut children = pids.filter(|pid| field(*pid, "PPid") == Some(parent.to_string()));
    children.find(|pid| {
        let line = std::fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
        line.is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == b"network"))
    })
}

fn sockets_of(pid: u32) -> usize {
    let inodes: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("ours")
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|link| link.to_string_lossy().into_owned())
        .collect();
    let tcp = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("there");
    let is_tcp = |link: &&String| {
        let inode = link
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| tcp.split_whitespace().any(|word| word == inode))
    };
    inodes.iter().filter(is_tcp).count()
}

fn assert_walled(pid: u32) {
    assert_eq!(field(pid, "Seccomp").as_deref(), Some("2"), "{pid}");
    assert_eq!(field(pid, "NoNewPrivs").as_deref(), Some("1"), "{pid}");
    assert_eq!(field(pid, "Threads").as_deref(), Some("1"), "{pid}");
}

#[test]
fn an_update_goes_through_two_walled_processes() {
    let ward = Ward::new(&format!("{CONSENT}{POLL}"));
    let daemon = ward.daemon();
    let writer = daemon.0.id();
    ward.until("waits", |ward| ward.status()["phase"] == "waiting");
    let half = half_of(writer).expect("a process that speaks to the server");
    for pid in [writer, half] {
        assert_walled(pid);
    }
    if field(writer, "Uid").is_some_and(|uids| uids.starts_with("0\t")) {
        let uids = field(half, "Uid").expect("alive");
        assert!(uids.split('\t').all(|uid| uid == "65534"), "{uids}");
        assert_eq!(field(half, "CapEff").as_deref(), Some("0000000000000000"));
    }
    assert_eq!(
        sockets_of(writer),
        0,
        "the writer speaks to the server itself"
    );
    let slot = std::fs::read(ward.folder().join("b.img")).expect("the slot");
    assert_eq!(slot.len(), 9_000, "the image came through both");
    let update: Value = ward.status()["update"].clone();
    assert_eq!(update["version"], "1.0.1", "{update}");
}

/// Meant to catch: a recovery image, which may write every slot, without the daemon's walls.
#[test]
fn a_repair_goes_through_them_too() {
    let mut ward = settled(&format!("{IMAGE}{CONSENT}"));
    ward.publish("1.0.2", 2, &noise(2, 9_000));
    let path = ward.folder().join("b.img");
    let mut damaged = std::fs::read(&path).expect("a slot");
    damaged[100] ^= 1;
    std::fs::write(&path, damaged).expect("writes");
    let recovery = ward.start("recover");
    ward.until("waits", |ward| ward.status()["phase"] == "waiting");
    let writer = recovery.0.id();
    assert_walled(writer);
    assert_walled(half_of(writer).expect("a process that speaks to the server"));
    assert_eq!(sockets_of(writer), 0);
}
