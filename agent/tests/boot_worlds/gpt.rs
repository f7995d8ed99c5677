//! Priority, tries and success in GPT attributes, against `cgpt` and `sgdisk`, and through power
//! cuts in a table that has two copies.

use std::rc::Rc;

use ampoule_agent::boot::world::{GptSettings, PerSlot, Running};
use ampoule_agent::boot::{FileBoot, World, WorldBoot};
use ampoule_agent::disk::Disk;
use ampoule_agent::machine::Slot;
use ampoule_agent::ports::{BootControl, Storage};

use crate::cut::Case;
use crate::sim::SimDisk;
use crate::support::{CMDLINE, component, image, running, start, text, tool};

const DISK: &str = "/dev/mmcblk0";
const SECTOR: usize = 512;
/// A small disk: MBR, header, 32 sectors of entries, partitions, and the same backwards.
const SECTORS: usize = 200;
const ENTRIES_LEN: usize = 128 * 128;
const BACKUP: usize = SECTORS - 1;

fn put(bytes: &mut [u8], at: usize, number: &[u8]) {
    bytes[at..at + number.len()].copy_from_slice(number);
}

fn header(own: usize, other: usize, entries_lba: usize, entries: &[u8]) -> Vec<u8> {
    let mut header = vec![0; SECTOR];
    header[..8].copy_from_slice(b"EFI PART");
    put(&mut header, 8, &0x1_0000_u32.to_le_bytes());
    put(&mut header, 12, &92_u32.to_le_bytes());
    for (at, number) in [
        (24, own),
        (32, other),
        (40, 34),
        (48, SECTORS - 34),
        (72, entries_lba),
    ] {
        put(&mut header, at, &(number as u64).to_le_bytes());
    }
    put(&mut header, 80, &128_u32.to_le_bytes());
    put(&mut header, 84, &128_u32.to_le_bytes());
    put(&mut header, 88, &crc32fast::hash(entries).to_le_bytes());
    let crc = crc32fast::hash(&header[..92]);
    put(&mut header, 16, &crc.to_le_bytes());
    header
}

/// Partitions 2 and 3, the first as a factory leaves it.
fn image_of_disk() -> Vec<u8> {
    let mut entries = vec![0; ENTRIES_LEN];
    for (index, attributes) in [(1, 0x0101_0000_0000_0000_u64), (2, 0)] {
        let entry = &mut entries[index * 128..(index + 1) * 128];
        entry[..32].fill(0xa0 + u8::try_from(index).expect("small"));
        put(entry, 48, &attributes.to_le_bytes());
    }
    let mut disk = vec![0; SECTORS * SECTOR];
    put(&mut disk, SECTOR, &header(1, BACKUP, 2, &entries));
    put(&mut disk, 2 * SECTOR, &entries);
    put(&mut disk, (BACKUP - 32) * SECTOR, &entries);
    put(
        &mut disk,
        BACKUP * SECTOR,
        &header(BACKUP, 1, BACKUP - 32, &entries),
    );
    disk
}

/// The entries of a copy, if it is whole.
fn entries(disk: &[u8], lba: usize) -> Option<Vec<u8>> {
    let header = &disk[lba * SECTOR..(lba + 1) * SECTOR];
    let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let mut bare = header[..92].to_vec();
    bare[16..20].fill(0);
    if !header.starts_with(b"EFI PART") || number(16) != crc32fast::hash(&bare) {
        return None;
    }
    let start = number(72) as usize * SECTOR;
    let entries = &disk[start..start + ENTRIES_LEN];
    (number(88) == crc32fast::hash(entries)).then(|| entries.to_vec())
}

