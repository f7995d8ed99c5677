//! Boot counting of systemd-boot, against `bootctl`, and through power cuts.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_agent::boot::world::{PerSlot, Running, SystemdBootSettings};
use ampoule_agent::boot::{FileBoot, World, WorldBoot};
use ampoule_agent::disk::Disk;
use ampoule_agent::machine::{BootView, Slot};
use ampoule_agent::ports::{BootControl, Storage};

use crate::cut::Case;
use crate::sim::SimDisk;
use crate::support::{Tool, component, image, running, start, text, tool};

const ENTRIES: &str = "/boot/loader/entries";

fn entry(slot: &str, version: u32) -> String {
    format!("title Pump\nsort-key pump\nversion {version}\nlinux /{slot}/linux\n")
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new(ENTRIES)).expect("a folder")
}

/// systemd-boot: entries that are used up last, then by version, then by name; counts by renaming.
fn boot(disk: &SimDisk) -> Option<Slot> {
    let mut entries = Vec::new();
    for file in names(disk)
        .into_iter()
        .filter(|file| file.strip_suffix(".conf").is_some())
    {
        let bytes = disk
            .bytes(Path::new(ENTRIES).join(&file))
            .expect("an entry");
        let text = String::from_utf8(bytes).expect("text");
        let find = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
        // An entry without a kernel is not shown.
        let Some(kernel) = find("linux ") else {
            continue;
        };
        let version: u32 = find("version ")
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        let stem = file.strip_suffix(".conf")?;
        let counter = stem.rsplit_once('+').map(|(id, counter)| {
            let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
            (
                id.to_owned(),
                left.parse::<u32>().expect("left"),
                done.parse::<u32>().expect("done"),
            )
        });
        let is_used_up = counter.as_ref().is_some_and(|(_, left, _)| *left == 0);
        let slot = if kernel.starts_with("/a/") {
            Slot::A
        } else {
            Slot::B
        };
        entries.push((!is_used_up, version, file.clone(), counter, slot));
    }
    let (_, _, file, counter, slot) = entries
        .into_iter()
        .max_by_key(|entry| (entry.0, entry.1, entry.2.clone()))?;
    if let Some((id, left, done)) = counter.filter(|(_, left, _)| *left > 0) {
        let bytes = disk
            .bytes(Path::new(ENTRIES).join(&file))
            .expect("an entry");
        disk.remove(&Path::new(ENTRIES).join(&file))
            .expect("a rename");
        let name = format!("{id}+{}-{}.conf", left - 1, done + 1);
        disk.sync_dir(Path::new(ENTRIES)).expect("a rename");
        disk.put(Path::new(ENTRIES).join(name), &bytes);
    }
    start(disk, slot)
}

fn settings() -> SystemdBootSettings {
    SystemdBootSettings {
        folder: ENTRIES.into(),
        entries: PerSlot {
            a: "pump-a".to_owned(),
            b: "pump-b".to_owned(),
        },
        running: running(),
    }
}

pub(crate) fn case() -> Case {
    let disk = SimDisk::default();
    disk.put(format!("{ENTRIES}/pump-a.conf"), entry("a", 4).as_bytes());
    disk.put(format!("{ENTRIES}/pump-b.conf"), entry("b", 3).as_bytes());
    disk.put(
        format!("{ENTRIES}/memtest.conf"),
        b"title memtest\nefi /memtest.efi\n",
    );
    start(&disk, Slot::A);
    Case {
        name: "systemd-boot",
        disk,
        world: World::SystemdBoot(settings()),
        boot,
        attempts: 3,
    }
}

#[test]
fn counting_survives_every_cut() {
    case().check_story();
    case().check_cuts();
}

