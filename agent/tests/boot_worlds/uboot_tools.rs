//! U-Boot's environment in real files: `fw_printenv`, `fw_setenv` and `mkenvimage` read what we
//! write and write what we read.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use ampoule_agent::boot::world::{EnvSettings, Running, UbootRaucSettings, UbootSettings};
use ampoule_agent::boot::{BootError, FileBoot, World, WorldBoot};
use ampoule_agent::disk::Disk;
use ampoule_agent::machine::Slot;
use ampoule_agent::ports::{BootControl, Storage};
use ampoule_protocol::error::Coded;

use crate::support::{component, image, names, running, text, tool};
use crate::uboot::{Vars, board};

/// A real file, its configuration, and the agent's boot control of it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(image: &[u8], config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bench = Self { folder };
        std::fs::write(bench.path("env.img"), image).expect("a file");
        let config = config.replace("IMG", text(&bench.path("env.img")));
        // The tool counts from the end of a block device only, not of a file.
        let forward = |word: &str| {
            let back = word
                .strip_prefix("-0x")
                .map(|hex| usize::from_str_radix(hex, 16));
            back.map(|back| format!("{:#x}", image.len() - back.expect("a number")))
        };
        let words = config.split_inclusive([' ', '\n']);
        let tool_config: String = words
            .map(|word| match forward(word.trim_end()) {
                Some(offset) => offset + " ",
                None => word.to_owned(),
            })
            .collect();
        std::fs::write(bench.path("fw_env.config"), config).expect("a file");
        std::fs::write(bench.path("tool.config"), tool_config).expect("a file");
        std::fs::write(bench.path("cmdline"), "rauc.slot=A").expect("a file");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn control(&self, is_rauc: bool) -> Result<WorldBoot, BootError> {
        let env = EnvSettings {
            config: self.path("fw_env.config"),
            lock: Some(self.path("fw_printenv.lock")),
            shadow: self.path("shadow"),
        };
        let mut running = running();
        if let Running::CommandLine { path, .. } = &mut running {
            *path = self.path("cmdline");
        }
        let world = if is_rauc {
            World::UbootRauc(UbootRaucSettings {
                env,
                running,
                names: names(),
            })
        } else {
            World::Uboot(UbootSettings { env, running })
        };
        let storage: Rc<dyn Storage> = Rc::new(Disk);
        let files = FileBoot::new(Rc::clone(&storage), std::iter::empty());
        WorldBoot::new(&storage, files, [(component(), world)]).settle()
    }

    fn printed(&self) -> Option<Vars> {
        let tool = tool("fw_printenv", "libubootenv-tool")?;
        let printed = tool.run(&["-c", text(&self.path("tool.config"))]);
        let pair = |line: &str| {
            line.split_once('=')
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        printed.lines().map(pair).collect()
    }

    fn set(&self, name: &str, value: &str) {
        if let Some(tool) = tool("fw_setenv", "libubootenv-tool") {
            tool.run(&["-c", text(&self.path("tool.config")), name, value]);
        }
    }
}

/// An environment image by U-Boot's own tool.
fn made(flags: &[&str], size: &str) -> Option<Vec<u8>> {
    let tool = tool("mkenvimage", "u-boot-tools")?;
    let folder = tempfile::tempdir().expect("a folder");
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    let lines: Vec<String> = board()
        .iter()
        .map(|(name, value)| format!("{name}={value}\n"))
        .collect();
    std::fs::write(&input, lines.concat()).expect("a file");
    let mut arguments = flags.to_vec();
    arguments.extend(["-s", size, "-o", text(&output), text(&input)]);
    tool.run(&arguments);
    std::fs::read(&output).ok()
}

