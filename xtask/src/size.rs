//! `cargo xtask size`: what the agent costs a device in crates and bytes, and in memory while it
//! installs, and whether that is within its budgets.

use std::collections::BTreeSet;

use crate::bench;
use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table};
use crate::workspace;
use crate::world;

const HELP: &str = "\
cargo xtask size

Builds the agent as it is shipped and shows its crates, its bytes, and its peak memory while it
installs an image of 64 MiB, and while the next one comes by a delta.";

/// What the stripped program may take, in bytes.
const PROGRAM_LEN_MAX: u64 = 4 << 20;

/// What it may hold in memory while it installs, in bytes.
const MEMORY_MAX: u64 = 16 << 20;

/// Large enough that memory which grew with the image would show.
const IMAGE_LEN: u64 = 64 << 20;

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    match arguments.first().map(String::as_str) {
        None => {}
        Some("--help" | "-h") => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(Fault::usage(format!("size takes no \"{other}\""))),
    }
    let crates = crates_of("ampoule-agent")?;
    let folder = world::build(&["ampoule-agent"])?;
    let program = world::length_of(&folder.join("ampoule-agent"))?;
    let installed = bench::install_once(IMAGE_LEN)?;

    shell::heading("the agent on a device");
    let mut shown = Table::new(&["what", "found", "budget"]);
    shown.row(["crates, its own and ours included", &crates.to_string(), ""]);
    let budget = table::bytes(PROGRAM_LEN_MAX);
    shown.row(["program, stripped", &table::bytes(program), &budget]);
    let budget = table::bytes(MEMORY_MAX);
    let what = format!("peak memory, installing {}", table::bytes(IMAGE_LEN));
    shown.row([&what, &table::bytes(installed.peak_memory), &budget]);
    let by_delta = installed.peak_memory_delta.unwrap_or(0);
    let what = "peak memory, installing the next by a delta";
    shown.row([what, &table::bytes(by_delta), &budget]);
    println!("{}", shown.to_text());
    for (what, found, budget) in [
        ("program", program, PROGRAM_LEN_MAX),
        ("memory", installed.peak_memory, MEMORY_MAX),
        ("memory by a delta", by_delta, MEMORY_MAX),
    ] {
        if found > budget {
            let (found, budget) = (table::bytes(found), table::bytes(budget));
            return Err(Fault::new(format!(
                "the agent's {what} takes {found}, not {budget}"
            )));
        }
    }
    Ok(())
}

/// How many crates are linked into a package's program on this machine.
fn crates_of(package: &str) -> Outcome<usize> {
    let mut tree = workspace::cargo();
    tree.args([
        "tree",
        "--locked",
        "--package",
        package,
        "--edges",
        "normal",
    ]);
    tree.args(["--prefix", "none", "--format", "{p}"]);
    let listed = shell::read(&mut tree)?;
    let unique: BTreeSet<&str> = listed
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .filter(|l| !l.is_empty())
        .collect();
    Ok(unique.len())
}
