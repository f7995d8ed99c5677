//! A program of the board's own, by RAUC's protocol for custom boot loaders, so that those written
//! for RAUC can be used as they are.
//!
//! ```text
//!   get-primary → N   set-primary N   get-state N → good | bad   set-state N good|bad   get-current → N
//! ```
//!
//! The protocol knows a primary and does not tell a trial from a default, so the agent keeps a
//! record of its own beside it; and it offers one setting per call. The order:
//!
//! - arm: the record, the trial's state, then the primary, which decides;
//! - disarm and commit: the default's state, the primary, which decides, the record, then the
//!   other's state.
//!
//! A cut between them leaves a record of a trial that is not primary, which reads as a trial that
//! is over: the machine takes it back.
//!
//! A program that takes too long is ended, and what it prints is read up to a bound.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::{Deserialize, Serialize};

use super::{Loader, PerSlot, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::{Storage, replace};

/// Bytes that a program may print: a name and the end of a line.
const ANSWER_LEN_MAX: usize = 4096;
/// Bytes of the record that are read at most.
const RECORD_LEN_MAX: u64 = 4096;
/// How often a running program is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// A program that sets the boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandSettings {
    /// The program and its first arguments.
    pub command: Vec<String>,
    /// For how long it may run.
    pub timeout: Duration,
    /// What it calls each slot.
    pub names: PerSlot<String>,
    /// The agent's own record.
    pub record: PathBuf,
}

pub(super) struct Command {
    storage: Rc<dyn Storage>,
    settings: CommandSettings,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    default: Slot,
    armed: Option<Slot>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Bad,
}

impl Command {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: CommandSettings) -> Self {
        Self { storage, settings }
    }

    /// The record; without one, what the program calls primary is the default.
    fn record(&self) -> Result<Record, WorldError> {
        let path = &self.settings.record;
        let bytes = self
            .storage
            .read(path, RECORD_LEN_MAX)
            .map_err(WorldError::io("read", path))?;
        match bytes {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| WorldError::malformed(path, format!("are malformed: {error}"))),
            None => Ok(Record {
                format: 1,
                default: self.primary()?,
                armed: None,
            }),
        }
    }

    fn keep(&self, default: Slot, armed: Option<Slot>) -> Result<(), WorldError> {
        let record = Record {
            format: 1,
            default,
            armed,
        };
        let path = &self.settings.record;
        let io = || WorldError::io("write", path);
        let bytes = serde_json::to_vec(&record).map_err(|error| io()(error.into()))?;
        let before = self.storage.read(path, RECORD_LEN_MAX).map_err(io())?;
        if before.as_deref() == Some(&bytes) {
            return Ok(());
        }
        replace(self.storage.as_ref(), path, &bytes).map_err(io())
    }

    fn name(&self, slot: Slot) -> &str {
        self.settings.names.of(slot)
    }

    fn slot_named(&self, question: &str) -> Result<Slot, WorldError> {
        let answer = self.ask(&[question])?;
        let slot = self.settings.names.find(|name| *name == answer);
        slot.ok_or_else(|| self.fault(&[question], format!("named \"{answer}\", no slot")))
    }

    fn primary(&self) -> Result<Slot, WorldError> {
        self.slot_named("get-primary")
    }

    fn set_primary(&self, slot: Slot) -> Result<(), WorldError> {
        if self.primary()? == slot {
            return Ok(());
        }
        self.ask(&["set-primary", self.name(slot)]).map(drop)
    }

    fn state(&self, slot: Slot) -> Result<State, WorldError> {
        let arguments = ["get-state", self.name(slot)];
        match self.ask(&arguments)?.as_str() {
            "good" => Ok(State::Good),
            "bad" => Ok(State::Bad),
            other => Err(self.fault(
                &arguments,
                format!("said \"{other}\", expected good or bad"),
            )),
        }
    }

    fn set_state(&self, slot: Slot, state: State) -> Result<(), WorldError> {
        let word = match state {
            State::Good => "good",
            State::Bad => "bad",
        };
        self.ask(&["set-state", self.name(slot), word]).map(drop)
    }

    fn rest(&self, default: Slot) -> Result<(), WorldError> {
        self.set_state(default, State::Good)?;
        self.set_primary(default)?;
        self.keep(default, None)?;
        // Last, and only now: this slot may have been the default until here.
        self.set_state(default.other(), State::Bad)
    }

    fn fault(&self, arguments: &[&str], what: impl Into<String>) -> WorldError {
        let program = self.settings.command.join(" ");
        let command = format!("{program} {}", arguments.join(" "));
        WorldError::Command {
            command,
            what: what.into(),
        }
    }

    /// Runs the program; what it prints, without the end of the line.
    fn ask(&self, arguments: &[&str]) -> Result<String, WorldError> {
        let answer = self
            .run(arguments)
            .map_err(|what| self.fault(arguments, what))?;
        Ok(String::from_utf8_lossy(&answer).trim().to_owned())
    }

    fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let (program, first) = self.settings.command.split_first().ok_or("is empty")?;
        let child = Process::new(program)
            .args(first)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let mut child = child.map_err(|error| format!("cannot be run: {error}"))?;
        let answer = wait(&mut child, self.settings.timeout);
        if answer.is_err() {
            // It may have ended by itself meanwhile; then there is nothing to end.
            let _ = child.kill();
            let _ = child.wait();
        }
        answer
    }
}

