//! Raspberry Pi's `autoboot.txt`, through power cuts. There is no tool of that world to ask; the
//! model reads sections and keys as the firmware's documentation says.

use ampoule_agent::boot::World;
use ampoule_agent::boot::world::{PerSlot, Running, TrybootSettings};
use ampoule_agent::machine::Slot;
use ampoule_agent::ports::BootControl;

use crate::cut::Case;
use crate::sim::SimDisk;
use crate::support::{component, image};

const FILE: &str = "/boot/firmware/autoboot.txt";
pub(crate) const PARTITION: &str = "/proc/device-tree/chosen/bootloader/partition";
const FACTORY: &str = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";

fn number(disk: &SimDisk, wanted: &str) -> Option<u32> {
    let bytes = disk.bytes(FILE)?;
    assert!(bytes.len() <= 512, "the firmware reads no more");
    let text = String::from_utf8(bytes).expect("text");
    let (mut section, mut found) = ("[all]", None);
    for line in text.lines() {
        match line.strip_prefix("boot_partition=") {
            _ if line.starts_with('[') => section = line,
            Some(number) if section == wanted => found = number.parse().ok(),
            _ => {}
        }
    }
    found
}

/// The agent restarts by `reboot "0 tryboot"`: so does this firmware, until it was told that the
/// try is over; it starts the default afterwards.
fn boot(disk: &SimDisk) -> Option<Slot> {
    let default = number(disk, "[all]")?;
    let tryboot = number(disk, "[tryboot]")?;
    let was = disk.bytes(PARTITION)?;
    // The flag of a try is gone at the boot after it.
    let is_asked = disk.bytes("/asked").is_some_and(|asked| asked == [1]);
    let is_from_default = was == default.to_be_bytes();
    let asked = is_from_default && (is_asked || tryboot != default);
    let partition = if asked { tryboot } else { default };
    disk.put(PARTITION, &partition.to_be_bytes());
    match partition {
        2 => Some(Slot::A),
        3 => Some(Slot::B),
        _ => None,
    }
}

fn settings() -> TrybootSettings {
    let partitions = PerSlot { a: 2, b: 3 };
    let running = Running::DeviceTree {
        path: PARTITION.into(),
        numbers: partitions,
    };
    TrybootSettings {
        file: FILE.into(),
        partitions,
        running,
    }
}

/// Firmware that tries again and again what is armed.
pub(crate) fn boot_as_armed(disk: &SimDisk) -> Slot {
    let file = String::from_utf8(disk.bytes(FILE).expect("a file")).expect("text");
    let is_armed = file.contains("armed b");
    let (slot, partition) = if is_armed {
        (Slot::B, 3_u32)
    } else {
        (Slot::A, 2)
    };
    disk.put(PARTITION, &partition.to_be_bytes());
    slot
}

/// As it leaves the factory: both numbers are the default's.
pub(crate) fn quiet() -> Case {
    case(&FACTORY.replace("=3", "=2"))
}

fn case(file: &str) -> Case {
    let disk = SimDisk::default();
    disk.put(FILE, file.as_bytes());
    disk.put(PARTITION, &2_u32.to_be_bytes());
    Case {
        name: "tryboot",
        disk,
        world: World::Tryboot(settings()),
        boot,
        attempts: 1,
    }
}

#[test]
fn tryboot_survives_every_cut() {
    quiet().check_story();
    quiet().check_cuts();
}

#[test]
fn the_file_stays_one_sector_and_only_digits_move() {
    let case = case(FACTORY);
    let mut control = case.open(&case.disk).expect("a file");
    let quiet = case.disk.bytes(FILE).expect("a file");
    let before = case.disk.operations();
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(
        case.disk.operations() - before,
        2,
        "one write in place, one sync"
    );
    let armed = case.disk.bytes(FILE).expect("a file");
    assert_eq!((quiet.len(), armed.len()), (512, 512));
    let changed = quiet
        .iter()
        .zip(&armed)
        .filter(|(old, new)| old != new)
        .count();
    assert!(changed <= 1 + "quiet a".len(), "{changed} bytes changed");
}

/// A file as the firmware's documentation shows it names the other slot for a try all the time: it
/// may be half filled.
#[test]
fn at_rest_a_try_is_harmless() {
    let case = case(FACTORY);
    drop(case.open(&case.disk).expect("a file"));
    assert_eq!(number(&case.disk, "[tryboot]"), Some(2));
}

#[test]
fn other_lines_are_kept_and_too_many_are_refused() {
    let with_more = format!("{FACTORY}[all]\nsome_setting=7\n");
    let case_kept = case(&with_more);
    drop(case_kept.open(&case_kept.disk).expect("a file"));
    let text = String::from_utf8(case_kept.disk.bytes(FILE).expect("a file")).expect("text");
    assert!(text.contains("[all]\nsome_setting=7\n"), "{text}");
    let full = format!("{FACTORY}[all]\nx={}\n", "y".repeat(420));
    let case_full = case(&full);
    let error = case_full.open(&case_full.disk).err().expect("no room");
    assert!(error.to_string().contains("need"), "{error}");
    assert_eq!(case_full.disk.bytes(FILE), Some(full.into_bytes()));
}

/// Rebooting without the flag, or a cut before the restart, is no try; but nobody can know.
#[test]
fn a_start_in_the_default_ends_the_try() {
    let case = case(FACTORY);
    let mut control = case.open(&case.disk).expect("a file");
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(
        control.view(&component()).expect("a view").armed,
        Some((Slot::B, 1))
    );
    assert_eq!(case.view(&case.disk).armed, Some((Slot::B, 0)));
    assert_eq!(number(&case.disk, "[tryboot]"), Some(2));
}
