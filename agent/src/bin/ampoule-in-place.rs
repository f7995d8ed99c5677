//! The update module `ampoule-in-place`; see [`ampoule_agent::in_place`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ampoule_agent::config;
use ampoule_agent::disk::Disk;
use ampoule_agent::in_place::InPlace;
use ampoule_protocol::error::{Coded, chain};

const HELP: &str = "\
An update module that rewrites one image in its place.

usage: ampoule-in-place STATE WORK

The agent calls it, in the way of Update Modules v3. The last part of WORK is the component's name;
what the device gives to it stands in /etc/ampoule/in-place.toml, or in the file that
AMPOULE_IN_PLACE names.

exit: 0 done; 1 refused or failed; 2 wrong usage
";

/// What the device gives, unless `AMPOULE_IN_PLACE` names another file.
const CONFIG: &str = "/etc/ampoule/in-place.toml";

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    match arguments.as_slice() {
        [word] if word.as_os_str() == "--help" || word.as_os_str() == "-h" => {
            print!("{HELP}");
            ExitCode::SUCCESS
        }
        [word] if word.as_os_str() == "--version" || word.as_os_str() == "-V" => {
            println!("ampoule-in-place {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        [state, work] => call(&state.to_string_lossy(), work),
        _ => {
            eprintln!(
                "error: a state and a work folder are needed\nhint: see \"ampoule-in-place --help\""
            );
            ExitCode::from(2)
        }
    }
}

fn call(state: &str, work: &Path) -> ExitCode {
    let component = work.file_name().unwrap_or_default().to_string_lossy();
    let path = std::env::var_os("AMPOULE_IN_PLACE").map_or_else(|| CONFIG.into(), PathBuf::from);
    let config = match config::in_place(&path, &component) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}", chain(&error, error.hint().as_deref()));
            return ExitCode::FAILURE;
        }
    };
    let module = InPlace {
        storage: &Disk,
        config: &config,
        work,
    };
    match module.call(state) {
        Ok(answer) => {
            if let Some(answer) = answer {
                println!("{answer}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}", chain(&error, error.hint().as_deref()));
            ExitCode::FAILURE
        }
    }
}
