//! Files and file systems in files, made without a mount.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell::{self, Fault, Outcome};
use crate::world::cannot;

pub(super) fn make_empty(file: &Path, length: u64) -> Outcome {
    let made = fs::File::create(file).and_then(|made| made.set_len(length));
    made.map_err(|e| cannot("make", file, &e))
}

pub(super) fn grow(file: &Path, length: u64) -> Outcome {
    let opened = fs::File::options().write(true).open(file);
    let found = opened.and_then(|opened| {
        let found = opened.metadata()?.len();
        opened.set_len(length)?;
        Ok(found)
    });
    match found.map_err(|e| cannot("grow", file, &e))? {
        found if found <= length => Ok(()),
        found => Err(Fault::new(format!(
            "an image has {found} bytes, expected at most {length}"
        ))),
    }
}

/// A file system of ext4 that holds what is in `folder`.
pub(super) fn make_ext4(file: &Path, length: u64, folder: &Path, more: &[&str]) -> Outcome {
    make_empty(file, length)?;
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-F"]).args(more);
    make.arg("-d").arg(folder).arg(file);
    shell::read(make.env("PATH", path_with_sbin()))?;
    Ok(())
}

pub(super) fn make_fat(file: &Path, length: u64) -> Outcome {
    make_empty(file, length)?;
    // The same bytes each time.
    let mut make = Command::new("mkfs.vfat");
    make.args(["--invariant"]).arg(file);
    shell::read(make.env("PATH", path_with_sbin()))?;
    Ok(())
}

pub(super) fn copy_in(file: &Path, from: &Path, name: &str) -> Outcome {
    let mut copy = Command::new("mcopy");
    copy.arg("-i").arg(file).arg(from).arg(format!("::{name}"));
    shell::read(&mut copy)?;
    Ok(())
}

pub(super) fn copy_text(folder: &Path, file: &Path, text: &str, name: &str) -> Outcome {
    let from = folder.join("copied.txt");
    fs::write(&from, text).map_err(|e| cannot("write", &from, &e))?;
    copy_in(file, &from, name)
}

/// Where mkfs lies is not in everybody's path.
pub(super) fn path_with_sbin() -> String {
    format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    )
}
