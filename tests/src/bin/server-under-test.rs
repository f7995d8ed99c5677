//! `ampoule-server`, built beside the tests so that they can run it as a command.

fn main() -> std::process::ExitCode {
    ampoule_server::cli::main()
}
