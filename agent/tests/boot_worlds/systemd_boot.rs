//! Boot counting of systemd-boot, against `bootctl`, and through power cuts of a FAT file system.

use std::path::Path;
use std::rc::Rc;

use ampoule_agent::boot::world::{PerSlot, Running, SystemdBootSettings};
use ampoule_agent::boot::{FileBoot, World, WorldBoot};
use ampoule_agent::disk::Disk;
use ampoule_agent::machine::{BootView, Slot};
use ampoule_agent::ports::{BootControl, Storage};

use crate::cut::Case;
use crate::sim::SimDisk;
use crate::support::{CMDLINE, Tool, component, image, running, start, text, tool};

const ENTRIES: &str = "/boot/loader/entries";
const SELECTED: &str = "/sys/firmware/efi/efivars/LoaderEntrySelected";

fn entry(slot: &str, version: u32) -> String {
    let word = slot.to_uppercase();
    format!(
        "title Pump\nsort-key pump\nversion {version}\nlinux /{slot}/linux\n\
         options quiet rauc.slot={word}\n"
    )
}

fn names(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new(ENTRIES)).expect("a folder")
}

fn text_of(disk: &SimDisk, file: &str) -> String {
    let bytes = disk.bytes(Path::new(ENTRIES).join(file));
    String::from_utf8(bytes.expect("an entry")).expect("text")
}

/// What the loader can start by an entry: kernels that are there, and nothing else.
fn kernel_of(text: &str) -> Option<Slot> {
    let find = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let slot = match find("linux ")? {
        "/a/linux" => Slot::A,
        "/b/linux" => Slot::B,
        _ => return None,
    };
    let options = find("options ").unwrap_or_default();
    let word = format!("rauc.slot={}", slot.as_str().to_uppercase());
    assert!(options.contains(&word), "a kernel of slot {slot}: {text}");
    Some(slot)
}

/// systemd-boot: entries that are used up last, then by version, then by name; counts by renaming.
fn boot(disk: &SimDisk) -> Option<Slot> {
    let mut entries = Vec::new();
    for file in names(disk) {
        let Some(stem) = file.strip_suffix(".conf") else {
            continue;
        };
        let text = text_of(disk, &file);
        // An entry without a kernel is not shown.
        let Some(slot) = kernel_of(&text) else {
            continue;
        };
        let mut versions = text
            .lines()
            .filter_map(|line| line.strip_prefix("version "));
        let version: u32 = versions.next().map_or(0, |text| text.parse().expect("one"));
        let counter = stem.rsplit_once('+').map(|(id, counter)| {
            let (left, done) = counter.split_once('-').unwrap_or((counter, "0"));
            let number = |text: &str| text.parse::<u32>().expect("a number");
            (id.to_owned(), number(left), number(done))
        });
        let is_used_up = counter.as_ref().is_some_and(|(_, left, _)| *left == 0);
        entries.push((!is_used_up, version, file, counter, slot));
    }
    let (_, _, mut file, counter, slot) = entries
        .into_iter()
        .max_by_key(|entry| (entry.0, entry.1, entry.2.clone()))?;
    if let Some((id, left, done)) = counter.filter(|(_, left, _)| *left > 0) {
        let text = text_of(disk, &file);
        let from = Path::new(ENTRIES).join(&file);
        disk.remove(&from).expect("a rename");
        disk.sync_dir(Path::new(ENTRIES)).expect("a rename");
        file = format!("{id}+{}-{}.conf", left - 1, done + 1);
        disk.put(Path::new(ENTRIES).join(&file), text.as_bytes());
    }
    select(disk, &file);
    start(disk, slot)
}

