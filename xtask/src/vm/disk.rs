//! The disk that each boot loader's device starts from, and a look into it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::files::{copy_in, copy_text, make_empty, make_ext4, make_fat};
use super::image::Image;
use super::loader::{Loader, UKI_LEN, WORDS};
use super::medium::Medium;
use super::parts;
use super::script;
use crate::shell::{self, Fault, Outcome};
use crate::world::cannot;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;
const SYSTEMD_BOOT: &str = "/usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// A stretch of the disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// Its number in the partition table.
    pub(super) number: u32,
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
const SYSTEMD_BOOT_FACTORY: Stretch = stretch(3, 97, 2, "8300");
const SCRIPT: Stretch = stretch(1, 1, 1, "0700");
pub(super) const ENVIRONMENT: Stretch = stretch(2, 2, 1, "8300");
const SLOT_A: Stretch = stretch(3, 3, 35, "8300");
const SLOT_B: Stretch = stretch(4, 38, 35, "8300");
const UBOOT_DATA: Stretch = stretch(5, 73, 24, "8300");
const UBOOT_FACTORY: Stretch = stretch(6, 97, 2, "8300");

/// Where the copies of the environment begin, in sectors of the disk, and their length in bytes.
pub(super) const COPIES: [u64; 2] = [ENVIRONMENT.from * 2048, ENVIRONMENT.from * 2048 + 16];
pub(super) const COPY_LEN: u64 = 16 * SECTOR;

impl Stretch {
    const fn end(self) -> u64 {
        self.from + self.length
    }
}

impl Loader {
    /// The disk of a device as it leaves the factory: `image` in slot a, and what the
    /// folder `factory` holds on a file system of its own. `folder` is for what lies between.
    pub(super) fn factory_disk(
        self,
        folder: &Path,
        image: &Image,
        factory: &Path,
    ) -> Outcome<Vec<u8>> {
        let (stretches, disk_len): (&[Stretch], _) = match self {
            Self::SystemdBoot => (
                &[ESP, SYSTEMD_BOOT_DATA, SYSTEMD_BOOT_FACTORY],
                SYSTEMD_BOOT_FACTORY.end() + 1,
            ),
            Self::Uboot => (
                &[
                    SCRIPT,
                    ENVIRONMENT,
                    SLOT_A,
                    SLOT_B,
                    UBOOT_DATA,
                    UBOOT_FACTORY,
                ],
                UBOOT_FACTORY.end() + 1,
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
            }
            Self::Uboot => {
                put(&mut disk, SCRIPT, &script_of(folder)?)?;
                put(&mut disk, ENVIRONMENT, &environment(folder)?)?;
                put(&mut disk, SLOT_A, &parts::read(&image.file)?)?;
            }
        }
        put(&mut disk, self.data_stretch(), &data_of(folder)?)?;
        put(
            &mut disk,
            self.factory_stretch(),
            &factory_of(folder, factory)?,
        )?;
        Ok(disk)
    }

    const fn data_stretch(self) -> Stretch {
        match self {
            Self::SystemdBoot => SYSTEMD_BOOT_DATA,
            Self::Uboot => UBOOT_DATA,
        }
    }

    const fn factory_stretch(self) -> Stretch {
        match self {
            Self::SystemdBoot => SYSTEMD_BOOT_FACTORY,
            Self::Uboot => UBOOT_FACTORY,
        }
    }

    /// Where the device writes, as it names the place.
    pub(super) fn data_device(self) -> String {
        format!("/dev/vda{}", self.data_stretch().number)
    }

    /// Where it finds what it is, as it names the place.
    pub(super) fn factory_device(self) -> String {
        format!("/dev/vda{}", self.factory_stretch().number)
    }

    /// Puts rubbish where the device's file system was, from its first byte to its last.
    pub(super) fn ruin_data(self, medium: &mut Medium) {
        let part = self.data_stretch();
        let rubbish = vec![0xa5; offset(part.length)];
        // It lies within the disk, as the factory made it.
        let _ = medium.write_through(offset(part.from), &rubbish);
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

/// What the factory knows of this device, on a file system that nobody writes: without a journal, and
/// mounted read-only.
fn factory_of(folder: &Path, factory: &Path) -> Outcome<Vec<u8>> {
    let file = folder.join("factory.img");
    let no_journal = ["-O", "^has_journal"];
    make_ext4(&file, UBOOT_FACTORY.length << 20, factory, &no_journal)?;
    parts::read(&file)
}

/// What the device writes: empty at first.
fn data_of(folder: &Path) -> Outcome<Vec<u8>> {
    let (file, empty) = (folder.join("data.img"), folder.join("empty"));
    fs::create_dir_all(&empty).map_err(|e| cannot("make", &empty, &e))?;
    make_ext4(&file, UBOOT_DATA.length << 20, &empty, &[])?;
    parts::read(&file)
}
