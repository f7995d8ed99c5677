//! The delta tool: see `ampoule-delta --help`.

fn main() -> std::process::ExitCode {
    ampoule_delta::cli::main()
}
