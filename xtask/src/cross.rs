//! `cargo xtask cross`: the agent for other processors, and a first update by each of these programs
//! under an emulator of its processor.
//!
//! Compiler and standard libraries are Debian's (`rustc-web` and its like): they lie in a folder of
//! ours and are installed nowhere. Linkers, C libraries and the emulator are installed as packages.

mod foreign;
mod toolchain;

use std::path::{Path, PathBuf};

use crate::setup::{self, Needed};
use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table};
use crate::vm;
use crate::workspace;
use crate::world::device::Device;
use crate::world::server::{self, Server};
use crate::world::signer::{self, Plan};
use crate::world::{self, Room, Telling, cannot};
use toolchain::Toolchain;

const HELP: &str = "\
cargo xtask cross [aarch64 | armv7]...

Builds the agent as it is shipped for these processors, or for both, and lets it live through a first
update under QEMU's user emulation: full, then the next by a delta. Signer and server are this
machine's. Fetches Debian's compiler into target/cross (some 200 MB) and installs Debian's cross
linkers and qemu-user-static where they are missing. Needs root: the kernel is told what runs such
programs (binfmt_misc), since the agent starts a second process of itself.";

/// What is installed for all of them.
const PACKAGES: [Needed; 1] = [Needed {
    name: "qemu-user-static",
    reason: "runs programs of other processors",
}];

/// A processor that the agent is built for.
struct Target {
    /// Its name on the command line.
    name: &'static str,
    /// Rust's name for it, with the system.
    triple: &'static str,
    /// Debian's name for it.
    debian: &'static str,
    /// The C compiler that links, and its sysroot.
    linker: &'static str,
    sysroot: &'static str,
    /// QEMU's name for it.
    qemu: &'static str,
    packages: [Needed; 2],
}

const LINKER: &str = "links for another processor";
const LIBRARY: &str = "the C library of another processor";

const TARGETS: [Target; 2] = [
    Target {
        name: "aarch64",
        triple: "aarch64-unknown-linux-gnu",
        debian: "arm64",
        linker: "aarch64-linux-gnu-gcc",
        sysroot: "/usr/aarch64-linux-gnu",
        qemu: "aarch64",
        packages: [
            Needed {
                name: "gcc-aarch64-linux-gnu",
                reason: LINKER,
            },
            Needed {
                name: "libc6-dev-arm64-cross",
                reason: LIBRARY,
            },
        ],
    },
    Target {
        name: "armv7",
        triple: "armv7-unknown-linux-gnueabihf",
        debian: "armhf",
        linker: "arm-linux-gnueabihf-gcc",
        sysroot: "/usr/arm-linux-gnueabihf",
        qemu: "arm",
        packages: [
            Needed {
                name: "gcc-arm-linux-gnueabihf",
                reason: LINKER,
            },
            Needed {
                name: "libc6-dev-armhf-cross",
                reason: LIBRARY,
            },
        ],
    },
];

const DEVICE: &str = "cross-0001";
/// Bytes of the image that is installed: emulation is slow.
const IMAGE_LEN: u64 = 8 << 20;

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    if arguments
        .iter()
        .any(|word| word == "--help" || word == "-h")
    {
        println!("{HELP}");
        return Ok(());
    }
    let mut targets: Vec<&Target> = TARGETS.iter().collect();
    if !arguments.is_empty() {
        let named = |word: &String| {
            let target = TARGETS.iter().find(|target| target.name == word);
            target.ok_or_else(|| Fault::usage(format!("nothing is built for \"{word}\"")))
        };
        targets = arguments.iter().map(named).collect::<Outcome<_>>()?;
    }
    shell::heading("set up");
    setup::install(&PACKAGES)?;
    let programs = vm::programs()?;
    let mut shown = Table::new(&["for", "program, stripped", "first update", "the next"]);
    for target in targets {
        setup::install(&target.packages)?;
        foreign::allow(target.qemu, target.sysroot)?;
        let agent = build(target)?;
        let length = world::length_of(&agent)?;
        let [first, next] = live(target, &agent, &programs)?;
        shown.row([target.triple.to_owned(), table::bytes(length), first, next]);
    }
    println!("\n{}", shown.to_text());
    Ok(())
}

/// The agent as it is shipped.
fn build(target: &Target) -> Outcome<PathBuf> {
    let toolchain = Toolchain::fetch(target.triple, target.debian)?;
    let triple = target.triple;
    let built = toolchain.folder().join("build");
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--locked"]);
    build.args(["--package", "ampoule-agent", "--bin", "ampoule-agent"]);
    build.args(["--target", triple]);
    build.env("CARGO_TARGET_DIR", &built);
    toolchain.choose(&mut build);
    let upper = triple.replace('-', "_").to_uppercase();
    build.env(format!("CARGO_TARGET_{upper}_LINKER"), target.linker);
    build.env(format!("CC_{}", triple.replace('-', "_")), target.linker);
    shell::run(&mut build)?;
    Ok(built.join(triple).join("release/ampoule-agent"))
}

/// A whole update and one by a delta; how each came.
fn live(target: &Target, agent: &Path, programs: &Path) -> Outcome<[String; 2]> {
    let folder = workspace::target().join("cross").join(target.name);
    let chosen = folder.join("programs");
    std::fs::create_dir_all(&chosen).map_err(|e| cannot("make", &chosen, &e))?;
    let (server, signer) = ("ampoule-server", "ampoule-signer");
    for (name, program) in [
        (server, programs.join(server)),
        (signer, programs.join(signer)),
        ("ampoule-agent", agent.to_owned()),
    ] {
        let link = chosen.join(name);
        let _ = std::fs::remove_file(&link);
        let linked = std::os::unix::fs::symlink(program, &link);
        linked.map_err(|e| cannot("make", &link, &e))?;
    }
    let room = Room::new(&folder.join("room"), &chosen, Telling::Silent)?;
    signer::ceremony(&room)?;
    let noise = crate::bench::noise(IMAGE_LEN);
    release(&room, 1, &noise)?;
    server::ready(&room, DEVICE)?;
    let server = Server::start(&room, &[])?;
    let device = Device::set_up(&room, DEVICE, server.address(), Path::new("/bin/true"))?;
    let first = updated(&device, "full")?;
    let mut next = noise;
    if let Some(middle) = next.get_mut(1 << 20..2 << 20) {
        middle.fill(0x5a);
    }
    release(&room, 2, &next)?;
    let next = updated(&device, "delta")?;
    server.stop()?;
    Ok([first, next])
}

fn release(room: &Room, number: u64, image: &[u8]) -> Outcome {
    let image = room.write(&format!("sources/{number}.img"), image)?;
    let plan = Plan {
        version: &format!("1.{number}.0"),
        rollback_index: number,
        purpose: "Tries a program of another processor.",
        image: &image,
        with_delta: number > 1,
    };
    signer::release(room, &plan)
}

fn updated(device: &Device<'_>, via: &str) -> Outcome<String> {
    let ended = device.update()?;
    if ended.outcome != "committed" || ended.via != via {
        let what = format!("the update was {} by {}", ended.outcome, ended.via);
        return Err(Fault::new(what).because(ended.detail));
    }
    Ok(format!("{}, {via}", ended.outcome))
}
