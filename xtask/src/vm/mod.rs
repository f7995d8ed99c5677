//! `cargo xtask vm-test`: a real machine in an emulator is updated, comes back from bad images, and
//! loses its power again and again.
//!
//! Debian's kernel, two real boot loaders, the real agent, the real server over mutual TLS. No
//! root, no loop device, no mount: disks are put together by mtools, `mkfs.ext4 -d` and sgdisk, and
//! served to QEMU by a disk of ours whose write cache power takes away.
//!
//! ```text
//!   server ◄── mTLS ── agent in QEMU ── virtio ── nbd ── medium        one thread and emulator
//!                         │ console                        │             per boot loader
//!                         └──► device ──► scenarios, cuts ◄┘ cut
//! ```

mod accel;
mod archive;
mod cuts;
mod device;
mod disk;
mod emulator;
mod files;
mod image;
mod loader;
mod lost;
mod machine;
mod medium;
mod monitor;
mod nbd;
mod parts;
mod probe;
mod random;
mod scenarios;
mod script;
mod userland;

pub(crate) use parts::PACKAGES;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::setup;
use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table};
use crate::workspace;
use crate::world::cannot;
use accel::Accel;
use cuts::Tally;
use device::{Device, Given};
use loader::Loader;
use medium::Mistake;
use parts::Parts;
use scenarios::Told;

const HELP: &str = "\
cargo xtask vm-test [--cuts N] [--seed S] [--loader systemd-boot|u-boot|all] [--plant flushes]
                    [--accel kvm|tcg]

Boots a small A/B device under QEMU, updates it over mutual TLS, lets four bad images come back
(one hangs in the kernel, one panics, one has no agent, one fails its health check), then cuts the
power N times (50, over both loaders) at moments that the seed chooses (1). Consoles are left in
target/vm/LOADER/console.txt. `--cuts 1000` is the long form. The machine's own processor is used
where virtualisation works (--accel kvm), else software (--accel tcg).

--quick          12 cuts
--programs DIR   take ampoule-agent, ampoule-server and ampoule-signer from there and build none
--plant flushes  a disk that lies about flushes: the run must fail";

/// Cuts where the number is not said, over both loaders.
const CUTS: u32 = 50;
/// Cuts of the quick form.
const CUTS_QUICK: u32 = 12;
/// The seed where it is not said. Any other will do.
const SEED: u64 = 1;
/// The programs as the tests build them, under the names that people know them by.
const PROGRAMS: [(&str, &str); 3] = [
    ("ampoule-agent", "agent-under-test"),
    ("ampoule-server", "server-under-test"),
    ("ampoule-signer", "signer-under-test"),
];

/// What the command line asked for.
struct Options {
    cuts: u32,
    seed: u64,
    loaders: Vec<Loader>,
    mistake: Mistake,
    accel: Option<Accel>,
    programs: Option<PathBuf>,
}

/// What one loader's device lived through.
struct Lived {
    loader: Loader,
    told: Vec<Told>,
    tally: Tally,
    took: Duration,
    /// Of that, the time for the cuts.
    cutting: Duration,
}

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let Some(options) = Options::parse(arguments)? else {
        println!("{HELP}");
        return Ok(());
    };
    shell::heading("set up");
    setup::install(&PACKAGES)?;
    let programs = if let Some(programs) = &options.programs {
        let found = programs.canonicalize();
        found.map_err(|e| cannot("find", programs, &e))?
    } else {
        programs()?
    };
    play(
        &options,
        options.accel.unwrap_or_else(Accel::found),
        &programs,
    )
}

/// Agent, server and signer, built as `cargo xtask test` builds them with a test's programs, so that
/// nothing is built twice; in a folder, under their own names.
pub(crate) fn programs() -> Outcome<PathBuf> {
    let mut build = workspace::cargo();
    build.args(["test", "--workspace", "--locked", "--no-run"]);
    build.args(["--quiet", "--test", "airgap"]);
    shell::run(&mut build)?;
    built()
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cuts: CUTS,
            seed: SEED,
            loaders: vec![Loader::SystemdBoot, Loader::Uboot],
            mistake: Mistake::None,
            accel: None,
            programs: None,
        }
    }
}

impl Options {
    fn parse(arguments: &[String]) -> Outcome<Option<Self>> {
        let mut options = Self::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = || {
                let value = words.next().map(String::as_str);
                value.ok_or_else(|| Fault::usage(format!("{word} needs a value")))
            };
            let number = |text: &str| {
                let number: Result<u64, _> = text.parse();
                number.map_err(|_| Fault::usage(format!("\"{text}\" is not a number")))
            };
            match word.as_str() {
                "--help" | "-h" => return Ok(None),
                "--quick" => options.cuts = CUTS_QUICK,
                "--cuts" => options.cuts = u32::try_from(number(value()?)?).unwrap_or(u32::MAX),
                "--seed" => options.seed = number(value()?)?,
                "--programs" => options.programs = Some(value()?.into()),
                "--accel" => options.accel = Some(accel(value()?)?),
                "--loader" => options.loaders = loaders(value()?)?,
                "--plant" => match value()? {
                    "flushes" => options.mistake = Mistake::FlushesAreLies,
                    other => return Err(Fault::usage(format!("no mistake is called \"{other}\""))),
                },
                other => return Err(Fault::usage(format!("vm-test takes no \"{other}\""))),
            }
        }
        Ok(Some(options))
    }

    /// The cuts of one loader: half of them where there are both.
    fn cuts_of(&self, loader: Loader) -> u32 {
        match (self.loaders.len(), loader) {
            (1, _) => self.cuts,
            (_, Loader::SystemdBoot) => self.cuts / 2,
            (_, Loader::Uboot) => self.cuts.div_ceil(2),
        }
    }
}

