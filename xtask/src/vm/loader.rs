//! The two boot loaders that updates are tried with. The disk that each starts from is in `disk`.
//!
//! | | systemd-boot | U-Boot |
//! |---|---|---|
//! | firmware | OVMF | U-Boot itself |
//! | a slot is | a file on the ESP: a unified kernel image | a partition with a FAT file system |
//! | settings | names of entries on the ESP | two copies of an environment on a partition |
//! | counts | the loader | `boot.scr`, since Debian's build keeps no environment |

use std::fs;
use std::path::Path;
use std::process::Command;

use super::disk::{COPIES, COPY_LEN, ENVIRONMENT, SECTOR};
use super::files::{copy_in, grow, make_fat};
use crate::shell::{self, Outcome};
use crate::world::cannot;

/// Bytes of the file system that a slot's image is, under U-Boot. It is filled to its end.
const FAT_IMAGE_LEN: u64 = 25 << 20;
/// Bytes of a file of a slot on the ESP: an image that is shorter is filled up to it, so that
/// every image has one length.
pub(super) const UKI_LEN: u64 = 24 << 20;
/// Boots of a trial.
pub(super) const ATTEMPTS: u32 = 2;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
pub(super) const UBOOT: &str = "/usr/lib/u-boot/qemu-x86/u-boot.rom";
const FIRMWARE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const FIRMWARE_SETTINGS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// What the kernel is told, beside its slot: to be quiet, and to restart at once when it panics.
pub(super) const WORDS: &str = "console=ttyS0 quiet panic=-1";

/// A boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loader {
    /// Under UEFI.
    SystemdBoot,
    /// As the firmware.
    Uboot,
}

impl Loader {
    /// Its name, on the command line too.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::SystemdBoot => "systemd-boot",
            Self::Uboot => "u-boot",
        }
    }

    /// What QEMU is told to start it.
    pub(super) fn machine(self, folder: &Path) -> Outcome<Vec<String>> {
        let words = match self {
            Self::SystemdBoot => {
                // Fresh at each start: what it remembers is not what this is about.
                let settings = folder.join("firmware-settings.fd");
                fs::copy(FIRMWARE_SETTINGS, &settings)
                    .map_err(|e| cannot("copy", Path::new(FIRMWARE_SETTINGS), &e))?;
                vec![
                    "-machine".into(),
                    "q35".into(),
                    "-drive".into(),
                    format!("if=pflash,format=raw,readonly=on,file={FIRMWARE}"),
                    "-drive".into(),
                    format!("if=pflash,format=raw,file={}", settings.display()),
                ]
            }
            Self::Uboot => ["-machine", "pc", "-bios", UBOOT]
                .map(str::to_owned)
                .to_vec(),
        };
        Ok(words)
    }

    /// Joins kernel and initramfs to what fills a slot.
    pub(super) fn pack(self, kernel: &Path, initramfs: &Path, file: &Path) -> Outcome {
        match self {
            Self::SystemdBoot => pack_uki(kernel, initramfs, file),
            Self::Uboot => {
                make_fat(file, FAT_IMAGE_LEN)?;
                copy_in(file, kernel, "linux")?;
                copy_in(file, initramfs, "initrd")
            }
        }
    }

    /// What the image mounts beside the device's own file systems: a FAT that power was taken from
    /// is mended first, or one of two files that claim the same cluster takes it from the other.
    pub(super) const fn mounts(self) -> &'static str {
        match self {
            Self::SystemdBoot => {
                "mount -t efivarfs efivarfs /sys/firmware/efi/efivars
/bin/fsck.fat -a /dev/vda1 2>&1 | sed 's/^/vm: fsck.fat: /'
mount -t vfat /dev/vda1 /esp"
            }
            Self::Uboot => "",
        }
    }

    /// `fw_env.config` of the image.
    pub(super) fn environment_places(self) -> String {
        match self {
            Self::SystemdBoot => String::new(),
            Self::Uboot => {
                let base = COPIES[0] * SECTOR;
                let line = |at: &u64| {
                    format!(
                        "/dev/vda{} {:#x} {COPY_LEN:#x}\n",
                        ENVIRONMENT.number,
                        at * SECTOR - base
                    )
                };
                COPIES.iter().map(line).collect()
            }
        }
    }

    /// How the agent is told of it.
    pub(super) const fn component(self) -> &'static str {
        match self {
            Self::SystemdBoot => {
                r#"slots = { a = "/esp/pump-a.efi", b = "/esp/pump-b.efi" }
boot = "systemd-boot"
[component.loader]
folder = "/esp/loader/entries"
entries = { a = "pump-a", b = "pump-b" }
"#
            }
            Self::Uboot => {
                r#"slots = { a = "/dev/vda3", b = "/dev/vda4" }
boot = "uboot"
"#
            }
        }
    }
}

fn pack_uki(kernel: &Path, initramfs: &Path, file: &Path) -> Outcome {
    let words = file.with_extension("words");
    fs::write(&words, WORDS).map_err(|e| cannot("write", &words, &e))?;
    let mut join = Command::new("objcopy");
    let sections = [
        (".cmdline", &words, "0x30000"),
        (".linux", &kernel.to_owned(), "0x2000000"),
        (".initrd", &initramfs.to_owned(), "0x3000000"),
    ];
    for (name, path, address) in sections {
        join.arg("--add-section")
            .arg(format!("{name}={}", path.display()));
        join.arg("--change-section-vma")
            .arg(format!("{name}={address}"));
    }
    shell::read(join.arg(STUB).arg(file))?;
    grow(file, UKI_LEN)
}
