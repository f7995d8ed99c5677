//! `ampoule-ctl`: see [`ampoule_server::ctl`].

use std::process::ExitCode;

fn main() -> ExitCode {
    ampoule_server::ctl::main()
}