fn accel(word: &str) -> Outcome<Accel> {
    Accel::named(word).ok_or_else(|| Fault::usage(format!("nothing accelerates by \"{word}\"")))
}

fn loaders(word: &str) -> Outcome<Vec<Loader>> {
    let all = [Loader::SystemdBoot, Loader::Uboot];
    let chosen: Vec<_> = all
        .into_iter()
        .filter(|loader| word == "all" || word == loader.name())
        .collect();
    if chosen.is_empty() {
        return Err(Fault::usage(format!("\"{word}\" is not a loader")));
    }
    Ok(chosen)
}

/// A folder with the tests' programs under their own names.
fn built() -> Outcome<PathBuf> {
    let folder = workspace::target().join("vm/programs");
    std::fs::create_dir_all(&folder).map_err(|e| cannot("make", &folder, &e))?;
    for (name, built) in PROGRAMS {
        let (link, program) = (
            folder.join(name),
            workspace::target().join("debug").join(built),
        );
        if !program.is_file() {
            let what = format!("\"{}\" is not built", program.display());
            return Err(Fault::new(what).hint("cargo build -p ampoule-tests --bins"));
        }
        let _ = std::fs::remove_file(&link);
        let linked = std::os::unix::fs::symlink(&program, &link);
        linked.map_err(|e| cannot("make", &link, &e))?;
    }
    Ok(folder)
}

fn play(options: &Options, accel: Accel, programs: &Path) -> Outcome {
    let parts = Parts::gather(programs)?;
    shell::heading("machines in an emulator");
    println!("  processor: {}, seed {}", accel.name(), options.seed);
    let given = Given {
        programs,
        accel,
        mistake: options.mistake,
    };
    let lives: Vec<Outcome<Lived>> = std::thread::scope(|scope| {
        let threads: Vec<_> = options
            .loaders
            .iter()
            .map(|loader| scope.spawn(|| live(options, &parts, *loader, &given)))
            .collect();
        let ended = threads.into_iter().map(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err(Fault::new("a thread of the test panicked")))
        });
        ended.collect()
    });
    let mut lived = Vec::new();
    let mut faults = Vec::new();
    for life in lives {
        match life {
            Ok(life) => lived.push(life),
            Err(fault) => faults.push(fault),
        }
    }
    tell(&lived);
    match faults.pop() {
        None => Ok(()),
        Some(fault) => {
            for other in faults {
                eprintln!("{other}");
            }
            Err(fault.because(format!(
                "cargo xtask vm-test --cuts {} --seed {} aims the same cuts again",
                options.cuts, options.seed
            )))
        }
    }
}

fn live(options: &Options, parts: &Parts, loader: Loader, given: &Given<'_>) -> Outcome<Lived> {
    let start = Instant::now();
    let named = |fault: Fault| fault.because(format!("with {}", loader.name()));
    let folder = workspace::target().join("vm").join(loader.name());
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|e| cannot("make", &folder, &e))?;
    let mut device = Device::set_up(parts, loader, &folder, given)?;
    let found = probe::play(&device).map_err(named)?;
    println!("  {} {found}", loader.name());
    let told = scenarios::play(&mut device).map_err(named)?;
    for told in &told {
        println!("  {} {}", loader.name(), told.sentence());
    }
    let found = lost::play(&mut device).map_err(named)?;
    println!("  {} {found}", loader.name());
    let begun = Instant::now();
    let seed = options.seed ^ loader as u64;
    let tally = cuts::play(&mut device, options.cuts_of(loader), seed).map_err(named)?;
    device.clean_up();
    Ok(Lived {
        loader,
        told,
        tally,
        took: start.elapsed(),
        cutting: begun.elapsed(),
    })
}

fn tell(lives: &[Lived]) {
    let mut rows = Table::new(&[
        "loader",
        "updates",
        "bad ones back",
        "cuts",
        "torn",
        "sectors lost",
        "boots",
        "completed",
        "rested",
        "data mended",
        "unbootable",
        "time",
        "of it cuts",
    ]);
    for Lived {
        loader,
        told,
        tally,
        took,
        cutting,
    } in lives
    {
        let back = told
            .iter()
            .filter(|told| told.outcome == "reverted")
            .count();
        rows.row([
            loader.name().to_owned(),
            told.len().to_string(),
            back.to_string(),
            tally.cuts.to_string(),
            tally.torn.to_string(),
            tally.lost.to_string(),
            tally.boots.to_string(),
            tally.completed.to_string(),
            tally.rested.to_string(),
            tally.mended.to_string(),
            "0".to_owned(),
            table::time(*took),
            table::time(*cutting),
        ]);
    }
    println!("\n{}", rows.to_text());
    for Lived { loader, tally, .. } in lives {
        let phases = tally
            .by_phase
            .iter()
            .map(|(phase, count)| format!("{phase} {count}"));
        println!(
            "cuts of {}: {}",
            loader.name(),
            phases.collect::<Vec<_>>().join(", ")
        );
    }
}