/// A loader that obeys the bits; it writes the backup first, then the primary.
fn boot(sim: &SimDisk) -> Option<Slot> {
    let mut disk = sim.bytes(DISK)?;
    let mut table = entries(&disk, 1).or_else(|| entries(&disk, BACKUP))?;
    let bits = |table: &[u8], index: usize| {
        let at = index * 128 + 48;
        let attributes = u64::from_le_bytes(table[at..at + 8].try_into().expect("8 bytes"));
        (
            attributes >> 48 & 15,
            attributes >> 52 & 15,
            attributes >> 56 & 1,
        )
    };
    let takes = |index: &usize| {
        let (priority, tries, successful) = bits(&table, *index);
        priority > 0 && tries > 0 || successful == 1
    };
    let index = [1, 2]
        .into_iter()
        .filter(takes)
        .max_by_key(|index| bits(&table, *index).0)?;
    let (_, tries, successful) = bits(&table, index);
    if successful == 0 {
        let at = index * 128 + 48;
        let attributes = u64::from_le_bytes(table[at..at + 8].try_into().expect("8 bytes"));
        let attributes = attributes & !(15 << 52) | (tries - 1) << 52;
        put(&mut table, at, &attributes.to_le_bytes());
        put(&mut disk, (BACKUP - 32) * SECTOR, &table);
        put(
            &mut disk,
            BACKUP * SECTOR,
            &header(BACKUP, 1, BACKUP - 32, &table),
        );
        put(&mut disk, 2 * SECTOR, &table);
        put(&mut disk, SECTOR, &header(1, BACKUP, 2, &table));
        sim.put_device(DISK, &disk);
    }
    start(sim, if index == 1 { Slot::A } else { Slot::B })
}

fn settings() -> GptSettings {
    GptSettings {
        disk: DISK.into(),
        partitions: PerSlot { a: 2, b: 3 },
        running: running(),
    }
}

pub(crate) fn case() -> Case {
    case_of(&image_of_disk(), "gpt")
}

fn case_of(bytes: &[u8], name: &'static str) -> Case {
    let disk = SimDisk::default();
    disk.put_device(DISK, bytes);
    start(&disk, Slot::A);
    Case {
        name,
        disk,
        world: World::Gpt(settings()),
        boot,
        attempts: 3,
    }
}

#[test]
fn both_copies_whole_survives_every_cut() {
    let case = case();
    case.check_story();
    case.check_cuts();
}

/// The rule "backup first" would overwrite the only whole copy.
#[test]
fn a_damaged_primary_survives_every_cut() {
    let mut disk = image_of_disk();
    disk[2 * SECTOR + 200] ^= 1;
    let case = case_of(&disk, "gpt, primary damaged");
    case.check_story();
    case.check_cuts();
}

#[test]
fn a_damaged_backup_survives_every_cut() {
    let mut disk = image_of_disk();
    disk[BACKUP * SECTOR + 17] ^= 1;
    let case = case_of(&disk, "gpt, backup damaged");
    case.check_story();
    case.check_cuts();
}

/// Catches a missing sync between the copies: then both may be torn at once.
#[test]
fn no_sync_can_be_left_out() {
    let case = case_of(&image_of_disk(), "gpt");
    assert_eq!(case.syncs_that_nobody_would_miss(), []);
}

#[test]
fn copies_that_a_cut_left_apart_are_made_the_same_again() {
    let mut disk = image_of_disk();
    let mut newer = entries(&disk, 1).expect("a table");
    put(
        &mut newer,
        2 * 128 + 48,
        &0x0032_0000_0000_0000_u64.to_le_bytes(),
    );
    put(&mut disk, (BACKUP - 32) * SECTOR, &newer);
    put(
        &mut disk,
        BACKUP * SECTOR,
        &header(BACKUP, 1, BACKUP - 32, &newer),
    );
    let case = case_of(&disk, "gpt, copies apart");
    drop(case.open(&case.disk).expect("a table"));
    let disk = case.disk.bytes(DISK).expect("a disk");
    assert_eq!(entries(&disk, 1), entries(&disk, BACKUP));
    assert_eq!(
        (case.boot)(&case.disk),
        Some(Slot::A),
        "the primary is what counts"
    );
}

#[test]
fn a_disk_without_a_table_is_refused_and_stays() {
    let case = case_of(&vec![0; SECTORS * SECTOR], "gpt, nothing");
    assert!(case.open(&case.disk).is_err());
    assert_eq!(case.disk.operations(), 0);
}