/// The loader tells which entry it started, as firmware keeps it: attributes, then UTF-16.
fn select(disk: &SimDisk, file: &str) {
    let mut value = vec![6, 0, 0, 0];
    value.extend(file.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
    disk.put(SELECTED, &value);
}

fn settings() -> SystemdBootSettings {
    let Running::CommandLine {
        path: cmdline,
        words,
    } = running()
    else {
        unreachable!("that is how this system runs")
    };
    let entries = PerSlot {
        a: "pump-a".to_owned(),
        b: "pump-b".to_owned(),
    };
    SystemdBootSettings {
        folder: ENTRIES.into(),
        entries: entries.clone(),
        words: words.clone(),
        slots: PerSlot {
            a: "/slot-a".into(),
            b: "/slot-b".into(),
        },
        running: Running::LoaderEntry {
            cmdline,
            words,
            path: SELECTED.into(),
            entries,
        },
    }
}

pub(crate) fn case() -> Case {
    let disk = SimDisk::with_fat(ENTRIES);
    disk.put(format!("{ENTRIES}/pump-a.conf"), entry("a", 4).as_bytes());
    disk.put(format!("{ENTRIES}/pump-b.conf"), entry("b", 3).as_bytes());
    disk.put(
        format!("{ENTRIES}/memtest.conf"),
        b"title memtest\nefi /memtest.efi\n",
    );
    select(&disk, "pump-a.conf");
    start(&disk, Slot::A);
    Case {
        name: "systemd-boot",
        disk,
        world: World::SystemdBoot(settings()),
        boot,
        attempts: 3,
    }
}

/// A device that lives in slot b for good.
fn committed() -> Case {
    let case = case();
    let mut control = case.open(&case.disk).expect("entries");
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(boot(&case.disk), Some(Slot::B));
    control.commit(&component(), Slot::B).expect("a commit");
    assert_eq!(boot(&case.disk), Some(Slot::B));
    case
}

/// What lies in the folder where the loader sees these.
fn shown(entries: &[&str]) -> Vec<String> {
    let others = ["memtest.conf", "pump-a.conf.off", "pump-b.conf.off"];
    let mut all: Vec<String> = others
        .iter()
        .chain(entries)
        .map(|name| (*name).to_owned())
        .collect();
    all.sort();
    all
}

fn at_rest(default: &str) -> Vec<String> {
    shown(&[default])
}

fn armed(trial: &str) -> Vec<String> {
    shown(&["pump-a.conf", trial])
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
    assert_eq!(names(disk), at_rest("pump-a.conf"));
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(names(disk), armed("pump-b+3.conf"));
    assert_eq!(boot(disk), Some(Slot::B));
    assert_eq!(names(disk), armed("pump-b+2-1.conf"));
    boot(disk);
    boot(disk);
    assert_eq!(boot(disk), Some(Slot::A));
    assert_eq!(names(disk), armed("pump-b+0-3.conf"));
    control.disarm(&component()).expect("a disarming");
    assert_eq!(names(disk), at_rest("pump-a.conf"));
    control.arm(&image(Slot::B), 2).expect("an arming");
    boot(disk);
    control.commit(&component(), Slot::B).expect("a commit");
    assert_eq!(names(disk), at_rest("pump-b.conf"));
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
    assert_eq!(names(&case.disk), at_rest("pump-b.conf"));
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
    assert_eq!(names(&case.disk), shown(&["pump-a+3.conf", "pump-b.conf"]));
}

/// systemd/systemd#40192: an entry without tries was booted all the same.
#[test]
fn systemd_40192_nothing_is_armed_for_no_boots() {
    let case = case();
    let mut control = case.open(&case.disk).expect("entries");
    control.arm(&image(Slot::B), 0).expect("an arming");
    assert_eq!(names(&case.disk), armed("pump-b+1.conf"));
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

/// Where the command line says nothing of slots, the loader does.
#[test]
fn the_entry_that_was_booted_says_which_slot_runs() {
    let case = case();
    case.disk.put(CMDLINE, b"quiet\n");
    for (name, slot) in [
        ("pump-a.conf", Slot::A),
        ("pump-b+2-1.conf", Slot::B),
        ("pump-b", Slot::B),
    ] {
        select(&case.disk, name);
        assert_eq!(case.view(&case.disk).running, slot, "{name}");
    }
}

#[test]
fn the_command_line_knows_better_than_a_name_and_it_is_told() {
    let case = committed();
    let told = |case: &Case| case.open(&case.disk).expect("entries").noticed();
    assert_eq!(told(&case), Vec::<String>::new());
    select(&case.disk, "pump-a.conf");
    assert_eq!(case.view(&case.disk).running, Slot::B);
    let wanted = "rootfs: slot \"b\" runs, and the loader says that it started \"pump-a.conf\"";
    assert_eq!(told(&case), [wanted]);
}

/// Met in the emulator: a cut within a rename over another file, on FAT, left the entry of slot b with
/// the bytes of slot a's. The loader started a, and the agent believed the name.
#[test]
fn an_entry_with_the_bytes_of_the_other_slots_is_not_believed() {
    let case = committed();
    let path = format!("{ENTRIES}/pump-b.conf");
    case.disk.put(&path, entry("a", 9).as_bytes());
    assert_eq!(boot(&case.disk), Some(Slot::A), "what the bytes say");
    let control = case.open(&case.disk).expect("entries");
    let noticed = control.noticed().join("; ");
    for told in [
        "slot \"a\" runs, and the loader says that it started \"pump-b.conf\"",
        "the entry \"pump-b.conf\" starts slot \"a\", and is not believed",
        "the entry \"pump-a.conf\" was made anew",
    ] {
        assert!(noticed.contains(told), "{noticed}");
    }
    assert_eq!(names(&case.disk), at_rest("pump-a.conf"));
    let rest = BootView {
        running: Slot::A,
        default: Slot::A,
        armed: None,
    };
    assert_eq!(case.view(&case.disk), rest);
    assert_eq!(boot(&case.disk), Some(Slot::A), "by its own entry");
    let mut control = case.open(&case.disk).expect("entries");
    assert_eq!(control.noticed(), Vec::<String>::new(), "it is over");
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(boot(&case.disk), Some(Slot::B), "the update is possible");
}

/// The same fault at the same place, cut again while it is mended.
#[test]
fn a_cut_while_an_entry_is_mended_leaves_a_device_that_boots() {
    let case = committed();
    let path = format!("{ENTRIES}/pump-b.conf");
    for bytes in [entry("a", 9), String::new()] {
        let broken = case.disk.copy();
        broken.put(&path, bytes.as_bytes());
        if bytes.is_empty() {
            // What `fsck` leaves of it: it was started, and starts nothing any more.
            assert_eq!(names(&broken), at_rest("pump-b.conf"));
        } else {
            assert_eq!(boot(&broken), Some(Slot::A));
        }
        let running = case.view(&broken.copy()).running;
        let clean = broken.copy();
        drop(case.open(&clean).expect("entries"));
        assert!(clean.operations() > 3, "something is mended");
        for cut in 0..=clean.operations() {
            let disk = broken.copy();
            disk.cut_after(cut);
            drop(case.open(&disk));
            for outcome in 0..disk.outcomes() {
                let after = disk.after_cut(outcome);
                drop(case.open(&after).expect("entries"));
                for _ in 0..3 {
                    assert_eq!(boot(&after), Some(running), "cut after {cut}, {outcome}");
                }
            }
        }
    }
}

#[test]
fn an_entry_is_armed_by_a_text_that_starts_its_slot_or_not_at_all() {
    let case = case();
    let kept = format!("{ENTRIES}/pump-b.conf.off");
    case.disk.put(&kept, entry("a", 1).as_bytes());
    // The good entry beside it knows better.
    let mut control = case.open(&case.disk).expect("entries");
    assert!(text_of(&case.disk, "pump-b.conf.off").contains("/b/linux"));
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(
        kernel_of(&text_of(&case.disk, "pump-b+3.conf")),
        Some(Slot::B)
    );
    control.disarm(&component()).expect("a disarming");
    // And where there is none, nothing is armed.
    for text in [entry("a", 1), "version 1\n".to_owned()] {
        case.disk.put(&kept, text.as_bytes());
        let mut control = case.open(&case.disk).expect("entries");
        let error = control.arm(&image(Slot::B), 3).expect_err("no text");
        let what = "have no entry \"pump-b\" that starts slot \"b\"";
        assert!(error.to_string().contains(what), "{error}");
        assert_eq!(boot(&case.disk), Some(Slot::A));
    }
}

/// In a trial, `fsck` may leave nothing of the entry that was started, nor of the default's.
#[test]
fn an_entry_that_is_lost_in_a_trial_commits_nothing() {
    let case = case();
    let mut control = case.open(&case.disk).expect("entries");
    control.arm(&image(Slot::B), 3).expect("an arming");
    assert_eq!(boot(&case.disk), Some(Slot::B));
    for lost in ["pump-a.conf", "pump-b+2-1.conf"] {
        let disk = case.disk.copy();
        disk.put(format!("{ENTRIES}/{lost}"), b"");
        let view = case.view(&disk);
        assert_eq!((view.running, view.default), (Slot::B, Slot::A), "{lost}");
        for _ in 0..4 {
            boot(&disk);
        }
        assert_eq!(boot(&disk), Some(Slot::A), "{lost}: it falls back");
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
    let mut settings = settings();
    settings.folder.clone_from(&folder);
    if let Running::LoaderEntry { cmdline, .. } = &mut settings.running {
        *cmdline = esp.path().join("cmdline");
    }
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
