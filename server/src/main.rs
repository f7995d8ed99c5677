//! `ampoule-server`: see [`ampoule_server::cli`].

use std::process::ExitCode;

/// A handshake allocates a hundred times; measured with `cargo xtask bench serve`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ampoule_server::cli::main()
}
