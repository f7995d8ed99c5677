//! Running other programs and saying what went wrong with them.
//!
//! Invariants:
//! - A program's failure is never swallowed: it becomes a [`Fault`] that names the command.
//! - Every command that changes something or takes long is printed before it runs.

use std::ffi::OsStr;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a task comes to.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

/// Why a task stopped.
#[derive(Debug)]
pub(crate) struct Fault {
    sentence: String,
    causes: Vec<String>,
    hint: Option<String>,
    usage: bool,
}

impl Fault {
    /// Something failed or was refused.
    pub(crate) fn new(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            causes: Vec::new(),
            hint: None,
            usage: false,
        }
    }

    /// The command line was wrong.
    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self {
            usage: true,
            ..Self::new(sentence)
        }
    }

    /// Adds what lies under it.
    pub(crate) fn because(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds the one good next step.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether the command line was at fault.
    pub(crate) fn is_usage(&self) -> bool {
        self.usage
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.sentence)?;
        for cause in &self.causes {
            write!(f, "\ncaused by: {cause}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

/// Names a heading on the terminal, so that a long run can be followed.
pub(crate) fn heading(text: &str) {
    println!("\n== {text}");
}

/// What a finished program left.
pub(crate) struct Finished {
    /// Its standard output, as text.
    pub(crate) out: String,
    /// Its standard error, as text.
    pub(crate) err: String,
    /// Its exit code; absent if a signal ended it.
    pub(crate) code: Option<i32>,
}

/// Prints the command, runs it with our own terminal, and fails when it fails.
pub(crate) fn run(command: &mut Command) -> Outcome {
    println!("$ {}", spelled(command));
    quietly(command)
}

/// As [`run`], without printing the command.
pub(crate) fn quietly(command: &mut Command) -> Outcome {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|e| cannot_start(command, &e))?;
    if status.success() {
        Ok(())
    } else {
        Err(Fault::new(format!("`{}` failed", spelled(command))).because(status))
    }
}

/// Runs the command and keeps what it printed, whether it succeeds or not.
pub(crate) fn finish(command: &mut Command) -> Outcome<Finished> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| cannot_start(command, &e))?;
    Ok(Finished {
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    })
}

/// Runs the command and gives its standard output; its standard error is shown when it fails.
pub(crate) fn read(command: &mut Command) -> Outcome<String> {
    let finished = finish(command)?;
    if finished.code == Some(0) {
        return Ok(finished.out);
    }
    let mut fault = Fault::new(format!("`{}` failed", spelled(command)));
    for line in finished
        .err
        .lines()
        .filter(|l| !l.trim().is_empty())
        .take(8)
    {
        fault = fault.because(line);
    }
    Err(fault)
}

/// Whether a program of this name can be started.
pub(crate) fn has(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| {
        std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
    })
}

/// The command as a person would type it: the program by its name, paths below the current folder
/// made short.
pub(crate) fn spelled(command: &Command) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    let program = Path::new(command.get_program());
    let mut words = vec![word(
        program.file_name().unwrap_or(command.get_program()),
        &here,
    )];
    words.extend(command.get_args().map(|argument| word(argument, &here)));
    words.join(" ")
}

fn word(text: &OsStr, here: &Path) -> String {
    let path = Path::new(text);
    let short = path
        .strip_prefix(here)
        .ok()
        .filter(|rest| !rest.as_os_str().is_empty());
    let text = short.unwrap_or(path).to_string_lossy().into_owned();
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || "'\"$*;&|<>()".contains(c)) {
        format!("'{text}'")
    } else {
        text
    }
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Fault {
    let program = command.get_program().to_string_lossy();
    Fault::new(format!("cannot start \"{program}\"")).because(error)
}
