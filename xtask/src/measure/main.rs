//! The measuring half of `cargo xtask bench`: what has to link the product, in release.
//!
//! ```text
//! measure verify
//! measure rollout DEVICES
//! measure audit write FOLDER ENTRIES | verify FOLDER
//! measure checkins FOLDER fill DEVICES
//! measure checkins FOLDER run DEVICES SECONDS same|else
//! measure load MODE ADDRESS PATH CA CERTIFICATE KEY CONNECTIONS SECONDS SERVER_PID
//! measure hold ADDRESS PATH CA CERTIFICATE KEY CONNECTIONS SERVER_PID
//! ```
//!
//! Each command prints one JSON value. Figures go out as they were found; medians and ratios are
//! made by the task that calls this.

mod audit;
mod checkins;
mod h2;
mod hold;
mod load;
mod peer;
mod process;
mod rollout;
mod verify;

use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "usage: measure verify | rollout … | audit … | checkins … | load … | hold …; see the head of the program";

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
        Some((command, rest)) if command == "checkins" => check_in(rest),
        Some((command, rest)) if command == "hold" => hold::run(&hold::Plan::parse(rest)?),
        _ => Err(USAGE.into()),
    }
}

fn check_in(words: &[String]) -> Result<serde_json::Value, Box<dyn Error>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [folder, "fill", devices] => checkins::fill(folder.as_ref(), devices.parse()?),
        [folder, "run", devices, seconds, says] => {
            checkins::run(folder.as_ref(), devices.parse()?, seconds.parse()?, says)
        }
        _ => Err(USAGE.into()),
    }
}
