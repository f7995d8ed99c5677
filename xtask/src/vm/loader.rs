//! The two boot loaders that updates are tried with, and the disk that each of them starts from.
//!
//! | | systemd-boot | U-Boot |
//! |---|---|---|
//! | firmware | OVMF | U-Boot itself |
//! | a slot is | a file on the ESP: a unified kernel image | a partition with a FAT file system |
//! | settings | names of entries on the ESP | two copies of an environment on a partition |
//! | counts | the loader | `boot.scr`, since Debian's build keeps no environment |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::image::Image;
use super::medium::Medium;
use super::parts;
use super::script;
use crate::shell::{self, Fault, Outcome};
use crate::world::cannot;

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// Bytes of the file system that a slot's image is, under U-Boot. It is filled to its end.
const FAT_IMAGE_LEN: u64 = 34 << 20;
/// Bytes of a file of a slot on the ESP: an image that is shorter is filled up to it, so that
/// every image has one length.
const UKI_LEN: u64 = 33 << 20;
/// Boots of a trial.
pub(super) const ATTEMPTS: u32 = 3;

const STUB: &str = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub";
const SYSTEMD_BOOT: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";
const UBOOT: &str = "/usr/lib/u-boot/qemu-x86/u-boot.rom";
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

/// A stretch of the disk.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    /// Its number in the partition table.
    number: u32,
    /// Where it begins, in MiB.
    from: u64,
    /// Its length, in MiB.
    length: u64,
    /// Its type, as sgdisk writes it.
    kind: &'static str,
}

const fn stretch(number: u32, from: u64, length: u64, kind: &'static str) -> Stretch {
    Stretch {
        number,
        from,
        length,
        kind,
    }
}

const ESP: Stretch = stretch(1, 1, 72, "ef00");
const SYSTEMD_BOOT_DATA: Stretch = stretch(2, 73, 24, "8300");
const SCRIPT: Stretch = stretch(1, 1, 1, "0700");
const ENVIRONMENT: Stretch = stretch(2, 2, 1, "8300");
const SLOT_A: Stretch = stretch(3, 3, 35, "8300");
const SLOT_B: Stretch = stretch(4, 38, 35, "8300");
const UBOOT_DATA: Stretch = stretch(5, 73, 24, "8300");

/// Where the copies of the environment begin, in sectors of the disk, and their length in bytes.
pub(super) const COPIES: [u64; 2] = [ENVIRONMENT.from * 2048, ENVIRONMENT.from * 2048 + 16];
pub(super) const COPY_LEN: u64 = 16 * SECTOR;

impl Stretch {
    const fn end(self) -> u64 {
        self.from + self.length
    }
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

