//! Three attackers who own the network and the server's machine.
//!
//! Each serves a tree of their own with the real server program, its real TLS certificate and its
//! store; what they lack is a threshold of keys that never were on that machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::images::Images;
use crate::shell::{self, Fault, Outcome};
use crate::world::device::Device;
use crate::world::server::{self, Server, Settings};
use crate::world::signer;
use crate::world::{COMPONENT, PRODUCT, Room, cannot};

/// The tree as it was after the first release, kept by somebody who waits.
const OLD_TREE: &str = "attack/old-tree";

/// An attack.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attack {
    /// One byte of the image and of each delta is changed.
    FlippedByte,
    /// A timestamp that was good once is served again.
    OldTimestamp,
    /// New metadata is made and signed with the one key that was on the server.
    StolenKey,
}

/// All of them, in the order of the story.
pub(crate) fn all() -> [Attack; 3] {
    [Attack::FlippedByte, Attack::OldTimestamp, Attack::StolenKey]
}

/// Keeps the tree as it is now for [`Attack::OldTimestamp`].
pub(crate) fn keep_old_tree(room: &Room) -> Outcome {
    copy_tree(room, signer::TREE, OLD_TREE)
}

/// The image of the release that the attackers try to spoil: the good one, with a line more.
pub(crate) fn fixed_image(room: &Room, images: &Images) -> Outcome<PathBuf> {
    let mut bytes = fs::read(&images.new).map_err(|e| cannot("read", &images.new, &e))?;
    bytes.extend_from_slice(format!("{:\0<4096}", "ampoule-demo: mended").as_bytes());
    room.write("sources/fixed.img", bytes)
}

impl Attack {
    /// What the table calls it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::FlippedByte => "attack: one byte changed",
            Self::OldTimestamp => "attack: old timestamp replayed",
            Self::StolenKey => "attack: signed with the stolen server key",
        }
    }

    /// Plays it against the device; why the device refused.
    pub(crate) fn play(self, room: &Room, device: &Device<'_>, port: u16) -> Outcome<String> {
        // Where the server does not sign, it serves the timestamp that lies in the tree.
        let (tree, timestamp_key) = match self {
            Self::FlippedByte => (flip(room)?, Some(signer::TIMESTAMP_KEY)),
            Self::OldTimestamp => (OLD_TREE.to_owned(), None),
            Self::StolenKey => (forge(room)?, None),
        };
        let settings = Settings {
            tree: &tree,
            timestamp_key,
            port,
            poll_interval_secs: 300,
            more: "",
        };
        server::configure(room, &settings)?;
        let server = Server::start(room, &[])?;
        let refusal = device.refuses();
        server.stop()?;
        refusal
    }
}

fn flip(room: &Room) -> Outcome<String> {
    let tree = "attack/flipped";
    copy_tree(room, signer::TREE, tree)?;
    for name in [
        format!("{COMPONENT}-2.4.3.img"),
        format!("{COMPONENT}-2.4.1-to-2.4.3.delta"),
    ] {
        let blob = signer::published(room, &name)?;
        let spoiled = room
            .path(tree)
            .join("targets")
            .join(PRODUCT)
            .join(file_name(&blob)?);
        let mut bytes = fs::read(&blob).map_err(|e| cannot("read", &blob, &e))?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&spoiled, bytes).map_err(|e| cannot("write", &spoiled, &e))?;
        room.say(&format!("byte {middle} of {name} is not what it was"));
    }
    Ok(tree.to_owned())
}

fn forge(room: &Room) -> Outcome<String> {
    let (found, tree) = ("attack/found", "attack/forged");
    copy_tree(room, signer::TREE, found)?;
    // The newest timestamp is the one that the server signed itself: it lies on the same disk.
    let (from, to) = (
        room.path("server/store/timestamp.json"),
        room.path(found).join("metadata/timestamp.json"),
    );
    fs::copy(&from, &to).map_err(|e| cannot("copy", &from, &e))?;
    room.write("attack/evil.img", "anything at all\n".repeat(4096))?;
    let words = [
        found,
        signer::TIMESTAMP_KEY,
        PRODUCT,
        "attack/evil.img",
        tree,
    ];
    let told = room.run("thief", &words)?;
    room.say(told.trim());
    Ok(tree.to_owned())
}

fn copy_tree(room: &Room, from: &str, to: &str) -> Outcome {
    let to = room.path(to);
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(|e| cannot("make", folder, &e))?;
    }
    let mut copy = Command::new("cp");
    shell::quietly(
        copy.args(["--recursive", "--reflink=auto"])
            .arg(room.path(from))
            .arg(&to),
    )
}

fn file_name(path: &Path) -> Outcome<PathBuf> {
    let name = path.file_name().map(PathBuf::from);
    name.ok_or_else(|| Fault::new(format!("\"{}\" has no name", path.display())))
}
