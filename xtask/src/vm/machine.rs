//! One life of the emulator: from power to no power. Its serial console is the evidence.
//!
//! The emulator is software only (TCG). Where a real board has a hardware watchdog that bites when
//! a kernel hangs, here is its reset: the machine is reset when its processor stands at a jump to
//! itself, which only a kernel that hangs on purpose contains. Images that reach userland have a
//! watchdog of their own (softdog).

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::image::HANG;
use super::loader::Loader;
use super::nbd::Disk;
use crate::shell::{Fault, Outcome};
use crate::world::cannot;

/// For how long a machine may show no sign of what is waited for. A boot takes some seconds here;
/// a machine that takes minutes is stuck, on whatever machine this runs.
pub(super) const PATIENCE: Duration = Duration::from_mins(4);
/// Between two looks whether the processor hangs.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Memory of the machine, in MiB.
const MEMORY_MIB: &str = "448";
/// Bytes of one console line that are kept.
const LINE_LEN_MAX: u64 = 4096;

/// What is heard of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard {
    /// A line on its console.
    Line(String),
    /// The power went in the middle of an operation of its disk.
    Cut,
    /// It ended by itself.
    Ended,
}

/// A machine with power.
pub(super) struct Machine {
    child: Child,
    keys: std::process::ChildStdin,
    heard: Receiver<Heard>,
    monitor: PathBuf,
    /// How often its watchdog bit.
    pub(super) resets: u32,
}

impl Machine {
    /// Gives power, for so many operations of the disk or for good. The console is appended to `console.txt` in `folder`.
    pub(super) fn start(
        loader: Loader,
        folder: &Path,
        monitor: &Path,
        disk: &Disk,
        cut_after: Option<u64>,
    ) -> Outcome<Self> {
        disk.power_on(cut_after);
        let _ = std::fs::remove_file(monitor);
        // Ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(["-accel", "tcg", "-cpu", "max", "-m", MEMORY_MIB]);
        command.args(["-display", "none", "-serial", "stdio", "-monitor", "none"]);
        command.args(loader.machine(folder)?);
        command
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", monitor.display()));
        command.arg("-drive").arg(format!(
            "if=none,id=disk,format=raw,discard=unmap,file={}",
            disk.uri()
        ));
        command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"]);
        command.args(["-netdev", "user,id=net", "-device"]);
        command.arg("virtio-net-pci,netdev=net,romfile=");
        let log = folder.join("emulator.log");
        let errors = File::create(&log).map_err(|e| cannot("write", &log, &e))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        let mut child = command
            .spawn()
            .map_err(|e| Fault::new("cannot start \"qemu-system-x86_64\"").because(e))?;
        let (Some(out), Some(keys)) = (child.stdout.take(), child.stdin.take()) else {
            return Err(Fault::new("the emulator has no console"));
        };
        let transcript = folder.join("console.txt");
        let transcript = File::options()
            .create(true)
            .append(true)
            .open(&transcript)
            .map_err(|e| cannot("write", &transcript, &e))?;
        let (tell, heard) = mpsc::channel();
        disk.tell(tell.clone());
        std::thread::spawn(move || listen(out, transcript, &tell));
        Ok(Self {
            child,
            keys,
            heard,
            monitor: monitor.to_owned(),
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
            match self.heard.recv_timeout(LOOK_INTERVAL) {
                Ok(heard) => return Ok(heard),
                Err(RecvTimeoutError::Disconnected) => return Ok(Heard::Ended),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.hangs() {
                self.ask(&json!({ "execute": "system_reset" }));
                self.resets += 1;
            }
        }
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
        let monitor = |line: &str| {
            let arguments = json!({ "command-line": line });
            let told =
                self.ask(&json!({"execute": "human-monitor-command", "arguments": arguments}));
            told.and_then(|told| told["return"].as_str().map(str::to_owned))
                .unwrap_or_default()
        };
        let looped = format!("{:#04x} {:#04x}", HANG[0], HANG[1]);
        monitor("x /2xb $pc").contains(&looped) && monitor("info registers").contains("HLT=0")
    }

    /// Asks the emulator's monitor; `None` where it does not answer.
    fn ask(&self, request: &Value) -> Option<Value> {
        let stream = UnixStream::connect(&self.monitor).ok()?;
        stream.set_read_timeout(Some(LOOK_INTERVAL * 10)).ok()?;
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let mut stream = stream;
        let _greeting = lines.next()?.ok()?;
        for (at, line) in [&json!({ "execute": "qmp_capabilities" }), request]
            .iter()
            .enumerate()
        {
            writeln!(stream, "{line}").ok()?;
            // Events come in between.
            loop {
                let answer: Value = serde_json::from_str(&lines.next()?.ok()?).ok()?;
                if answer.get("return").is_some() || answer.get("error").is_some() {
                    if at == 1 {
                        return Some(answer);
                    }
                    break;
                }
            }
        }
        None
    }
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
    loop {
        line.clear();
        match (&mut out).take(LINE_LEN_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let text = plain(&line);
        let _ = writeln!(transcript, "{text}");
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
