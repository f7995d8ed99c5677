//! `ampoule-agent-pkcs11`, built beside the tests so that they can run it as a command.

fn main() -> std::process::ExitCode {
    ampoule_agent::key::pkcs11::main()
}
