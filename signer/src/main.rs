//! The binary: everything is in [`ampoule_signer::cli`].

fn main() -> std::process::ExitCode {
    ampoule_signer::cli::main()
}
