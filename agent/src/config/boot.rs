//! Which boot loader a component has: `boot = "…"` and the table `loader` beside it.

use std::path::{Path, PathBuf};

use ampoule_protocol::name::ComponentName;

use super::table::{Faults, Table};
use crate::boot::World;
use crate::boot::world::{
    CommandSettings, EnvSettings, GptSettings, GrubRaucSettings, GrubSettings, PerSlot, Running,
    SystemdBootSettings, TrybootSettings, UbootRaucSettings, UbootSettings,
};

const CMDLINE: &str = "/proc/cmdline";
const BOOTED_PARTITION: &str = "/proc/device-tree/chosen/bootloader/partition";
const BOOTED_ENTRY: &str =
    "/sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// What our own boot scripts put on the kernel command line.
const OWN_WORDS: [&str; 2] = ["ampoule.slot=a", "ampoule.slot=b"];

/// All words of `boot` but those for boot files.
const WORDS: &str = "\"file\", \"symlink\", \"uboot\", \"rauc-uboot\", \"grub\", \"rauc-grub\", \
                     \"systemd-boot\", \"gpt\", \"tryboot\" or \"command\"";

/// Where things are for one component.
pub(super) struct Folders<'a> {
    /// Of the configuration.
    pub(super) own: &'a Path,
    /// Of the agent.
    pub(super) data: &'a Path,
    /// The slots of the component, a before b.
    pub(super) slots: &'a [PathBuf; 2],
}

/// The boot loader of a component; `None` for a boot file.
pub(super) fn world(
    component: &mut Table<'_, '_>,
    name: &ComponentName,
    folders: &Folders<'_>,
    faults: &mut Faults<'_>,
) -> Option<World> {
    let (at, word) = component.text("boot", faults)?;
    let mut table = component.table("loader", faults);
    let world = match word.as_str() {
        "file" | "symlink" => None,
        "uboot" => Some(World::Uboot(UbootSettings {
            env: env(&mut table, name, folders, faults),
            running: cmdline(&mut table, Some(OWN_WORDS), faults),
        })),
        "rauc-uboot" => Some(World::UbootRauc(UbootRaucSettings {
            env: env(&mut table, name, folders, faults),
            running: rauc_running(&mut table, faults),
            names: rauc_names(&mut table, faults),
        })),
        "grub" => Some(World::Grub(GrubSettings {
            block: path(&mut table, "block", "/boot/grub/grubenv", folders, faults),
            running: cmdline(&mut table, Some(OWN_WORDS), faults),
        })),
        "rauc-grub" => Some(World::GrubRauc(GrubRaucSettings {
            block: path(&mut table, "block", "/boot/grub/grubenv", folders, faults),
            running: rauc_running(&mut table, faults),
            names: rauc_names(&mut table, faults),
        })),
        "systemd-boot" => Some(systemd_boot(&mut table, name, folders, faults)),
        "gpt" => Some(World::Gpt(GptSettings {
            disk: folders.own.join(table.needed_path("disk", faults)),
            partitions: numbers(&mut table, faults),
            running: cmdline(&mut table, Some(OWN_WORDS), faults),
        })),
        "tryboot" => Some(tryboot(&mut table, folders, faults)),
        "command" => Some(command(&mut table, name, folders, faults)),
        other => {
            let what = format!("\"component.boot\" is \"{other}\", expected {WORDS}");
            faults.add(at, what);
            return None;
        }
    };
    table.finish(faults);
    world
}

fn path(
    table: &mut Table<'_, '_>,
    member: &'static str,
    default: &str,
    folders: &Folders<'_>,
    faults: &mut Faults<'_>,
) -> PathBuf {
    let path = table.path(member, faults);
    folders.own.join(path.unwrap_or_else(|| default.into()))
}

fn env(
    table: &mut Table<'_, '_>,
    name: &ComponentName,
    folders: &Folders<'_>,
    faults: &mut Faults<'_>,
) -> EnvSettings {
    let lock = "/run/lock/fw_printenv.lock";
    EnvSettings {
        config: path(table, "config", "/etc/fw_env.config", folders, faults),
        lock: Some(path(table, "lock", lock, folders, faults)),
        shadow: folders.data.join(format!("uboot-env-{name}.shadow")),
    }
}

