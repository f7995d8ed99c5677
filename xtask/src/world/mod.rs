//! A small world of real programs in one folder: signer, server, device.
//!
//! What the demo shows and the benchmarks measure is driven from here as a person would drive it:
//! by command lines and configuration files. Nothing here links the product.

pub(crate) mod device;
pub(crate) mod server;
pub(crate) mod signer;

use std::cell::RefCell;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::shell::{self, Fault, Finished, Outcome};
use crate::workspace;

/// The product that the world is about.
pub(crate) const PRODUCT: &str = "infusion-pump";
/// What its images fit.
pub(crate) const HARDWARE: &str = "pump-mk3";
/// The part of it that is updated.
pub(crate) const COMPONENT: &str = "rootfs";

/// How much is told on the terminal. Everything is in the transcript either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// Each command before it runs.
    Commands,
    /// Nothing.
    Silent,
}

/// The folder that it all happens in, with the programs and a transcript.
pub(crate) struct Room {
    folder: PathBuf,
    programs: PathBuf,
    telling: Telling,
    transcript: RefCell<fs::File>,
}

/// Builds release programs as they are shipped, one by one: the agent together with the server
/// would carry the server's choice of cryptography.
pub(crate) fn build(programs: &[&str]) -> Outcome<PathBuf> {
    for program in programs {
        let package = if program.starts_with("ampoule-") {
            program
        } else {
            "ampoule-examples"
        };
        workspace::build_release(package, program)?;
    }
    Ok(workspace::target().join("release"))
}

impl Room {
    /// An empty room at `folder`; an old one of ours is cleared away, anything else is left alone.
    pub(crate) fn new(folder: &Path, programs: &Path, telling: Telling) -> Outcome<Self> {
        let mark = folder.join("transcript.txt");
        if folder.exists() {
            let is_empty = fs::read_dir(folder).is_ok_and(|mut inside| inside.next().is_none());
            if !is_empty && !mark.is_file() {
                return Err(
                    Fault::new(format!("\"{}\" holds something else", folder.display()))
                        .hint("name another folder with --dir"),
                );
            }
            fs::remove_dir_all(folder).map_err(|e| cannot("clear", folder, &e))?;
        }
        fs::create_dir_all(folder).map_err(|e| cannot("make", folder, &e))?;
        let folder = folder
            .canonicalize()
            .map_err(|e| cannot("find", folder, &e))?;
        let mark = folder.join("transcript.txt");
        let transcript = fs::File::create(&mark).map_err(|e| cannot("write", &mark, &e))?;
        Ok(Self {
            folder,
            programs: programs.to_path_buf(),
            telling,
            transcript: RefCell::new(transcript),
        })
    }

    /// A path in the room.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file in the room, and its folder.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Outcome<PathBuf> {
        let path = self.path(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(|e| cannot("make", folder, &e))?;
        }
        fs::write(&path, text).map_err(|e| cannot("write", &path, &e))?;
        Ok(path)
    }

    /// One of our programs, run in the room.
    pub(crate) fn program(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .current_dir(&self.folder)
            .args(arguments)
            .env("NO_COLOR", "1");
        command.env("AMPOULE_PASSPHRASE_FILE", self.path("keys/passphrase.txt"));
        command
    }

    /// Runs one of our programs, which must succeed; what it printed.
    pub(crate) fn run(&self, name: &str, arguments: &[&str]) -> Outcome<String> {
        let finished = self.try_run(name, arguments)?;
        if finished.code == Some(0) {
            return Ok(finished.out);
        }
        let mut fault = Fault::new(format!("`{name} {}` failed", arguments.join(" ")));
        for line in finished.err.lines().filter(|line| !line.trim().is_empty()) {
            fault = fault.because(line);
        }
        Err(fault)
    }

    /// Runs one of our programs to whatever end it comes to.
    pub(crate) fn try_run(&self, name: &str, arguments: &[&str]) -> Outcome<Finished> {
        if self.telling == Telling::Commands {
            println!("  $ {name} {}", arguments.join(" "));
        }
        let finished = shell::finish(&mut self.program(name, arguments))?;
        let code = finished
            .code
            .map_or_else(|| "a signal".into(), |code| code.to_string());
        let Finished { out, err, .. } = &finished;
        self.note(&format!(
            "$ {name} {}\n{out}{err}[{code}]\n",
            arguments.join(" ")
        ));
        Ok(finished)
    }

    /// Says something to whoever watches.
    pub(crate) fn say(&self, text: &str) {
        if self.telling == Telling::Commands {
            println!("  {text}");
        }
        self.note(&format!("# {text}\n"));
    }

    fn note(&self, text: &str) {
        // The transcript is a courtesy: a full disk shows elsewhere.
        let _ = self.transcript.borrow_mut().write_all(text.as_bytes());
    }
}

/// A file operation that failed.
pub(crate) fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Fault {
    Fault::new(format!("cannot {what} \"{}\"", path.display())).because(error)
}

/// The length of a file.
pub(crate) fn length_of(path: &Path) -> Outcome<u64> {
    fs::metadata(path)
        .map(|found| found.len())
        .map_err(|e| cannot("look at", path, &e))
}
