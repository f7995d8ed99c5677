//! U-Boot's environment through power cuts: our variables and RAUC's, one copy and two.

use std::collections::BTreeMap;

use ampoule_agent::boot::World;
use ampoule_agent::boot::world::{EnvSettings, UbootRaucSettings, UbootSettings};
use ampoule_agent::machine::Slot;
use ampoule_agent::ports::BootControl;
use ampoule_protocol::error::Coded;

use crate::cut::Case;
use crate::sim::SimDisk;
use crate::support::{CMDLINE, component, image, names, running, start};

const SIZE: usize = 0x1000;
const DEVICE: &str = "/dev/mmcblk0";
const CONFIG: &str = "/etc/fw_env.config";
const SHADOW: &str = "/data/uboot-env.shadow";

pub(crate) type Vars = BTreeMap<String, String>;

/// What a board has in its environment besides.
pub(crate) fn board() -> Vars {
    let vars = [
        ("altbootcmd", "run ampoule_default_boot"),
        ("bootcmd", "run ampoule_boot"),
        ("bootlimit", "3"),
        ("ethaddr", "00:11:22:33:44:55"),
    ];
    vars.into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn encode(vars: &Vars, size: usize, flags: Option<u8>) -> Vec<u8> {
    let head = if flags.is_some() { 5 } else { 4 };
    let mut data = Vec::new();
    for (name, value) in vars {
        data.extend_from_slice(format!("{name}={value}\0").as_bytes());
    }
    data.resize(size - head, 0);
    let crc = crc32fast::hash(&data).to_ne_bytes();
    [crc.as_slice(), flags.as_slice(), &data].concat()
}

fn decode(copy: &[u8], head: usize) -> Option<Vars> {
    let data = &copy[head..];
    if copy[..4] != crc32fast::hash(data).to_ne_bytes() {
        return None;
    }
    let lines = data
        .split(|byte| *byte == 0)
        .take_while(|line| !line.is_empty());
    let pair = |line: &[u8]| {
        let line = String::from_utf8(line.to_vec()).ok()?;
        line.split_once('=')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    lines.map(pair).collect()
}

/// Where the model of U-Boot keeps its environment: compiled into it.
struct Layout {
    path: &'static str,
    offsets: &'static [usize],
}

const REDUNDANT: Layout = Layout {
    path: DEVICE,
    offsets: &[0x2000, 0x5000],
};
const SINGLE: Layout = Layout {
    path: DEVICE,
    offsets: &[0x2000],
};
const FILE: Layout = Layout {
    path: "/boot/uboot.env",
    offsets: &[0],
};

impl Layout {
    fn copies(&self, disk: &SimDisk) -> Vec<(Option<Vars>, u8)> {
        let bytes = disk.bytes(self.path).expect("the device");
        let head = 3 + self.offsets.len();
        let copy = |offset: &usize| {
            let copy = bytes.get(*offset..*offset + SIZE);
            copy.map_or((None, 0), |copy| (decode(copy, head), copy[4]))
        };
        self.offsets.iter().map(copy).collect()
    }

    fn current(&self, disk: &SimDisk) -> Option<(usize, Vars)> {
        match &self.copies(disk)[..] {
            [(Some(first), a), (Some(second), b)] => {
                let second_is_newer = (*a == 255 && *b == 0) || (b > a && !(*b == 255 && *a == 0));
                Some(if second_is_newer {
                    (1, second.clone())
                } else {
                    (0, first.clone())
                })
            }
            [(None, _), (Some(second), _)] => Some((1, second.clone())),
            [(Some(first), _), ..] => Some((0, first.clone())),
            _ => None,
        }
    }

    fn save(&self, disk: &SimDisk, index: usize, vars: &Vars) {
        let mut bytes = disk.bytes(self.path).expect("the device");
        let (target, flags) = match self.offsets {
            [_] => (0, None),
            _ => (1 - index, Some(self.copies(disk)[index].1.wrapping_add(1))),
        };
        let offset = self.offsets[target];
        bytes[offset..offset + SIZE].copy_from_slice(&encode(vars, SIZE, flags));
        if self.path == DEVICE {
            disk.put_device(self.path, &bytes);
        } else {
            disk.put(self.path, &bytes);
        }
    }
}

fn slot(name: Option<&String>) -> Option<Slot> {
    match name?.as_str() {
        "a" | "A" => Some(Slot::A),
        "b" | "B" => Some(Slot::B),
        _ => None,
    }
}

/// U-Boot with the script of docs/guide/boot.md.
fn boot(disk: &SimDisk, layout: &Layout) -> Option<Slot> {
    let Some((index, mut vars)) = layout.current(disk) else {
        // The environment that is compiled in boots slot a.
        return start(disk, Slot::A);
    };
    let number = |vars: &Vars, name: &str| {
        vars.get(name)
            .and_then(|value| value.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let default = slot(vars.get("ampoule_default")).unwrap_or(Slot::A);
    if number(&vars, "upgrade_available") == 0 {
        return start(disk, default);
    }
    let count = number(&vars, "bootcount") + 1;
    vars.insert("bootcount".to_owned(), count.to_string());
    layout.save(disk, index, &vars);
    let limit = number(&vars, "bootlimit");
    if limit > 0 && count > limit {
        vars.get("altbootcmd")?;
        return start(disk, default);
    }
    start(disk, slot(vars.get("ampoule_trial")).unwrap_or(default))
}

/// RAUC's boot script.
fn boot_rauc(disk: &SimDisk) -> Option<Slot> {
    for _ in 0..2 {
        let Some((index, mut vars)) = REDUNDANT.current(disk) else {
            return start(disk, Slot::A);
        };
        let order = vars
            .entry("BOOT_ORDER".to_owned())
            .or_insert("A B".to_owned())
            .clone();
        for name in order.split(' ').filter(|name| ["A", "B"].contains(name)) {
            let left = vars
                .entry(format!("BOOT_{name}_LEFT"))
                .or_insert("3".to_owned());
            let count = u32::from_str_radix(left, 16).expect("a number");
            if count > 0 {
                *left = format!("{:x}", count - 1);
                REDUNDANT.save(disk, index, &vars);
                return start(disk, slot(Some(&name.to_owned()))?);
            }
        }
        vars.insert("BOOT_A_LEFT".to_owned(), "3".to_owned());
        vars.insert("BOOT_B_LEFT".to_owned(), "3".to_owned());
        REDUNDANT.save(disk, index, &vars);
    }
    None
}

fn disk_of(layout: &Layout, config: &str, vars: &Vars) -> SimDisk {
    let disk = SimDisk::default();
    let len = if layout.path == DEVICE { 0x8000 } else { SIZE };
    let mut bytes = vec![0xee; len];
    for (index, offset) in layout.offsets.iter().enumerate() {
        // The flags stand just before the wrap, so that every test goes over it.
        let flags = (layout.offsets.len() == 2).then_some(if index == 0 { 254 } else { 255 });
        bytes[*offset..*offset + SIZE].copy_from_slice(&encode(vars, SIZE, flags));
    }
    if layout.path == DEVICE {
        disk.put_device(layout.path, &bytes);
    } else {
        disk.put(layout.path, &bytes);
    }
    disk.put(CONFIG, config.as_bytes());
    start(&disk, Slot::A);
    disk
}

fn settings() -> EnvSettings {
    EnvSettings {
        config: CONFIG.into(),
        lock: None,
        shadow: SHADOW.into(),
    }
}

fn uboot() -> World {
    World::Uboot(UbootSettings {
        env: settings(),
        running: running(),
    })
}

/// All of them.
pub(crate) fn cases() -> [Case; 4] {
    [redundant(), single(), file(), rauc()]
}

fn redundant() -> Case {
    let config = "# two copies, the second from the end\n\
                  /dev/mmcblk0 0x2000 0x1000\n/dev/mmcblk0 -0x3000 1000\n";
    Case {
        name: "uboot, two copies",
        disk: disk_of(&REDUNDANT, config, &board()),
        world: uboot(),
        boot: |disk| boot(disk, &REDUNDANT),
        attempts: 3,
    }
}

fn single() -> Case {
    Case {
        name: "uboot, one copy on a device",
        disk: disk_of(&SINGLE, "/dev/mmcblk0 0x2000 0x1000\n", &board()),
        world: uboot(),
        boot: |disk| boot(disk, &SINGLE),
        attempts: 3,
    }
}

fn file() -> Case {
    Case {
        name: "uboot, one copy in a file",
        disk: disk_of(&FILE, "/boot/uboot.env 0 0x1000\n", &board()),
        world: uboot(),
        boot: |disk| boot(disk, &FILE),
        attempts: 3,
    }
}

fn rauc() -> Case {
    let settings = UbootRaucSettings {
        env: settings(),
        running: running(),
        names: names(),
    };
    let config = "/dev/mmcblk0 0x2000 0x1000\n/dev/mmcblk0 0x5000 0x1000\n";
    Case {
        name: "uboot with RAUC's variables",
        disk: disk_of(&REDUNDANT, config, &board()),
        world: World::UbootRauc(settings),
        boot: boot_rauc,
        attempts: 3,
    }
}

#[test]
fn two_copies_survive_every_cut() {
    redundant().check_story();
    redundant().check_cuts();
}

#[test]
fn one_copy_on_a_device_survives_every_cut() {
    single().check_story();
    single().check_cuts();
}

#[test]
fn one_copy_in_a_file_survives_every_cut() {
    file().check_story();
    file().check_cuts();
}

#[test]
fn rauc_variables_survive_every_cut() {
    rauc().check_story();
    rauc().check_cuts();
}

/// Catches a missing sync: each one that is left out is seen by the cut test.
#[test]
fn no_sync_can_be_left_out() {
    for case in [redundant(), rauc(), file()] {
        assert_eq!(case.syncs_that_nobody_would_miss(), [], "{}", case.name);
    }
}

#[test]
fn one_change_of_mind_is_one_write_and_one_sync() {
    for case in [redundant(), rauc()] {
        let disk = case.disk.copy();
        let mut control = case.open(&disk).expect("settings");
        let before = disk.operations();
        control.arm(&image(Slot::B), 3).expect("an arming");
        assert_eq!(disk.operations() - before, 2, "{}", case.name);
    }
}

#[test]
fn without_altbootcmd_nothing_is_armed() {
    let mut vars = board();
    vars.remove("altbootcmd");
    let case = Case {
        disk: disk_of(&SINGLE, "/dev/mmcblk0 0x2000 0x1000\n", &vars),
        ..single()
    };
    let mut control = case.open(&case.disk).expect("settings");
    let error = control.arm(&image(Slot::B), 3).expect_err("no way back");
    assert_eq!(error.code(), "boot-control-unprepared");
    assert_eq!(case.disk.operations(), 0);
}

#[test]
fn a_full_environment_is_refused_and_stays() {
    let mut vars = board();
    vars.insert("padding".to_owned(), "x".repeat(SIZE - 4 - 140));
    let config = "/dev/mmcblk0 0x2000 0x1000\n";
    let case = Case {
        disk: disk_of(&SINGLE, config, &vars),
        ..single()
    };
    let mut control = case.open(&case.disk).expect("settings");
    let error = control.arm(&image(Slot::B), 3).expect_err("no room");
    assert_eq!(error.code(), "boot-control-full");
    assert_eq!(case.disk.operations(), 0);
}

#[test]
fn a_command_line_that_names_no_slot_is_an_error() {
    let case = redundant();
    case.disk
        .put(CMDLINE, b"console=ttyS0 rauc.slot=AB quiet\n");
    let control = case.open(&case.disk).expect("settings");
    let error = control
        .view(&component())
        .expect_err("nobody knows what runs");
    assert_eq!(error.code(), "boot-control-running-unknown");
}
