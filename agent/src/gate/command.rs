//! Runs a provider's command: no shell, a time-out, bounded output, and its whole process group
//! ended with it.
//!
//! A command that left a child behind has that child ended too: what outlives its answer could
//! hold the pipe, the processor or the device.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

use super::{Answer, Gate, Question};
use crate::system::CommandLine;

/// Bytes that a command may print; a word is expected.
const OUTPUT_LEN_MAX: usize = 4096;
/// How often a running command is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Its exit code; `None` where a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it printed.
    pub(crate) output: Vec<u8>,
}

/// Runs `command` to its end.
///
/// # Errors
/// In words: a command that cannot be run, takes longer than `timeout` or prints too much.
pub(crate) fn run(command: &CommandLine, timeout: Duration) -> Result<Ended, String> {
    feed(command, &[], timeout)
}

/// Runs `command` to its end with `input` on its stdin, of which it may leave any part.
///
/// # Errors
/// As of [`run`].
pub(crate) fn feed(
    command: &CommandLine,
    input: &[u8],
    timeout: Duration,
) -> Result<Ended, String> {
    let (program, arguments) = command.split_first().ok_or("command is empty")?;
    let stdin = if input.is_empty() {
        Stdio::null()
    } else {
        Stdio::piped()
    };
    let child = Command::new(program)
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, so that all of it can be ended.
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| format!("\"{program}\" cannot be run: {error}"))?;
    let ended = wait(&mut child, input, timeout);
    end_group(&mut child);
    ended.map_err(|what| format!("\"{program}\" {what}"))
}

fn wait(child: &mut Child, mut input: &[u8], timeout: Duration) -> Result<Ended, String> {
    let mut stdout = child.stdout.take().ok_or("has no output")?;
    let mut stdin = child.stdin.take();
    let io = |error: io::Error| format!("cannot be read: {error}");
    never_block(&stdout).map_err(io)?;
    if let Some(stdin) = &stdin {
        never_block(stdin).map_err(io)?;
    }
    let mut output = Vec::new();
    let start = Instant::now();
    loop {
        // Asked before the last reading, so that nothing printed before the end is missed.
        let status = child.try_wait().map_err(io)?;
        if let Some(pipe) = &mut stdin
            && write_some(pipe, &mut input)
        {
            stdin = None;
        }
        read_available(&mut stdout, &mut output)?;
        if let Some(status) = status {
            return Ok(Ended {
                code: status.code(),
                output,
            });
        }
        if start.elapsed() >= timeout {
            return Err(format!("gave no answer in {} seconds", timeout.as_secs()));
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn never_block(pipe: &impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(pipe)?;
    Ok(fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?)
}

/// Writes what the pipe takes; whether that is all that will ever be written. A command that reads no
/// more has what it wants.
fn write_some(pipe: &mut ChildStdin, input: &mut &[u8]) -> bool {
    while !input.is_empty() {
        match pipe.write(input) {
            Ok(count) => *input = input.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
    true
}

fn read_available(stdout: &mut ChildStdout, output: &mut Vec<u8>) -> Result<(), String> {
    let mut piece = [0; 1024];
    loop {
        match stdout.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => output.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot be read: {error}")),
        }
        if output.len() > OUTPUT_LEN_MAX {
            return Err(format!("printed more than {OUTPUT_LEN_MAX} bytes"));
        }
    }
}

/// Ends what is left of the group. Where nothing is left, there is nothing to end.
fn end_group(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
}

/// The plain gate: commands that all have to exit with 0.
pub struct Commands {
    command: CommandLine,
    name: String,
    timeout: Duration,
}

impl Commands {
    /// A gate of one command.
    pub fn new(command: CommandLine, timeout: Duration) -> Self {
        Self {
            name: format!("command {}", command.join(" ")),
            command,
            timeout,
        }
    }
}

impl Gate for Commands {
    fn name(&self) -> &str {
        &self.name
    }

    fn ask(&mut self, _question: &Question) -> Answer {
        match run(&self.command, self.timeout) {
            Ok(ended) if ended.code == Some(0) => Answer::Yes,
            Ok(Ended {
                code: Some(code), ..
            }) => Answer::no(format!("it exited with {code}")),
            Ok(Ended { code: None, .. }) => Answer::unknown("a signal ended it"),
            Err(what) => Answer::unknown(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> CommandLine {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn code_and_output_are_told() {
        let ended = run(&sh("echo idle; exit 3"), Duration::from_secs(10)).expect("it ends");
        assert_eq!((ended.code, ended.output), (Some(3), b"idle\n".to_vec()));
    }

    /// Meant to catch: `child.kill()` in place of the group leaves the grandchild, and its file appears.
    #[test]
    fn a_command_that_hangs_is_ended_with_its_children() {
        let folder = tempfile::tempdir().expect("a folder");
        let mark = folder.path().join("alive");
        let script = format!("(sleep 1; echo > {}) & sleep 60", mark.display());
        let error = run(&sh(&script), Duration::from_millis(200)).expect_err("it hangs");
        assert!(error.contains("gave no answer"), "{error}");
        std::thread::sleep(Duration::from_millis(1300));
        assert!(!mark.exists(), "a child outlived the command");
    }

    #[test]
    fn a_command_that_prints_for_ever_is_ended() {
        let error = run(&sh("yes"), Duration::from_secs(10)).expect_err("it babbles");
        assert!(error.contains("printed more than"), "{error}");
    }

    #[test]
    fn a_child_left_behind_does_not_hold_the_answer() {
        let start = Instant::now();
        let ended = run(&sh("sleep 30 & exit 0"), Duration::from_secs(20)).expect("it ends");
        assert_eq!(ended.code, Some(0));
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
