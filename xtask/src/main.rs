//! The project's tasks: `cargo xtask demo | test | vm-test | bench | plant | reliability | fleet-sim |
//! size | cross | tidy`.
//!
//! Each task is a module that drives the real tools (cargo, the release binaries, Debian's
//! packages, python-tuf) as a person would, and says each command it runs. Nothing here is a part
//! of the product, and the product knows nothing of it.
//!
//! The package stays small so that a task starts at once: what has to link the product to measure
//! it lives in the programs of `examples/` and is built in release only when asked for.

mod bench;
mod cross;
mod demo;
mod fleet_sim;
mod fuzz;
mod plant;
mod reliability;
mod setup;
mod shell;
mod size;
mod table;
mod test;
mod tidy;
mod vm;
mod workspace;
mod world;

use std::process::ExitCode;

use shell::{Fault, Outcome};

const HELP: &str = "\
cargo xtask TASK

tasks:
  demo   [--old FILE --new FILE] [--dir DIR]   one device's first updates and three attacks, for real
  test   [--offline]                           set up and run every test
  fuzz   [SECONDS]                             run the fuzz targets for a while
  plant  [--together] [WORD]...                plant mistakes; each must be seen by its test
  bench  [verify|install|checkins|serve|...]...  measure, beside the peers where there are some
  reliability                                  try to brick a device; write docs/RELIABILITY.md
  vm-test [--cuts N] [--seed S] [--loader L]   updates and power cuts of a machine in an emulator
  fleet-sim [--devices N] [--seed S]           a fleet with the real agent and server, in one process
  size                                         crates, bytes and peak memory of the agent
  cross  [aarch64 | armv7]...                  the agent for other processors, and an update by it
  tidy                                         formatting, file lengths, words, stubs, machine paths

Each task says the commands that it runs; `cargo xtask TASK --help` says what it needs.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::from(if fault.is_usage() { 2 } else { 1 })
        }
    }
}

fn dispatch(arguments: &[String]) -> Outcome {
    let Some((task, rest)) = arguments.split_first() else {
        return Err(Fault::usage("no task named").hint("cargo xtask --help"));
    };
    match task.as_str() {
        "demo" => demo::run(rest),
        "test" => test::run(rest),
        "fuzz" => fuzz::run(rest),
        "plant" => plant::run(rest),
        "bench" => bench::run(rest),
        "reliability" => reliability::run(rest),
        "fleet-sim" => fleet_sim::run(rest),
        "size" => size::run(rest),
        "cross" => cross::run(rest),
        "tidy" => tidy::run(rest),
        "vm-test" => vm::run(rest),
        "-h" | "--help" | "help" => {
            println!("{HELP}");
            Ok(())
        }
        other => Err(Fault::usage(format!("\"{other}\" is not a task")).hint("cargo xtask --help")),
    }
}
