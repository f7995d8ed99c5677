//! `ampoule-server`: see [`ampoule_server::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ampoule_server::cli::main()
}
