//! The measuring half of `cargo xtask bench`: what has to link the product, in release.
//!
//! ```text
//! measure verify
//! measure rollout DEVICES
//! measure audit write FOLDER ENTRIES | verify FOLDER
//! measure checkins FOLDER DEVICES SECONDS ROUNDS
//! measure kills FOLDER KILLS
//! measure load MODE ADDRESS PATH CA CERTIFICATE KEY CONNECTIONS SECONDS SERVER_PID
//! measure hold ADDRESS PATH CA CERTIFICATE KEY CONNECTIONS SERVER_PID
//! ```
//!
//! Each command prints one JSON value. Figures go out as they were found; medians and ratios are
//! made by the task that calls this.

mod audit;
mod checkins;
mod engines;
mod h2;
mod hold;
mod kills;
mod load;
mod peer;
#[path = "../../../server/tests/postgres/mod.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests")]
mod postgres;
mod process;
mod rollout;
mod sqlite;
mod verify;

use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "usage: measure verify | rollout … | audit … | checkins … | kills … | load … | hold …; see the head of the program";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(value) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<serde_json::Value, Box<dyn Error>> {
    match arguments.split_first() {
        Some((command, [])) if command == "verify" => verify::run(),
        Some((command, rest)) if command == "load" => load::run(&load::Plan::parse(rest)?),
        Some((command, [devices])) if command == "rollout" => rollout::run(devices.parse()?),
        Some((command, rest)) if command == "audit" => audit::run(rest),
        Some((command, [folder, devices, seconds, rounds])) if command == "checkins" => {
            let (devices, seconds) = (devices.parse()?, seconds.parse()?);
            checkins::run(folder.as_ref(), devices, seconds, rounds.parse()?)
        }
        Some((command, [folder, kills])) if command == "kills" => {
            kills::run(folder.as_ref(), kills.parse()?)
        }
        Some((command, [folder, engine, before])) if command == "kills-child" => {
            kills::child(folder.as_ref(), engine, before.parse()?)
        }
        Some((command, rest)) if command == "hold" => hold::run(&hold::Plan::parse(rest)?),
        _ => Err(USAGE.into()),
    }
}
