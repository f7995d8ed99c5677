//! What the emulated processor runs on: the machine's own virtualisation where it has one that works,
//! else software, which every machine has and which takes some ten times as long.

use std::io::{BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use super::loader::UBOOT;

/// For how long U-Boot may take to its prompt; it takes less than a second. Longer, and it is done in
/// software, which is slower and proves the same.
const TRIAL_MAX: Duration = Duration::from_secs(15);
/// What it says when it has looked at its devices.
///
/// Its name is not enough: where KVM runs without the processor's own help, its first lines come, and
/// then an instruction that nobody executes.
const SAID: &str = "autoboot";
/// Bytes of its console that are looked at.
const HEARD_LEN_MAX: u64 = 64 << 10;

/// What instructions are executed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    /// The machine's own processor.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

impl Accel {
    /// KVM where a boot loader gets as far as its prompt under it.
    ///
    /// That a device file can be opened does not say that a machine within a machine runs.
    pub(super) fn found() -> Self {
        let mut trial = Command::new("setpriv");
        trial.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        trial.args(Self::Kvm.words());
        trial.args(["-machine", "pc", "-bios", UBOOT, "-m", "64", "-nodefaults"]);
        trial.args(["-display", "none", "-serial", "stdio"]);
        trial.stdin(Stdio::piped()).stderr(Stdio::null());
        let Ok(mut child) = trial.stdout(Stdio::piped()).spawn() else {
            return Self::Tcg;
        };
        let (tell, heard) = mpsc::channel();
        if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || tell.send(says(out, SAID)));
        }
        // It would wait for a disk for ever, or stand where nobody executes it.
        let said = heard.recv_timeout(TRIAL_MAX).unwrap_or(false);
        let _ = child.kill();
        let _ = child.wait();
        if said { Self::Kvm } else { Self::Tcg }
    }

    /// By its name on the command line.
    pub(super) fn named(word: &str) -> Option<Self> {
        [Self::Kvm, Self::Tcg]
            .into_iter()
            .find(|accel| accel.name() == word)
    }

    /// Its name, as QEMU writes it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// What QEMU is told.
    pub(super) const fn words(self) -> [&'static str; 4] {
        ["-accel", self.name(), "-cpu", "max"]
    }
}

/// Whether this word comes, before the end.
fn says(out: impl Read, word: &str) -> bool {
    let mut heard = Vec::new();
    for byte in BufReader::new(out).take(HEARD_LEN_MAX).bytes() {
        let Ok(byte) = byte else { break };
        heard.push(byte);
        if heard.ends_with(word.as_bytes()) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_heard_wherever_it_stands_and_silence_ends() {
        assert!(says(&b"\r\n\r\nHit any key to stop autoboot:"[..], SAID));
        assert!(!says(&b"U-Boot 2023.01"[..], SAID));
        assert!(!says(&b""[..], SAID));
    }
}
