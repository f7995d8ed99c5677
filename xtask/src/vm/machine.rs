//! One life of the emulator: from power to no power. Its serial console is the evidence.
//!
//! Where a real board has a hardware watchdog that bites when
//! a kernel hangs, here is its reset: the machine is reset when its processor stands at a jump to
//! itself, which only a kernel that hangs on purpose contains. Images that reach userland have a
//! watchdog of their own (softdog).

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use super::emulator::Emulator;
use super::image::HANG;
use super::monitor::{Monitor, hear_resets};
use super::nbd::Disk;
use crate::shell::{Fault, Outcome};
use crate::world::cannot;

/// For how long a machine may show no sign of what is waited for. A boot takes some seconds here;
/// a machine that takes minutes is stuck, on whatever machine this runs.
pub(super) const PATIENCE: Duration = Duration::from_mins(6);
/// Between two looks whether the processor hangs.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes of one console line that are kept.
const LINE_LEN_MAX: u64 = 4096;

/// What is heard of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// A line on its console.
    Line(String),
    /// The power went in the middle of an operation of its disk.
    Cut,
    /// It was reset, by itself, at this time.
    Reset(SystemTime),
    /// It ended by itself.
    Ended,
}

/// A machine with power.
pub(super) struct Machine {
    emulator: Rc<Emulator>,
    disk: Disk,
    transcript: PathBuf,
    child: Child,
    keys: ChildStdin,
    heard: Receiver<Heard>,
    /// What was heard before the last restart and not told yet.
    pending: VecDeque<Heard>,
    /// How often its watchdog bit.
    pub(super) resets: u32,
}

impl Machine {
    /// Gives power, for so many operations of the disk or for good. The console is appended to
    /// `transcript`, each line with the seconds since then.
    pub(super) fn start(
        emulator: &Rc<Emulator>,
        disk: &Disk,
        transcript: &Path,
        cut_after: Option<u64>,
    ) -> Outcome<Self> {
        disk.power_on(cut_after);
        let (child, keys, heard) = begin(emulator, disk, transcript)?;
        Ok(Self {
            emulator: Rc::clone(emulator),
            disk: disk.clone(),
            transcript: transcript.to_owned(),
            child,
            keys,
            heard,
            pending: VecDeque::new(),
            resets: 0,
        })
    }

    /// The next thing that is heard, within [`PATIENCE`] of `since`. Feeds the board's watchdog.
    pub(super) fn next(&mut self, since: Instant) -> Outcome<Heard> {
        loop {
            // Lines alone are no life: a machine that cannot boot says the same again and again.
            if since.elapsed() > PATIENCE {
                return Err(Fault::new("the machine shows no sign of life")
                    .hint("its console is in console.txt"));
            }
            if let Some(heard) = self.pending.pop_front() {
                return Ok(heard);
            }
            match self.heard.recv_timeout(LOOK_INTERVAL) {
                Ok(Heard::Reset(at)) => self.restart(at)?,
                Ok(heard) => return Ok(heard),
                Err(RecvTimeoutError::Disconnected) => return Ok(Heard::Ended),
                Err(RecvTimeoutError::Timeout) => {
                    if self.hangs() {
                        self.resets += 1;
                        self.restart(SystemTime::now())?;
                    }
                }
            }
        }
    }

    /// After a reset the machine goes on from the kept start of its firmware, unless it is past that
    /// by itself. Its disk had power all the time.
    fn restart(&mut self, at: SystemTime) -> Outcome {
        if !self.disk.hold_unless_used_since(at) {
            return Ok(());
        }
        self.end();
        // What it said before is heard first, whoever was quicker.
        while let Ok(heard) = self.heard.recv() {
            match heard {
                Heard::Ended => break,
                Heard::Line(_) => self.pending.push_back(heard),
                Heard::Cut | Heard::Reset(_) => {}
            }
        }
        self.disk.release();
        let (child, keys, heard) = begin(&self.emulator, &self.disk, &self.transcript)?;
        (self.child, self.keys, self.heard) = (child, keys, heard);
        Ok(())
    }

    /// Types a word on the console.
    pub(super) fn say(&mut self, word: &str) {
        // A machine that ended is noticed where it is listened to.
        let _ = writeln!(self.keys, "{word}");
        let _ = self.keys.flush();
    }

    /// Takes the power away.
    pub(super) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the processor stands at a jump to itself.
    fn hangs(&self) -> bool {
        let Some(mut monitor) = Monitor::connect(&self.emulator.monitor()) else {
            return false;
        };
        let looped = format!("{:#04x} {:#04x}", HANG[0], HANG[1]);
        monitor.told("x /2xb $pc").contains(&looped)
            && monitor.told("info registers").contains("HLT=0")
    }
}

/// Starts the emulator, and to listen to it.
fn begin(
    emulator: &Emulator,
    disk: &Disk,
    transcript: &Path,
) -> Outcome<(Child, ChildStdin, Receiver<Heard>)> {
    let mut child = emulator.start()?;
    let (Some(out), Some(keys)) = (child.stdout.take(), child.stdin.take()) else {
        return Err(Fault::new("the emulator has no console"));
    };
    let transcript = File::options()
        .create(true)
        .append(true)
        .open(transcript)
        .map_err(|e| cannot("write", transcript, &e))?;
    let (tell, heard) = mpsc::channel();
    disk.tell(tell.clone());
    hear_resets(emulator.events(), tell.clone());
    std::thread::spawn(move || listen(out, transcript, &tell));
    let begun = emulator.go_on();
    if begun.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    begun.map(|()| (child, keys, heard))
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// Hands on what the console says, line by line, without what only a terminal understands.
fn listen(out: impl Read, mut transcript: File, tell: &Sender<Heard>) {
    let mut out = BufReader::new(out);
    let mut line = Vec::new();
    let power_on = Instant::now();
    loop {
        line.clear();
        match (&mut out).take(LINE_LEN_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = plain(&line);
        let at = power_on.elapsed().as_secs_f64();
        let _ = writeln!(transcript, "{at:7.2} {text}");
        if tell.send(Heard::Line(text)).is_err() {
            return;
        }
    }
    let _ = tell.send(Heard::Ended);
}

/// The text of a line: printable characters outside of escape sequences.
fn plain(line: &[u8]) -> String {
    let mut text = String::new();
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            0x1b => {
                // ESC [ … letter, or ESC letter.
                let _ = bytes.by_ref().find(u8::is_ascii_alphabetic);
            }
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {}
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_told_without_the_words_of_a_terminal() {
        assert_eq!(plain(b"\x1b[01;01H\x1b[=3hvm: up\r\n"), "vm: up");
        assert_eq!(plain(b"a\x1b[0mb"), "ab");
    }
}
