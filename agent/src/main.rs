//! The agent's command line; see [`ampoule_agent::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ampoule_agent::cli::main()
}
