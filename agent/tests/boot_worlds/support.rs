//! What all worlds' tests need: a verified image, a kernel command line, and the real tools.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ampoule_agent::boot::world::{PerSlot, Running};
use ampoule_agent::install::{Options, Place, VerifiedImage, verify};
use ampoule_agent::machine::{Part, Slot, Whole};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{ComponentName, TargetPath};
use ampoule_protocol::release::{Blocks, FileRef, Install};

use crate::sim::SimDisk;

pub(crate) const CMDLINE: &str = "/proc/cmdline";

pub(crate) fn component() -> ComponentName {
    ComponentName::parse("rootfs").expect("a name")
}

/// A slot that was read back: the only thing that can be armed.
pub(crate) fn image(slot: Slot) -> VerifiedImage {
    let disk = SimDisk::default();
    let content = b"a whole image";
    let slots = ["/slot-a".into(), "/slot-b".into()];
    for path in &slots {
        disk.put(path, content);
    }
    let place = Place {
        component: component(),
        install: Install::Slot,
        slots,
        visible: PathBuf::new(),
        boot_file: PathBuf::new(),
        options: Options::default(),
    };
    let file = FileRef {
        path: TargetPath::parse("pump/rootfs.img").expect("a path"),
        length: content.len() as u64,
        sha256: Digest::of(content),
    };
    let blocks = Blocks {
        block_len: 65536,
        root: file.sha256,
        leaves: file.clone(),
    };
    let part = Part {
        component: component(),
        install: Install::Slot,
        slot,
        artifact: file,
        blocks,
        delta: None,
        before: None,
        whole: Whole::Allowed,
        meta_data: None,
        live: false,
    };
    verify(&disk, &place, &part, &mut |_, _| {}).expect("an image that is there")
}

pub(crate) fn running() -> Running {
    let words = PerSlot {
        a: "rauc.slot=A".to_owned(),
        b: "rauc.slot=B".to_owned(),
    };
    Running::CommandLine {
        path: CMDLINE.into(),
        words,
    }
}

pub(crate) fn names() -> PerSlot<String> {
    PerSlot {
        a: "A".to_owned(),
        b: "B".to_owned(),
    }
}

/// Tells the system which slot was booted.
#[expect(
    clippy::unnecessary_wraps,
    reason = "what a model of a loader answers; some start nothing"
)]
pub(crate) fn start(disk: &SimDisk, slot: Slot) -> Option<Slot> {
    let name = slot.as_str().to_uppercase();
    disk.put(
        CMDLINE,
        format!("console=ttyS0 rauc.slot={name} quiet\n").as_bytes(),
    );
    Some(slot)
}

/// A tool of a Debian package. Without it the test fails, unless parts were to be left out.
pub(crate) fn tool(name: &str, package: &str) -> Option<Tool> {
    let folders = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    if found.is_none() {
        assert!(
            std::env::var_os("AMPOULE_TEST_OFFLINE").is_some_and(|value| value == "1"),
            "\"{name}\" is missing: install the Debian package {package}, \
             or set AMPOULE_TEST_OFFLINE=1 to leave this test out"
        );
        eprintln!("left out: what needs \"{name}\" of the Debian package {package}");
    }
    found.map(Tool)
}

pub(crate) struct Tool(PathBuf);

impl Tool {
    pub(crate) fn output(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.0);
        command.args(arguments).env("SYSTEMD_RELAX_ESP_CHECKS", "1");
        command.output().expect("the tool runs")
    }

    /// What it prints; it has to succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        let (out, err) = (&output.stdout, &output.stderr);
        let err = String::from_utf8_lossy(err);
        assert!(
            output.status.success(),
            "{} {arguments:?}: {err}",
            self.0.display()
        );
        String::from_utf8(out.clone()).expect("text")
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of text")
}
