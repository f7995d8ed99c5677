//! Serves a payload through named pipes, beside the module that reads them, in one thread.
//!
//! ```text
//!   module reads stream-next ─► "streams/<name>" ─► module reads streams/<name> ─► stream-next … ─► ""
//! ```
//!
//! The protocol warns that a module which reads out of turn may hang. Here it does not: each pipe
//! loses its name as soon as it was opened, so a second reading finds nothing; and a line is
//! written to a pipe that nobody opened before, so that a module which asks for the next name
//! before it read the last file is seen, and ended.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::folder::Folder;
use super::payload::Payload;
use super::{ModuleError, Process};

/// Bytes read from the payload at once.
const PIECE_LEN: usize = 64 << 10;
/// For how long a full pipe is waited for before the module is looked at.
const FULL_WAIT: Duration = Duration::from_millis(50);

const NEXT: &str = "stream-next";

/// How the module took its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Served {
    /// By its streams.
    Streams,
    /// Not at all: it wants files.
    Unread,
}

/// Serves the payload until the module's download state ends.
pub(super) fn serve(
    process: Process,
    folder: &Folder,
    payload: &Payload<'_>,
    has_sizes: bool,
) -> Result<Served, ModuleError> {
    let mut serving = Serving {
        process,
        folder,
        asked: 0,
    };
    payload.each(&mut |name, size, content| {
        let line = if has_sizes {
            format!("streams/{name} {size}\n")
        } else {
            format!("streams/{name}\n")
        };
        serving.one(name, &line, content)
    })?;
    serving.end()
}

struct Serving<'a> {
    process: Process,
    folder: &'a Folder,
    /// Names that the module was told.
    asked: usize,
}

impl Serving<'_> {
    /// Serves one file; `false` where the module has ended and never asked.
    fn one(&mut self, name: &str, line: &str, content: &mut dyn Read) -> Result<bool, ModuleError> {
        let stream = format!("streams/{name}");
        self.folder.make_pipe(&stream)?;
        let Some(mut next) = self.reader_of(NEXT, None)? else {
            if self.asked == 0 {
                return Ok(false);
            }
            return Err(self.wrong("ended in the middle of its streams"));
        };
        // Whoever asks again asks another pipe.
        self.folder.make_pipe(NEXT)?;
        self.asked += 1;
        // A line fits into an empty pipe, whole.
        let told = next.write_all(line.as_bytes());
        told.map_err(|_| self.wrong("did not read a name to its end"))?;
        drop(next);
        let Some(mut pipe) = self.reader_of(&stream, Some(NEXT))? else {
            return Err(self.wrong("ended in the middle of its streams"));
        };
        self.folder.remove_pipe(&stream)?;
        self.pour(&mut pipe, &stream, content)?;
        Ok(true)
    }

    /// The writing end of a pipe, once the module reads it; `None` where it ended before. A reader
    /// of `out_of_turn` is a module that asks too early.
    fn reader_of(
        &mut self,
        name: &str,
        out_of_turn: Option<&str>,
    ) -> Result<Option<File>, ModuleError> {
        loop {
            // Asked first: who opened the pipe and ended then is found by the opening below.
            let has_ended = self.process.has_ended()?;
            if let Some(pipe) = self.open(name)? {
                return Ok(Some(pipe));
            }
            if let Some(other) = out_of_turn
                && self.open(other)?.is_some()
            {
                return Err(self.wrong(&format!("asked for the next name before it read {name}")));
            }
            if has_ended {
                return Ok(None);
            }
            self.process.pause();
        }
    }

    fn open(&self, name: &str) -> Result<Option<File>, ModuleError> {
        let path = self.folder.path(name);
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        match OpenOptions::new()
            .write(true)
            .custom_flags(flags)
            .open(&path)
        {
            Ok(pipe) => Ok(Some(pipe)),
            Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => Ok(None),
            Err(error) => Err(ModuleError::io("open", &path)(error)),
        }
    }

    fn pour(
        &mut self,
        pipe: &mut File,
        name: &str,
        content: &mut dyn Read,
    ) -> Result<(), ModuleError> {
        let path = self.folder.path(name);
        let mut piece = vec![0; PIECE_LEN];
        loop {
            let read = content.read(&mut piece);
            let count = read.map_err(ModuleError::io("read the payload of", &path))?;
            if count == 0 {
                return Ok(());
            }
            let mut rest = &piece[..count];
            while !rest.is_empty() {
                match pipe.write(rest) {
                    Ok(count) => rest = &rest[count..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.wait_for_room(pipe)?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                        self.process.has_ended()?;
                        return Err(self.wrong(&format!("did not read {name} to its end")));
                    }
                    Err(error) => return Err(ModuleError::io("write", &path)(error)),
                }
            }
        }
    }

    fn wait_for_room(&mut self, pipe: &File) -> Result<(), ModuleError> {
        self.process.has_ended()?;
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: i64::from(FULL_WAIT.subsec_nanos()),
        };
        let mut fds = [PollFd::new(pipe, PollFlags::OUT)];
        match poll(&mut fds, Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(ModuleError::io("wait for", &self.folder.path("streams"))(
                error.into(),
            )),
        }
    }

    /// Tells the module that there is no more, where it asks, and waits for its end.
    fn end(mut self) -> Result<Served, ModuleError> {
        if self.asked == 0 && self.process.has_ended()? {
            return Ok(Served::Unread);
        }
        if let Some(pipe) = self.reader_of(NEXT, None)? {
            // Its name goes first: a second reading finds nothing, instead of waiting for ever.
            self.folder.remove_pipe(NEXT)?;
            drop(pipe);
        } else if self.asked == 0 {
            return Ok(Served::Unread);
        }
        // What it left running would wait at pipes that are gone: it is ended with it.
        while !self.process.has_ended()? {
            self.process.pause();
        }
        Ok(Served::Streams)
    }

    fn wrong(&self, what: &str) -> ModuleError {
        ModuleError::Streams {
            module: self.process.module().to_owned(),
            what: what.to_owned(),
        }
    }
}