/// A text for each slot; both are needed where there are no defaults.
fn texts(
    table: &mut Table<'_, '_>,
    member: &'static str,
    defaults: Option<[&str; 2]>,
    faults: &mut Faults<'_>,
) -> PerSlot<String> {
    let mut inner = table.table(member, faults);
    if defaults.is_none() {
        inner.need("a", faults);
        inner.need("b", faults);
    }
    let [a, b] = defaults.unwrap_or_default().map(str::to_owned);
    let texts = PerSlot {
        a: inner.text("a", faults).map_or(a, |(_, text)| text),
        b: inner.text("b", faults).map_or(b, |(_, text)| text),
    };
    if texts.a == texts.b {
        faults.add(inner.at(), format!("both slots have the same \"{member}\""));
    }
    inner.finish(faults);
    texts
}

fn numbers(table: &mut Table<'_, '_>, faults: &mut Faults<'_>) -> PerSlot<u32> {
    table.need("partitions", faults);
    let mut inner = table.table("partitions", faults);
    inner.need("a", faults);
    inner.need("b", faults);
    let mut number = |member| {
        let number = inner.number(member, 0, 1..=1024, faults);
        u32::try_from(number).unwrap_or(0)
    };
    let numbers = PerSlot {
        a: number("a"),
        b: number("b"),
    };
    if numbers.a == numbers.b {
        faults.add(inner.at(), "both slots are the same partition");
    }
    inner.finish(faults);
    numbers
}

fn cmdline(
    table: &mut Table<'_, '_>,
    words: Option<[&str; 2]>,
    faults: &mut Faults<'_>,
) -> Running {
    Running::CommandLine {
        path: CMDLINE.into(),
        words: texts(table, "running", words, faults),
    }
}

fn rauc_names(table: &mut Table<'_, '_>, faults: &mut Faults<'_>) -> PerSlot<String> {
    texts(table, "names", Some(["A", "B"]), faults)
}

fn rauc_running(table: &mut Table<'_, '_>, faults: &mut Faults<'_>) -> Running {
    let names = rauc_names(table, faults);
    let words = [&names.a, &names.b].map(|name| format!("rauc.slot={name}"));
    cmdline(table, Some([&words[0], &words[1]]), faults)
}

fn systemd_boot(
    table: &mut Table<'_, '_>,
    name: &ComponentName,
    folders: &Folders<'_>,
    faults: &mut Faults<'_>,
) -> World {
    let defaults = [format!("{name}-a"), format!("{name}-b")];
    let entries = texts(table, "entries", Some([&defaults[0], &defaults[1]]), faults);
    let words = texts(table, "running", Some(OWN_WORDS), faults);
    let [a, b] = folders.slots.clone();
    World::SystemdBoot(SystemdBootSettings {
        folder: path(table, "folder", "/boot/loader/entries", folders, faults),
        running: Running::LoaderEntry {
            cmdline: CMDLINE.into(),
            words: words.clone(),
            path: BOOTED_ENTRY.into(),
            entries: entries.clone(),
        },
        entries,
        words,
        slots: PerSlot { a, b },
    })
}

fn tryboot(table: &mut Table<'_, '_>, folders: &Folders<'_>, faults: &mut Faults<'_>) -> World {
    let partitions = numbers(table, faults);
    let running = if table.has("running") {
        cmdline(table, None, faults)
    } else {
        Running::DeviceTree {
            path: BOOTED_PARTITION.into(),
            numbers: partitions,
        }
    };
    World::Tryboot(TrybootSettings {
        file: path(
            table,
            "file",
            "/boot/firmware/autoboot.txt",
            folders,
            faults,
        ),
        partitions,
        running,
    })
}

fn command(
    table: &mut Table<'_, '_>,
    name: &ComponentName,
    folders: &Folders<'_>,
    faults: &mut Faults<'_>,
) -> World {
    table.need("command", faults);
    World::Command(CommandSettings {
        command: table.command("command", faults).unwrap_or_default(),
        timeout: table.secs("timeout_secs", 10, 1..=600, faults),
        names: rauc_names(table, faults),
        record: folders.data.join(format!("boot-{name}.json")),
    })
}
