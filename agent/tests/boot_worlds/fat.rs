//! What the simulated disk knows of FAT: a test that a backend passes on it says something.

use std::path::Path;

use ampoule_agent::ports::{Access, Storage};

use crate::sim::SimDisk;

const FOLDER: &str = "/boot/loader/entries";

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new(FOLDER)).expect("a folder")
}

/// That the fault can be told by this disk, so that a backend which renames over entries is caught.
#[test]
fn a_rename_over_a_file_of_fat_may_leave_a_name_with_the_next_files_bytes() {
    let disk = SimDisk::with_fat(FOLDER);
    let path = |name: &str| Path::new(FOLDER).join(name);
    disk.put(path("old"), b"old");
    disk.put(path("new"), b"new");
    disk.rename(&path("new"), &path("old")).expect("power");
    let after = (0..disk.outcomes()).map(|outcome| disk.after_cut(outcome));
    let after: Vec<_> = after.collect();
    assert!(after.iter().any(|disk| names(disk).is_empty()), "neither");
    let both = after.iter().find(|disk| {
        let is_there = disk.bytes(path("new")).as_deref() == Some(b"new");
        is_there && disk.bytes(path("old")).as_deref() == Some(b"old")
    });
    let next = after.iter().find(|disk| {
        let mut file = disk.open(&path("next"), Access::Create).expect("power");
        file.write_at(b"next", 0).expect("power");
        disk.bytes(path("old")).as_deref() == Some(b"next")
    });
    assert!(both.is_some() && next.is_some());
}
