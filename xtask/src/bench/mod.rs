//! `cargo xtask bench`: measures, beside the peers where there are some, in one run.
//!
//! Figures are for reading, never for tests: a machine that is busy is not broken. Where it can be
//! had, CPU time is counted and not the wall, and peers are measured in turn so that both see the
//! same machine.

mod audit;
mod checkins;
mod delta;
mod install;
mod rollout;
mod serve;
mod verify;

use std::path::PathBuf;

use crate::setup::Needed;
use crate::shell::{self, Fault, Outcome};
use crate::workspace;
use crate::world::{self, Room, Telling};

const HELP: &str = "\
cargo xtask bench [verify | install | rollout | audit | checkins | kills | serve | size]...
cargo xtask bench delta [options]

  verify    time to verify each role file, with 1,000 and 100,000 targets, flat and in hash bins
  install   throughput and peak memory of the agent on an image of 256 MiB
  rollout   CPU and memory of the rollout decision for a million devices; the test against chance
  audit     a million entries of the audit log, written durably and verified; memory
  checkins  durable check-ins of 100,000 devices: embedded store, SQLite, PostgreSQL
  kills     acknowledged writes that each store lost in 200 kills
  serve     requests per CPU-second over mutual TLS, beside nginx
  delta     patches, beside the field's tools (cargo xtask bench delta --help); not among \"all\",
            since it needs a corpus
  size      crates and bytes of the agent (also: cargo xtask size)

Without a name, all of them. Installs the Debian packages nginx-light and time when they are
missing. Loopback only; some minutes in all.";

/// An install of an image of `len` bytes, then one by a delta.
pub(crate) fn install_once(len: u64) -> Outcome<install::Installed> {
    install::once(len, install::Story::FullThenDelta)
}

/// Debian packages that the measurements use.
const PACKAGES: [Needed; 2] = [
    Needed {
        name: "nginx-light",
        reason: "the peer of the server",
    },
    Needed {
        name: "time",
        reason: "peak memory of a process",
    },
];

/// The image that is installed and served.
const IMAGE_LEN: u64 = 256 << 20;

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    if let [first, options @ ..] = arguments
        && first == "delta"
    {
        return delta::run(options);
    }
    let mut wanted: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if wanted.iter().any(|word| matches!(*word, "--help" | "-h")) {
        println!("{HELP}");
        return Ok(());
    }
    if wanted.is_empty() {
        wanted = vec![
            "verify", "install", "rollout", "audit", "checkins", "kills", "serve", "size",
        ];
    }
    for name in wanted {
        match name {
            "verify" => verify::run()?,
            "install" => {
                setup_packages()?;
                install::run()?;
            }
            "rollout" => rollout::run()?,
            "audit" => audit::run()?,
            "checkins" => checkins::run()?,
            "kills" => checkins::kills()?,
            "serve" => {
                setup_packages()?;
                serve::run()?;
            }
            "size" => crate::size::run(&[])?,
            other => return Err(Fault::usage(format!("\"{other}\" is not measured"))),
        }
    }
    Ok(())
}

fn setup_packages() -> Outcome {
    crate::setup::install(&PACKAGES)
}

/// The measuring program, built.
fn measure() -> Outcome<PathBuf> {
    let mut cargo = workspace::cargo();
    cargo.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "xtask",
        "--features",
        "bench",
    ]);
    shell::run(cargo.args(["--bin", "measure"]))?;
    Ok(workspace::target().join("release/measure"))
}

/// A room for measuring in, below the build folder, with these programs.
fn room(name: &str, programs: &[&str]) -> Outcome<Room> {
    let programs = world::build(programs)?;
    Room::new(
        &workspace::target().join("bench").join(name),
        &programs,
        Telling::Silent,
    )
}

/// A file of bytes that do not compress and are the same each time.
pub(crate) fn noise(len: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
    while (bytes.len() as u64) < len {
        // xorshift64: good enough to look like noise to a compressor.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}
