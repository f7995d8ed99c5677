//! What the tests need and a fresh machine lacks: Debian packages, and python-tuf in a private
//! environment under the build folder.
//!
//! Invariants:
//! - It says what it installs before it does, and installs nothing that is there.
//! - Outside the build folder it touches Debian's packages only, and only as root or through sudo.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell::{self, Fault, Outcome};
use crate::workspace;

/// A Debian package and what it is there for.
pub(crate) struct Needed {
    /// Its name in Debian.
    pub(crate) name: &'static str,
    /// Why we need it, for people.
    pub(crate) reason: &'static str,
}

/// Which of them are not installed.
pub(crate) fn missing(needed: &[Needed]) -> Vec<&Needed> {
    needed
        .iter()
        .filter(|package| !is_installed(package.name))
        .collect()
}

/// Installs what is missing.
pub(crate) fn install(needed: &[Needed]) -> Outcome {
    let missing = missing(needed);
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        println!(
            "installing the Debian package {}: {}",
            package.name, package.reason
        );
    }
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    let hint = format!("install {} yourself and run this again", names.join(", "));
    if !shell::has("apt-get") {
        return Err(Fault::new("this machine has no apt-get").hint(hint));
    }
    update_lists()?;
    let mut command = apt()?;
    command
        .args(["-qq", "--yes", "--no-install-recommends", "install"])
        .args(&names);
    shell::run(command.stdout(Stdio::null())).map_err(|fault| fault.hint(hint))
}

/// Fetches Debian's lists of what there is.
pub(crate) fn update_lists() -> Outcome {
    shell::run(apt()?.args(["-qq", "update"]))
}

/// A Python that can import python-tuf, pinned, in the build folder.
pub(crate) fn python() -> Outcome<PathBuf> {
    environment(
        &python_folder(),
        &workspace::root().join("tests/interop/requirements.txt"),
    )
}

/// A Python with the pinned packages of `list`, in `folder`.
pub(crate) fn environment(folder: &Path, list: &Path) -> Outcome<PathBuf> {
    let program = folder.join("bin/python");
    let wanted = std::fs::read_to_string(list)
        .map_err(|e| Fault::new(format!("cannot read \"{}\"", list.display())).because(e))?;
    let mark = folder.join("installed.txt");
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == wanted) {
        return Ok(program);
    }
    println!(
        "installing into {}: {}",
        folder.display(),
        pinned(&wanted).join(", ")
    );
    shell::run(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(folder),
    )?;
    let mut pip = Command::new(&program);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    shell::run(pip.arg(list))?;
    std::fs::write(&mark, wanted)
        .map_err(|e| Fault::new(format!("cannot write \"{}\"", mark.display())).because(e))?;
    Ok(program)
}

/// Whether [`python`] has nothing left to fetch.
pub(crate) fn python_is_there() -> bool {
    python_folder().join("installed.txt").is_file()
}

fn python_folder() -> PathBuf {
    workspace::target().join("python")
}

fn pinned(list: &str) -> Vec<&str> {
    list.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect()
}

fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Status}", package]);
    shell::finish(&mut query).is_ok_and(|done| done.code == Some(0) && done.out == "installed")
}

/// `apt-get` with the rights to install, asking no question.
fn apt() -> Outcome<Command> {
    let is_root = shell::read(Command::new("id").arg("-u"))?.trim() == "0";
    let mut command = if is_root {
        let mut command = Command::new("env");
        command.arg("DEBIAN_FRONTEND=noninteractive");
        command
    } else if shell::has("sudo") {
        let mut command = Command::new("sudo");
        command.args(["--non-interactive", "env", "DEBIAN_FRONTEND=noninteractive"]);
        command
    } else {
        return Err(Fault::new("installing Debian packages needs root or sudo"));
    };
    command.arg("apt-get");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_list_has_one_pin_a_line_and_comments() {
        assert_eq!(
            pinned("# why\ntuf==7.0.1\n\n  x==1\n"),
            ["tuf==7.0.1", "x==1"]
        );
    }

    #[test]
    fn the_pins_are_exact() {
        for pin in pinned(include_str!("../../tests/interop/requirements.txt")) {
            assert!(pin.contains("=="), "{pin} is not pinned");
        }
    }
}
