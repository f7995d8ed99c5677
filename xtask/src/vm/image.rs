//! Images of the emulated device: kernel and initramfs, good ones and those that must come back.

use std::fs;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::loader::Loader;
use super::parts::Parts;
use super::random::Random;
use super::userland::init;
use crate::shell::Outcome;
use crate::world::cannot;

/// Bytes that differ from image to image, so that a fill has something to write.
const OWN_LEN: usize = 2 << 20;
/// Room for what else is an image's own.
const OWN_MORE_LEN: usize = 64 << 10;

/// The jump to itself that a hanging kernel consists of: `eb fe`.
pub(super) const HANG: [u8; 2] = [0xeb, 0xfe];

/// What an image does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It works.
    Good,
    /// Its kernel hangs at its first instruction.
    Hangs,
    /// Its kernel panics when userland begins.
    Panics,
    /// It comes up without an agent.
    NoAgent,
    /// Its health check says no.
    Sick,
}

/// An image in a file.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// Its number: version 1.0.N, rollback index N.
    pub(super) number: u32,
    /// Where it is.
    pub(super) file: PathBuf,
    /// What it does.
    pub(super) kind: Kind,
}

impl Image {
    /// Puts one together in `folder`.
    pub(super) fn make(
        parts: &Parts,
        loader: Loader,
        folder: &Path,
        number: u32,
        kind: Kind,
    ) -> Outcome<Self> {
        fs::create_dir_all(folder).map_err(|e| cannot("make", folder, &e))?;
        let kernel = folder.join("linux");
        let initramfs = folder.join("initrd");
        let write = |path: &Path, bytes: &[u8]| {
            fs::write(path, bytes).map_err(|e| cannot("write", path, &e))
        };
        match kind {
            Kind::Hangs => write(&kernel, &hanging(&parts.kernel))?,
            Kind::Good | Kind::Panics | Kind::NoAgent | Kind::Sick => {
                write(&kernel, &parts.kernel)?;
            }
        }
        write(&initramfs, &initramfs_of(parts, loader, number, kind))?;
        let file = folder.join(format!("image-{number}"));
        loader.pack(&kernel, &initramfs, &file)?;
        Ok(Self { number, file, kind })
    }

    /// Its version, for people.
    pub(super) fn version(&self) -> String {
        version(self.number)
    }
}

/// The version of an image of this number.
pub(super) fn version(number: u32) -> String {
    format!("1.0.{number}")
}

/// A bzImage with a jump to itself at each place where a boot loader may enter it
/// (Documentation/arch/x86/boot.rst).
fn hanging(kernel: &[u8]) -> Vec<u8> {
    let word = |at: usize| {
        let bytes: Option<[u8; 4]> = kernel.get(at..at + 4).and_then(|four| four.try_into().ok());
        bytes.map_or(0, |bytes| u32::from_le_bytes(bytes) as usize)
    };
    let setup_sectors = match kernel.get(0x1f1) {
        None | Some(0) => 4,
        Some(count) => usize::from(*count),
    };
    let protected = (setup_sectors + 1) * 512;
    let head = word(0x3c);
    let entries = [
        protected,
        protected + 0x200,
        protected + word(0x264),
        protected + 0x200 + word(0x264),
        word(head + 0x28),
    ];
    let mut kernel = kernel.to_vec();
    for entry in entries {
        if let Some(place) = kernel.get_mut(entry..entry + HANG.len()) {
            place.copy_from_slice(&HANG);
        }
    }
    kernel
}

/// The kernel unpacks archives one after the other: first what is this image's own, as it is, then
/// what all images share, compressed once.
fn initramfs_of(parts: &Parts, loader: Loader, number: u32, kind: Kind) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["bin", "etc"] {
        archive.folder(folder);
    }
    archive.file("init", init(loader, number, kind).as_bytes());
    archive.file("etc/version", version(number).as_bytes());
    archive.file("etc/hosts", b"10.0.2.2 localhost\n");
    archive.file("etc/nsswitch.conf", b"hosts: files\n");
    archive.file("etc/fw_env.config", loader.environment_places().as_bytes());
    let health = if kind == Kind::Sick {
        "exit 1"
    } else {
        "exit 0"
    };
    archive.file("bin/health", format!("#!/bin/sh\n{health}\n").as_bytes());
    let mut own = Random::new(u64::from(number));
    archive.file("etc/own", &own.bytes(OWN_LEN));
    let mut bytes = archive.finish();
    // What is shared begins at one place in every image, so that its blocks do not differ.
    bytes.resize(OWN_LEN + OWN_MORE_LEN, 0);
    bytes.extend(match kind {
        Kind::NoAgent => &parts.shared_without_agent,
        Kind::Good | Kind::Hangs | Kind::Panics | Kind::Sick => &parts.shared,
    });
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a kernel that hangs in the test and boots with another loader.
    #[test]
    fn a_hanging_kernel_hangs_wherever_it_is_entered() {
        let mut kernel = vec![0; 8192];
        kernel[0x1f1] = 1;
        kernel[0x3c..0x40].copy_from_slice(&0x40_u32.to_le_bytes());
        kernel[0x68..0x6c].copy_from_slice(&0x1800_u32.to_le_bytes());
        kernel[0x264..0x268].copy_from_slice(&0x190_u32.to_le_bytes());
        let hanging = hanging(&kernel);
        for entry in [0x400, 0x600, 0x590, 0x790, 0x1800] {
            assert_eq!(hanging[entry..entry + 2], HANG, "{entry:x}");
        }
    }
}
