//! `ampoule-agent`, built beside the tests so that they can run it as a command.

fn main() -> std::process::ExitCode {
    ampoule_agent::cli::main()
}