/// Reads what a program prints until it ends.
fn wait(child: &mut Child, timeout: Duration) -> Result<Vec<u8>, String> {
    let mut output = child.stdout.take().ok_or("has no output")?;
    // A child of the program may hold the pipe open for ever; so never wait for its end.
    let set = fcntl_getfl(output.as_fd())
        .and_then(|flags| fcntl_setfl(output.as_fd(), flags | OFlags::NONBLOCK));
    set.map_err(|error| format!("cannot be read: {error}"))?;
    let start = Instant::now();
    let mut answer = Vec::new();
    loop {
        // Asked first: what was printed before the end is in the pipe then.
        let ended = child
            .try_wait()
            .map_err(|error| format!("is lost: {error}"))?;
        drain(&mut output, &mut answer)?;
        match ended {
            Some(status) if status.success() => return Ok(answer),
            Some(status) => return Err(format!("ended with {status}")),
            None if start.elapsed() < timeout => std::thread::sleep(LOOK_INTERVAL),
            None => return Err(format!("did not end within {timeout:?}")),
        }
    }
}

fn drain(output: &mut impl Read, answer: &mut Vec<u8>) -> Result<(), String> {
    let mut piece = [0; 512];
    loop {
        match output.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot be read: {error}")),
        }
        if answer.len() > ANSWER_LEN_MAX {
            return Err(format!("printed more than {ANSWER_LEN_MAX} bytes"));
        }
    }
}

impl Loader for Command {
    fn view(&self) -> Result<BootView, WorldError> {
        let record = self.record()?;
        let running = self.slot_named("get-current")?;
        let armed = match record.armed {
            Some(slot) => {
                let is_left = self.primary()? == slot && self.state(slot)? == State::Good;
                Some((slot, u32::from(is_left)))
            }
            None => None,
        };
        Ok(BootView {
            running,
            default: record.default,
            armed,
        })
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        let view = self.view()?;
        if view.armed.is_none() && view.running == view.default {
            return self.rest(view.default);
        }
        Ok(())
    }

    /// How many boots a trial has is the program's own affair.
    fn arm(&mut self, slot: Slot, _attempts: u32) -> Result<(), WorldError> {
        self.keep(self.record()?.default, Some(slot))?;
        self.set_state(slot, State::Good)?;
        self.set_primary(slot)
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        self.rest(self.record()?.default)
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        self.rest(slot)
    }
}
