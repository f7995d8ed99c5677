//! The command line.
//!
//! Rules of the terminal: results go to stdout (`--json`: one JSON document), progress and errors
//! to stderr, progress only where stderr is a terminal. Exit 0: done. Exit 1: refused or failed,
//! with one `error:` line. Exit 2: wrong usage.

mod agree;
mod announce;
mod args;
mod enroll;
mod open;
mod probe;
mod receipts;
mod recover;
mod run;
mod show;
mod watch;

use std::process::ExitCode;

use ampoule_protocol::error::chain;

pub use args::{Args, Verb, parse};
use open::CliError;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Some(args)) => args,
        Ok(None) => {
            println!("{}", args::HELP.trim_end());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\nhint: see \"ampoule-agent --help\"");
            return ExitCode::from(2);
        }
    };
    match run::run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", chain(error.as_ref(), error.hint().as_deref()));
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<CliError>;