    /// What the image mounts.
    pub(super) const fn mounts(self) -> &'static str {
        match self {
            Self::SystemdBoot => {
                "mount -t efivarfs efivarfs /sys/firmware/efi/efivars
mount -t ext4 /dev/vda2 /data
mount -t vfat /dev/vda1 /esp"
            }
            Self::Uboot => "mount -t ext4 /dev/vda5 /data",
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

    /// The disk of a device as it leaves the factory: `image` in slot a, `data` on its own file
    /// system. `folder` is for what lies between.
    pub(super) fn factory_disk(
        self,
        folder: &Path,
        image: &Image,
        data: &Path,
    ) -> Outcome<Vec<u8>> {
        let (stretches, disk_len): (&[Stretch], _) = match self {
            Self::SystemdBoot => (&[ESP, SYSTEMD_BOOT_DATA], SYSTEMD_BOOT_DATA.end() + 1),
            Self::Uboot => (
                &[SCRIPT, ENVIRONMENT, SLOT_A, SLOT_B, UBOOT_DATA],
                UBOOT_DATA.end() + 1,
            ),
        };
        let table = folder.join("disk.img");
        make_empty(&table, disk_len << 20)?;
        let mut command = Command::new("sgdisk");
        for part in stretches {
            let (from, end) = (part.from * 2048, part.end() * 2048 - 1);
            command
                .arg("-n")
                .arg(format!("{}:{from}:{end}", part.number));
            command
                .arg("-t")
                .arg(format!("{}:{}", part.number, part.kind));
        }
        shell::read(command.arg(&table))?;
        let mut disk = parts::read(&table)?;
        let put = |disk: &mut [u8], part: Stretch, bytes: &[u8]| {
            let from = offset(part.from);
            let room = offset(part.length);
            let place = disk
                .get_mut(from..from + bytes.len())
                .filter(|_| bytes.len() <= room);
            match place {
                Some(place) => {
                    place.copy_from_slice(bytes);
                    Ok(())
                }
                None => Err(Fault::new("the image is too large for the emulated disk")),
            }
        };
        match self {
            Self::SystemdBoot => {
                put(&mut disk, ESP, &esp(folder, image)?)?;
                put(
                    &mut disk,
                    SYSTEMD_BOOT_DATA,
                    &data_of(folder, data, SYSTEMD_BOOT_DATA)?,
                )?;
            }
            Self::Uboot => {
                put(&mut disk, SCRIPT, &script_of(folder)?)?;
                put(&mut disk, ENVIRONMENT, &environment(folder)?)?;
                put(&mut disk, SLOT_A, &parts::read(&image.file)?)?;
                put(&mut disk, UBOOT_DATA, &data_of(folder, data, UBOOT_DATA)?)?;
            }
        }
        Ok(disk)
    }

    /// Whether slot `slot` of this disk holds exactly this image.
    pub(super) fn holds(
        self,
        medium: &Medium,
        folder: &Path,
        slot: char,
        image: &Image,
    ) -> Outcome<bool> {
        let wanted = parts::read(&image.file)?;
        match self {
            Self::SystemdBoot => {
                let esp = folder.join("looked-at.img");
                let bytes = medium
                    .read(offset(ESP.from), offset(ESP.length))
                    .unwrap_or_default();
                fs::write(&esp, bytes).map_err(|e| cannot("write", &esp, &e))?;
                let mut copy = Command::new("mtype");
                copy.arg("-i").arg(&esp).arg(format!("::pump-{slot}.efi"));
                let found = copy.output().map_err(|e| cannot("look into", &esp, &e))?;
                Ok(found.stdout == wanted)
            }
            Self::Uboot => {
                let part = if slot == 'a' { SLOT_A } else { SLOT_B };
                Ok(medium.read(offset(part.from), wanted.len()) == Some(&wanted[..]))
            }
        }
    }
}

fn offset(mebibytes: u64) -> usize {
    usize::try_from(mebibytes << 20).unwrap_or(usize::MAX)
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

fn esp(folder: &Path, image: &Image) -> Outcome<Vec<u8>> {
    let file = folder.join("esp.img");
    make_fat(&file, ESP.length << 20)?;
    for name in ["EFI", "EFI/BOOT", "loader", "loader/entries"] {
        shell::read(
            Command::new("mmd")
                .arg("-i")
                .arg(&file)
                .arg(format!("::{name}")),
        )?;
    }
    copy_in(&file, Path::new(SYSTEMD_BOOT), "EFI/BOOT/BOOTX64.EFI")?;
    copy_text(folder, &file, "timeout 0\n", "loader/loader.conf")?;
    for slot in ['a', 'b'] {
        let entry = format!(
            "version {}\ntitle pump, slot {slot}\nsort-key pump\nefi /pump-{slot}.efi\noptions ampoule.slot={slot} {WORDS}\n",
            u8::from(slot == 'a')
        );
        let ending = if slot == 'a' { "conf" } else { "conf.off" };
        copy_text(
            folder,
            &file,
            &entry,
            &format!("loader/entries/pump-{slot}.{ending}"),
        )?;
    }
    copy_in(&file, &image.file, "pump-a.efi")?;
    // The place of the other slot is taken from the beginning: a fill allocates nothing.
    let empty = folder.join("empty.img");
    make_empty(&empty, UKI_LEN)?;
    copy_in(&file, &empty, "pump-b.efi")?;
    parts::read(&file)
}

fn script_of(folder: &Path) -> Outcome<Vec<u8>> {
    let file = folder.join("script.img");
    make_fat(&file, SCRIPT.length << 20)?;
    let text = folder.join("boot.txt");
    fs::write(&text, script::text()).map_err(|e| cannot("write", &text, &e))?;
    let script = folder.join("boot.scr");
    let mut make = Command::new("mkimage");
    make.args(["-A", "x86", "-T", "script", "-C", "none", "-d"]);
    shell::read(make.arg(&text).arg(&script))?;
    copy_in(&file, &script, "boot.scr")?;
    parts::read(&file)
}

/// Both copies, as the factory writes them.
fn environment(folder: &Path) -> Outcome<Vec<u8>> {
    let text = folder.join("environment.txt");
    fs::write(&text, script::ENVIRONMENT).map_err(|e| cannot("write", &text, &e))?;
    let made = folder.join("environment.bin");
    let mut make = Command::new("mkenvimage");
    make.args(["-r", "-s", &COPY_LEN.to_string(), "-o"]);
    shell::read(make.arg(&made).arg(&text))?;
    let copy = parts::read(&made)?;
    Ok([copy.clone(), copy].concat())
}

fn data_of(folder: &Path, data: &Path, part: Stretch) -> Outcome<Vec<u8>> {
    let file = folder.join("data.img");
    make_empty(&file, part.length << 20)?;
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-F", "-d"]).arg(data).arg(&file);
    shell::read(make.env("PATH", path_with_sbin()))?;
    parts::read(&file)
}

fn make_empty(file: &Path, length: u64) -> Outcome {
    let made = fs::File::create(file).and_then(|made| made.set_len(length));
    made.map_err(|e| cannot("make", file, &e))
}

fn grow(file: &Path, length: u64) -> Outcome {
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

fn make_fat(file: &Path, length: u64) -> Outcome {
    make_empty(file, length)?;
    // The same bytes each time.
    let mut make = Command::new("mkfs.vfat");
    make.args(["--invariant"]).arg(file);
    shell::read(make.env("PATH", path_with_sbin()))?;
    Ok(())
}

fn copy_in(file: &Path, from: &Path, name: &str) -> Outcome {
    let mut copy = Command::new("mcopy");
    copy.arg("-i").arg(file).arg(from).arg(format!("::{name}"));
    shell::read(&mut copy)?;
    Ok(())
}

fn copy_text(folder: &Path, file: &Path, text: &str, name: &str) -> Outcome {
    let from: PathBuf = folder.join("copied.txt");
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
