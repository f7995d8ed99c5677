//! One call of a module: its process, its output, its time.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process_group};

use super::ModuleError;

/// How soon a running module is looked at again: soon at first, then less often.
const LOOK_FIRST: Duration = Duration::from_millis(1);
/// The longest between two looks.
const LOOK_LONGEST: Duration = Duration::from_millis(20);
/// Bytes of the output that are kept: the last of a state, all of an answer.
const OUTPUT_LEN_MAX: usize = 4096;
/// Characters of the output that a fault quotes.
const QUOTE_LEN: usize = 256;
/// Pieces of output that are read at one look; a module that prints for ever is still looked after.
const PIECES_MAX: usize = 64;

/// A module that runs. Dropped before its end, it is ended with all its children.
pub(super) struct Process {
    child: Child,
    output: Output,
    errors: Output,
    module: String,
    state: &'static str,
    start: Instant,
    timeout: Duration,
    status: Option<ExitStatus>,
    /// Whether what it left running is left in peace: it may have started the very program that it
    /// installed.
    may_leave: bool,
}

impl Process {
    pub(super) fn start(
        program: &Path,
        state: &'static str,
        folder: &Path,
        timeout: Duration,
    ) -> Result<Self, ModuleError> {
        let failed = |source| ModuleError::Start {
            program: program.to_owned(),
            source,
        };
        let child = Command::new(program)
            .arg(state)
            .arg(folder)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that all of it can be ended.
            .process_group(0)
            .spawn();
        let mut child = child.map_err(failed)?;
        let stdout = child.stdout.take().map(Output::new).transpose();
        let stderr = child.stderr.take().map(Output::new).transpose();
        let program = program.file_name().unwrap_or_default();
        Ok(Self {
            child,
            output: stdout.map_err(failed)?.unwrap_or_default(),
            errors: stderr.map_err(failed)?.unwrap_or_default(),
            module: program.to_string_lossy().into_owned(),
            state,
            start: Instant::now(),
            timeout,
            status: None,
            may_leave: false,
        })
    }

    /// Its name, for people.
    pub(super) fn module(&self) -> &str {
        &self.module
    }

    /// Whether it has ended; an error where it ended badly or its time is over.
    pub(super) fn has_ended(&mut self) -> Result<bool, ModuleError> {
        if self.status.is_none() {
            // Asked before the last reading, so that nothing printed before the end is missed.
            let status = self.child.try_wait();
            self.status = status.map_err(ModuleError::io("wait for", Path::new(&self.module)))?;
            self.output.read();
            self.errors.read();
        }
        match self.status {
            Some(status) if status.success() => Ok(true),
            Some(status) => Err(ModuleError::Failed {
                module: self.module.clone(),
                state: self.state,
                how: status.to_string(),
                output: self.last_words(),
            }),
            None if self.start.elapsed() >= self.timeout => Err(ModuleError::TooLate {
                module: self.module.clone(),
                state: self.state,
                secs: self.timeout.as_secs(),
            }),
            None => Ok(false),
        }
    }

    /// Waits a moment.
    pub(super) fn pause(&self) {
        let wait = self.start.elapsed() / 8;
        std::thread::sleep(wait.clamp(LOOK_FIRST, LOOK_LONGEST));
    }

    /// Waits for its end.
    pub(super) fn finish(mut self) -> Result<(), ModuleError> {
        while !self.has_ended()? {
            self.pause();
        }
        self.may_leave = true;
        Ok(())
    }

    /// Waits for its end, and gives what it printed.
    pub(super) fn answer(mut self) -> Result<String, ModuleError> {
        while !self.has_ended()? {
            self.pause();
        }
        let text = String::from_utf8_lossy(&self.output.bytes).into_owned();
        if self.output.was_cut {
            return Err(ModuleError::answer(self.state, &text));
        }
        Ok(text.trim().to_owned())
    }

    fn last_words(&self) -> String {
        let bytes = if self.errors.bytes.is_empty() {
            &self.output.bytes
        } else {
            &self.errors.bytes
        };
        let text = String::from_utf8_lossy(bytes);
        let count = text.chars().count();
        let last = text
            .trim_end()
            .chars()
            .skip(count.saturating_sub(QUOTE_LEN));
        last.map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.may_leave {
            return;
        }
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// One end of what a module prints; never waited for.
#[derive(Default)]
struct Output {
    pipe: Option<Box<dyn Read>>,
    bytes: Vec<u8>,
    was_cut: bool,
}

impl Output {
    fn new(pipe: impl Read + AsFd + 'static) -> io::Result<Self> {
        let flags = fcntl_getfl(pipe.as_fd())?;
        fcntl_setfl(pipe.as_fd(), flags | OFlags::NONBLOCK)?;
        Ok(Self {
            pipe: Some(Box::new(pipe)),
            ..Self::default()
        })
    }

    fn read(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        let mut piece = [0; 1024];
        for _ in 0..PIECES_MAX {
            match pipe.read(&mut piece) {
                Ok(0) => return,
                Ok(count) => self.bytes.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
            let excess = self.bytes.len().saturating_sub(OUTPUT_LEN_MAX);
            self.was_cut |= excess > 0;
            self.bytes.drain(..excess);
        }
    }
}