#[test]
fn the_names_are_those_of_the_specification() {
    let case = case();
    let disk = &case.disk;
    let mut control = case.open(disk).expect("entries");
    assert_eq!(
        names(disk),
        ["memtest.conf", "pump-a.conf", "pump-b.conf.off"]
    );
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(
        names(disk),
        ["memtest.conf", "pump-a.conf", "pump-b+3.conf"]
    );
    assert_eq!(boot(disk), Some(Slot::B));
    assert_eq!(
        names(disk),
        ["memtest.conf", "pump-a.conf", "pump-b+2-1.conf"]
    );
    boot(disk);
    boot(disk);
    assert_eq!(boot(disk), Some(Slot::A));
    assert_eq!(
        names(disk),
        ["memtest.conf", "pump-a.conf", "pump-b+0-3.conf"]
    );
    control.disarm(&component()).expect("a disarming");
    assert_eq!(
        names(disk),
        ["memtest.conf", "pump-a.conf", "pump-b.conf.off"]
    );
    control.arm(&image(Slot::B), 2).expect("an arming");
    boot(disk);
    control.commit(&component(), Slot::B).expect("a commit");
    assert_eq!(
        names(disk),
        ["memtest.conf", "pump-a.conf.off", "pump-b.conf"]
    );
}

/// systemd/systemd#33504: with both entries there, the good boot was marked bad.
#[test]
fn systemd_33504_a_counted_entry_beside_a_plain_one_leaves_one() {
    let case = case();
    let mut control = case.open(&case.disk).expect("entries");
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(boot(&case.disk), Some(Slot::B));
    // A kernel package puts its plain entry back during the trial.
    case.disk
        .put(format!("{ENTRIES}/pump-b.conf"), entry("b", 3).as_bytes());
    let mut control = case.open(&case.disk).expect("entries");
    control.commit(&component(), Slot::B).expect("a commit");
    assert_eq!(
        names(&case.disk),
        ["memtest.conf", "pump-a.conf.off", "pump-b.conf"]
    );
    for _ in 0..5 {
        assert_eq!(boot(&case.disk), Some(Slot::B));
    }
    // And once more while nothing is tried: arming leaves one entry, which is counted.
    start(&case.disk, Slot::B);
    case.disk
        .put(format!("{ENTRIES}/pump-a.conf"), entry("a", 3).as_bytes());
    case.disk.put(
        format!("{ENTRIES}/pump-a+1-2.conf"),
        entry("a", 3).as_bytes(),
    );
    let mut control = case.open(&case.disk).expect("entries");
    control.arm(&image(Slot::A), 3).expect("an arming");
    assert_eq!(
        names(&case.disk),
        ["memtest.conf", "pump-a+3.conf", "pump-b.conf"]
    );
}

/// systemd/systemd#40192: an entry without tries was booted all the same.
#[test]
fn systemd_40192_nothing_is_armed_for_no_boots() {
    let case = case();
    let mut control = case.open(&case.disk).expect("entries");
    control.arm(&image(Slot::B), 0).expect("an arming");
    assert_eq!(
        names(&case.disk),
        ["memtest.conf", "pump-a.conf", "pump-b+1.conf"]
    );
}

#[test]
fn a_version_that_is_no_number_is_refused() {
    let case = case();
    let text = "title Pump\nversion 6.1.0-amd64\nlinux /a/linux\n";
    case.disk
        .put(format!("{ENTRIES}/pump-a.conf"), text.as_bytes());
    let error = case.open(&case.disk).err().expect("no order of entries");
    assert!(error.to_string().contains("6.1.0-amd64"), "{error}");
}

/// systemd/systemd#36170: boot counting on an ESP that is mounted read-only.
#[test]
fn systemd_36170_a_read_only_esp_is_an_error_and_changes_nothing() {
    let case = case();
    drop(case.open(&case.disk).expect("entries"));
    let before = names(&case.disk);
    let mut control = case.open(&case.disk).expect("entries");
    case.disk.cut_after(0);
    assert!(control.arm(&image(Slot::B), 3).is_err());
    assert_eq!(names(&case.disk), before);
}

