//! A device's key on a PKCS#11 token; see [`ampoule_agent::key::pkcs11`].

fn main() -> std::process::ExitCode {
    ampoule_agent::key::pkcs11::main()
}