fn check_with_tools(bench: &Bench) {
    let mut control = bench.control(false).expect("an image of mkenvimage");
    control.arm(&image(Slot::B), 3).expect("an arming");
    let Some(printed) = bench.printed() else {
        return;
    };
    for (name, value) in [
        ("ampoule_trial", "b"),
        ("upgrade_available", "1"),
        ("bootcount", "0"),
    ] {
        assert_eq!(printed.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert_eq!(
        printed.get("ethaddr"),
        board().get("ethaddr"),
        "the board's own is kept"
    );
    bench.set("bootcount", "2");
    bench.set("ethaddr", "66:77:88:99:aa:bb");
    let view = control.view(&component()).expect("what fw_setenv wrote");
    assert_eq!(view.armed, Some((Slot::B, 1)));
    control.commit(&component(), Slot::B).expect("a commit");
    let printed = bench.printed().expect("the tool is there");
    assert_eq!(
        printed.get("ampoule_default").map(String::as_str),
        Some("b")
    );
    assert_eq!(
        printed.get("upgrade_available").map(String::as_str),
        Some("0")
    );
    assert_eq!(printed.get("ampoule_trial"), None);
    assert_eq!(
        printed.get("ethaddr").map(String::as_str),
        Some("66:77:88:99:aa:bb")
    );
}

#[test]
fn the_real_tools_and_we_read_each_other_one_copy() {
    let Some(copy) = made(&[], "0x4000") else {
        return;
    };
    check_with_tools(&Bench::new(&copy, "IMG 0x0 0x4000\n"));
    let mut image = vec![0xee; 0x10000];
    image[0xa000..0xe000].copy_from_slice(&copy);
    check_with_tools(&Bench::new(&image, "IMG -0x6000 0x4000\n"));
}

#[test]
fn the_real_tools_and_we_read_each_other_two_copies() {
    let Some(copy) = made(&["-r"], "0x4000") else {
        return;
    };
    let mut image = vec![0xee; 0x10000];
    image[..0x4000].copy_from_slice(&copy);
    image[0x8000..0xc000].copy_from_slice(&copy);
    check_with_tools(&Bench::new(&image, "IMG 0x0 0x4000\nIMG -0x8000 0x4000\n"));
    // One copy is not there yet, as after the first flashing of a board.
    image[..0x4000].fill(0xff);
    check_with_tools(&Bench::new(&image, "IMG 0x0 0x4000\nIMG -0x8000 0x4000\n"));
}

/// fwup-home/fwup#214: a signed comparison took the old copy from generation 128 on.
#[test]
fn fwup_214_the_real_tool_follows_us_through_all_generations() {
    let Some(copy) = made(&["-r"], "0x1000") else {
        return;
    };
    let bench = Bench::new(
        &[copy.clone(), copy].concat(),
        "IMG 0 0x1000\nIMG 0x1000 0x1000\n",
    );
    let mut control = bench.control(false).expect("an image of mkenvimage");
    for generation in 0..270_u32 {
        control
            .arm(&image(Slot::B), 1 + generation % 7)
            .expect("an arming");
        if matches!(generation % 128, 120..128 | 0..4) {
            let Some(printed) = bench.printed() else {
                return;
            };
            let limit = (1 + generation % 7).to_string();
            assert_eq!(
                printed.get("bootlimit"),
                Some(&limit),
                "generation {generation}"
            );
        }
        let armed = control.view(&component()).expect("settings").armed;
        assert_eq!(armed, Some((Slot::B, 1 + generation % 7)));
    }
}

/// mendersoftware/meta-mender#1038: the configuration and the boot loader disagree on the size.
#[test]
fn meta_mender_1038_another_size_is_refused_by_name() {
    let Some(copy) = made(&[], "0x2000") else {
        return;
    };
    let mut image = copy;
    image.resize(0x8000, 0xff);
    let bench = Bench::new(&image, "IMG 0x0 0x4000\n");
    let error = bench.control(false).err();
    let error = error.or_else(|| {
        bench
            .control(false)
            .and_then(|control| control.view(&component()))
            .err()
    });
    let error = error.expect("no checksum fits");
    assert_eq!(error.code(), "boot-control-malformed");
    assert!(
        error
            .to_string()
            .contains("over 0x2000 bytes, expected one over 0x4000"),
        "{error}"
    );
    assert_eq!(
        std::fs::read(bench.path("env.img")).expect("a file"),
        image,
        "it is as it was"
    );
}

#[test]
fn two_copies_where_one_is_expected_are_refused_by_name() {
    let Some(copy) = made(&["-r"], "0x4000") else {
        return;
    };
    let bench = Bench::new(&copy, "IMG 0x0 0x4000\n");
    let error = bench
        .control(false)
        .err()
        .expect("flags stand where data should");
    assert!(error.to_string().contains("one of two copies"), "{error}");
}

#[test]
fn rauc_s_own_variables_are_what_fw_printenv_shows() {
    let Some(copy) = made(&["-r"], "0x1000") else {
        return;
    };
    let bench = Bench::new(
        &[copy.clone(), copy].concat(),
        "IMG 0 0x1000\nIMG 0x1000 0x1000\n",
    );
    bench.set("BOOT_ORDER", "A B R");
    let mut control = bench.control(true).expect("settings");
    let check = |order: &str, a: &str, b: &str| {
        let Some(printed) = bench.printed() else {
            return;
        };
        for (name, value) in [
            ("BOOT_ORDER", order),
            ("BOOT_A_LEFT", a),
            ("BOOT_B_LEFT", b),
        ] {
            assert_eq!(printed.get(name).map(String::as_str), Some(value), "{name}");
        }
    };
    check("A B R", "3", "0");
    control.arm(&image(Slot::B), 100).expect("an arming");
    check("B A R", "3", "9");
    bench.set("BOOT_B_LEFT", "8");
    assert_eq!(
        control.view(&component()).expect("settings").armed,
        Some((Slot::B, 8))
    );
    control.disarm(&component()).expect("a disarming");
    check("A B R", "3", "0");
    control.commit(&component(), Slot::B).expect("a commit");
    check("B A R", "0", "3");
    assert!(
        Path::new(&bench.path("fw_printenv.lock")).exists(),
        "the tool's lock is taken"
    );
}
