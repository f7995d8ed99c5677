//! Where things are: the workspace, its build folder, its own programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Fault, Outcome};

/// The workspace folder, found from this package's own place.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The build folder that cargo uses for this workspace.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// `cargo` in the workspace folder.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    // What cargo told us of our own package is not about what is built now: build scripts that look
    // at it would run again each time that somebody builds without us.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Builds one program of a package in release.
pub(crate) fn build_release(package: &str, program: &str) -> Outcome {
    let mut command = cargo();
    command.args([
        "build",
        "--release",
        "--locked",
        "--package",
        package,
        "--bin",
        program,
    ]);
    shell::run(&mut command)
}

/// Builds one program of a package in release with the C library inside, as devices have it that
/// count their memory; returns where it is.
pub(crate) fn build_static(package: &str, program: &str) -> Outcome<PathBuf> {
    let told = shell::read(Command::new("rustc").arg("-vV"))?;
    let host = told
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .ok_or_else(|| Fault::new("rustc does not say what this machine is").because(&told))?;
    let mut command = cargo();
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    command.args(["build", "--release", "--locked", "--target", host]);
    // With a target said, build scripts and macros are built without those flags.
    shell::run(command.args(["--package", package, "--bin", program]))?;
    Ok(target().join(host).join("release").join(program))
}

/// Every file that git tracks or would track, as a path from the workspace folder.
pub(crate) fn files() -> Outcome<Vec<PathBuf>> {
    let mut command = Command::new("git");
    command
        .current_dir(root())
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let list = shell::read(&mut command)?;
    Ok(list
        .lines()
        .map(PathBuf::from)
        .filter(|p| root().join(p).is_file())
        .collect())
}
