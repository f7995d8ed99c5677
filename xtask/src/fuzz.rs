//! `cargo xtask fuzz`: each parser meets libFuzzer for some seconds. A part of `cargo xtask test`.
//!
//! The targets are built directly with the compiler's coverage instrumentation, as cargo-fuzz
//! would, which saves building cargo-fuzz on each machine. No address sanitizer: our code has no
//! `unsafe`, and the run is after panics, hangs and memory that grows. To hunt for longer,
//! `cargo fuzz run NAME` works in `fuzz/` as usual.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Fault, Outcome};
use crate::workspace;

/// How long each target runs in a smoke run.
const SMOKE_SECS: u32 = 4;

/// Stops a target that asks for more, as an endless-data attack would want it to.
const MEMORY_MIB: &str = "1024";

/// Stops a target that thinks about one input for longer, in seconds.
const ONE_INPUT: &str = "10";

/// The coverage that libFuzzer steers by.
const INSTRUMENT: &str = "--cfg fuzzing -Cdebug-assertions=on -Coverflow-checks=on \
     -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
     -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

const HELP: &str = "\
cargo xtask fuzz [SECONDS]

Builds the fuzz targets on the nightly toolchain and runs each for SECONDS (4 where not given).";

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    match arguments {
        [] => smoke(false),
        [word] if word == "--help" || word == "-h" => {
            println!("{HELP}");
            Ok(())
        }
        [word] => match word.parse() {
            Ok(seconds) => hunt(seconds, false),
            Err(_) => Err(Fault::usage(format!(
                "\"{word}\" is not a number of seconds"
            ))),
        },
        _ => Err(Fault::usage("fuzz takes one number of seconds")),
    }
}

/// Runs every target for [`SMOKE_SECS`].
pub(crate) fn smoke(offline: bool) -> Outcome {
    hunt(SMOKE_SECS, offline)
}

/// Builds every target and runs each for some seconds. A machine without a nightly toolchain may
/// only leave this out when it is offline.
fn hunt(seconds: u32, offline: bool) -> Outcome {
    let Some(host) = nightly_host() else {
        if offline {
            println!("left out: the fuzz targets (no nightly toolchain)");
            return Ok(());
        }
        return Err(Fault::new("no nightly toolchain for the fuzz targets")
            .hint("rustup toolchain install nightly"));
    };
    let built = build(&host, offline)?;
    for name in targets()? {
        hunt_one(&built.join(&name), &name, seconds)?;
    }
    Ok(())
}

fn build(host: &str, offline: bool) -> Outcome<PathBuf> {
    let folder = workspace::target().join("fuzz");
    let mut cargo = Command::new("rustup");
    cargo
        .current_dir(workspace::root())
        .args(["run", "nightly", "cargo", "build", "--release"]);
    cargo.args([
        "--locked",
        "--quiet",
        "--bins",
        "--manifest-path",
        "fuzz/Cargo.toml",
    ]);
    cargo.args(["--target", host, "--target-dir"]).arg(&folder);
    cargo
        .env("RUSTFLAGS", INSTRUMENT)
        .env_remove("RUSTUP_TOOLCHAIN");
    if offline {
        cargo.arg("--offline");
    }
    shell::run(&mut cargo)?;
    Ok(folder.join(host).join("release"))
}

fn hunt_one(program: &Path, name: &str, seconds: u32) -> Outcome {
    let scratch = workspace::target().join("fuzz/corpus").join(name);
    std::fs::create_dir_all(&scratch)
        .map_err(|e| Fault::new(format!("cannot make \"{}\"", scratch.display())).because(e))?;
    let mut fuzzer = Command::new(program);
    fuzzer.current_dir(workspace::root());
    fuzzer
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MIB}"));
    fuzzer.arg(format!("-timeout={ONE_INPUT}"));
    fuzzer.arg(format!("-artifact_prefix={}/", scratch.display()));
    // New inputs go to the first folder; the committed corpus is only read.
    fuzzer.arg(&scratch);
    let committed = workspace::root().join("fuzz/corpus").join(name);
    if committed.is_dir() {
        fuzzer.arg(&committed);
    }
    let finished = shell::finish(&mut fuzzer)?;
    if finished.code != Some(0) {
        eprintln!("{}", finished.err);
        return Err(
            Fault::new(format!("the fuzz target \"{name}\" found something"))
                .hint(format!("the input is in {}", scratch.display())),
        );
    }
    let runs = finished.err.lines().rev().find(|l| l.starts_with("Done "));
    println!("{name}: {}", runs.unwrap_or("done"));
    Ok(())
}

/// The names of the targets: each file of `fuzz/fuzz_targets`.
fn targets() -> Outcome<Vec<String>> {
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&folder)
        .map_err(|e| Fault::new(format!("cannot list \"{}\"", folder.display())).because(e))?;
    let mut names: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    if names.is_empty() {
        return Err(Fault::new("fuzz/fuzz_targets holds no target"));
    }
    Ok(names)
}

/// The host triple of the nightly toolchain, if there is one.
fn nightly_host() -> Option<String> {
    let mut rustc = Command::new("rustup");
    rustc
        .args(["run", "nightly", "rustc", "-vV"])
        .env_remove("RUSTUP_TOOLCHAIN");
    let told = shell::read(&mut rustc).ok()?;
    told.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
}