/// A real image by `cgpt`, which then reads every number that we write.
#[test]
fn cgpt_and_sgdisk_read_what_we_write() {
    let (Some(cgpt), Some(sgdisk)) = (tool("cgpt", "cgpt"), tool("sgdisk", "gdisk")) else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let disk = folder.path().join("disk.img");
    let file = std::fs::File::create(&disk).expect("a file");
    file.set_len(4 << 20).expect("a length");
    let disk = text(&disk);
    cgpt.run(&["create", disk]);
    let kernel = ["-t", "kernel", "-l"];
    for (place, name, bits) in [
        (
            ["-i", "2", "-b", "64", "-s", "64"],
            "KERN-A",
            ["-P", "1", "-T", "0", "-S", "1"],
        ),
        (
            ["-i", "3", "-b", "128", "-s", "64"],
            "KERN-B",
            ["-P", "0", "-T", "0", "-S", "0"],
        ),
    ] {
        let arguments = [&["add"][..], &place, &kernel, &[name], &bits, &[disk]].concat();
        cgpt.run(&arguments);
    }
    let cmdline = folder.path().join("cmdline");
    std::fs::write(&cmdline, "rauc.slot=A").expect("a file");
    let shown = |index: &str| {
        let number = |flag: &str| {
            cgpt.run(&["show", "-i", index, flag, disk])
                .trim()
                .to_owned()
        };
        [number("-P"), number("-T"), number("-S")]
    };
    let mut running = running();
    if let Running::CommandLine { path, .. } = &mut running {
        *path = cmdline;
    }
    let settings = GptSettings {
        disk: disk.into(),
        running,
        ..settings()
    };
    let storage: Rc<dyn Storage> = Rc::new(Disk);
    let files = FileBoot::new(Rc::clone(&storage), std::iter::empty());
    let worlds = [(component(), World::Gpt(settings))];
    let mut control = WorldBoot::new(&storage, files, worlds)
        .settle()
        .expect("an image of cgpt");
    assert_eq!(
        (shown("2"), shown("3")),
        (
            ["2", "0", "1"].map(str::to_owned),
            ["0", "0", "0"].map(str::to_owned)
        )
    );
    control.arm(&image(Slot::B), 40).expect("an arming");
    assert_eq!(
        (shown("2"), shown("3")),
        (
            ["1", "0", "1"].map(str::to_owned),
            ["2", "15", "0"].map(str::to_owned)
        )
    );
    cgpt.run(&["add", "-i", "3", "-T", "7", disk]);
    let view = control.view(&component()).expect("what cgpt wrote");
    assert_eq!(view.armed, Some((Slot::B, 7)));
    control.commit(&component(), Slot::B).expect("a commit");
    assert_eq!(
        (shown("2"), shown("3")),
        (
            ["0", "0", "0"].map(str::to_owned),
            ["2", "0", "1"].map(str::to_owned)
        )
    );
    let flags = sgdisk.run(&["-i", "3", disk]);
    assert!(
        flags.contains("Attribute flags: 0102000000000000"),
        "{flags}"
    );
    let verdict = sgdisk.run(&["-v", disk]);
    assert!(verdict.contains("No problems found"), "{verdict}");
    assert!(!verdict.contains("CRC"), "{verdict}");
    // The backup alone says the same: the tool rebuilds the primary from it.
    let mut bytes = std::fs::read(disk).expect("a disk");
    bytes[SECTOR..34 * SECTOR].fill(0);
    std::fs::write(disk, bytes).expect("a disk");
    assert_eq!(shown("3"), ["2", "0", "1"].map(str::to_owned));
}

#[test]
fn nothing_else_on_the_disk_is_touched() {
    let mut disk = image_of_disk();
    disk[..SECTOR].fill(0x11);
    disk[34 * SECTOR..(BACKUP - 32) * SECTOR].fill(0x22);
    let case = case_of(&disk, "gpt");
    case.disk.put(CMDLINE, b"rauc.slot=A");
    let mut control = case.open(&case.disk).expect("a table");
    control.arm(&image(Slot::B), 3).expect("an arming");
    let after = case.disk.bytes(DISK).expect("a disk");
    assert_eq!(after[..SECTOR], disk[..SECTOR]);
    assert_eq!(
        after[34 * SECTOR..(BACKUP - 32) * SECTOR],
        disk[34 * SECTOR..(BACKUP - 32) * SECTOR]
    );
    let mut old = entries(&disk, 1).expect("a table");
    let new = entries(&after, 1).expect("a table");
    put(&mut old, 128 + 48, &new[128 + 48..128 + 56]);
    put(&mut old, 2 * 128 + 48, &new[2 * 128 + 48..2 * 128 + 56]);
    assert_eq!(old, new, "only attributes changed");
}