/// The loader's own answer, as firmware keeps it: attributes, then UTF-16.
#[test]
fn the_entry_that_was_booted_says_which_slot_runs() {
    let case = case();
    let path = PathBuf::from("/sys/firmware/efi/efivars/LoaderEntrySelected");
    let entries = settings().entries;
    let running = Running::LoaderEntry {
        path: path.clone(),
        entries,
    };
    let case = Case {
        world: World::SystemdBoot(SystemdBootSettings {
            running,
            ..settings()
        }),
        ..case
    };
    for (name, slot) in [
        ("pump-a.conf", Slot::A),
        ("pump-b+2-1.conf", Slot::B),
        ("pump-b", Slot::B),
    ] {
        let mut value = vec![6, 0, 0, 0];
        value.extend(name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        case.disk.put(&path, &value);
        assert_eq!(case.view(&case.disk).running, slot, "{name}");
    }
}

#[test]
fn bootctl_sees_the_entry_that_we_mean_first() {
    let (Some(_), Some(unshare)) = (
        tool("bootctl", "systemd-boot"),
        tool("unshare", "util-linux"),
    ) else {
        return;
    };
    let esp = tempfile::tempdir().expect("a folder");
    let folder = esp.path().join("loader/entries");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::create_dir_all(esp.path().join("EFI/Linux")).expect("a folder");
    for (slot, version) in [("a", 4), ("b", 3)] {
        std::fs::create_dir_all(esp.path().join(slot)).expect("a folder");
        std::fs::write(esp.path().join(slot).join("linux"), "kernel").expect("a file");
        let path = folder.join(format!("pump-{slot}.conf"));
        std::fs::write(path, entry(slot, version)).expect("a file");
    }
    std::fs::write(esp.path().join("cmdline"), "rauc.slot=A").expect("a file");
    let listed = || listed(&unshare, esp.path());
    let mut running = running();
    if let Running::CommandLine { path, .. } = &mut running {
        *path = esp.path().join("cmdline");
    }
    let settings = SystemdBootSettings {
        folder: folder.clone(),
        running,
        ..settings()
    };
    let storage: Rc<dyn Storage> = Rc::new(Disk);
    let files = FileBoot::new(Rc::clone(&storage), std::iter::empty());
    let worlds = [(component(), World::SystemdBoot(settings))];
    let mut control = WorldBoot::new(&storage, files, worlds)
        .settle()
        .expect("entries");
    assert_eq!(listed(), ["pump-a.conf"], "what is not armed is not there");
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(listed(), ["pump-b+3.conf", "pump-a.conf"]);
    let used_up = folder.join("pump-b+0-3.conf");
    std::fs::rename(folder.join("pump-b+3.conf"), used_up).expect("what the loader does");
    assert_eq!(listed(), ["pump-a.conf", "pump-b+0-3.conf"]);
    let view = control.view(&component()).expect("entries");
    let armed = Some((Slot::B, 0));
    assert_eq!(
        view,
        BootView {
            running: Slot::A,
            default: Slot::A,
            armed
        }
    );
    control.commit(&component(), Slot::B).expect("a commit");
    assert_eq!(listed(), ["pump-b.conf"]);
}

/// The entries in the order of the loader. The tool wants an ESP that is a file system of its own:
/// a memory file system in a name space of its own.
fn listed(unshare: &Tool, esp: &Path) -> Vec<String> {
    let script = "mount -t tmpfs none \"$1/mount\" && cp -r \"$1/loader\" \"$1/EFI\" \"$1/a\" \
                  \"$1/b\" \"$1/mount\" && bootctl list --json=short --esp-path=\"$1/mount\"";
    std::fs::create_dir_all(esp.join("mount")).expect("a folder");
    let json = unshare.run(&[
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        text(esp),
    ]);
    let values = serde_json::Deserializer::from_str(&json).into_iter::<serde_json::Value>();
    let mut files = Vec::new();
    for value in values {
        let value = value.expect("JSON");
        let entries = match value {
            serde_json::Value::Array(entries) => entries,
            entry => vec![entry],
        };
        let file = |entry: &serde_json::Value| {
            let path = entry["path"].as_str()?;
            path.rsplit('/').next().map(str::to_owned)
        };
        files.extend(entries.iter().filter_map(file));
    }
    files
}
