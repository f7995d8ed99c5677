//! `cargo xtask size`: what the agent costs a device in crates and bytes, and in memory while it
//! installs. Budgets: 4 MiB of program, 16 MiB of memory.

use std::collections::BTreeSet;

use crate::bench;
use crate::shell::{self, Fault, Outcome};
use crate::table::{self, Table};
use crate::workspace;
use crate::world;

const HELP: &str = "\
cargo xtask size

Builds the agent as it is shipped and shows its crates, its bytes, and its peak memory while it
installs an image of 64 MiB.";

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
    shown.row(["program, stripped", &table::bytes(program), "4.0 MiB"]);
    let what = format!("peak memory, installing {}", table::bytes(IMAGE_LEN));
    shown.row([&what, &table::bytes(installed.peak_memory), "16.0 MiB"]);
    println!("{}", shown.to_text());
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
