//! The try-boot of Raspberry Pi firmware: `autoboot.txt`, at most 512 bytes.
//!
//! ```text
//! [all]
//! tryboot_a_b=1
//! boot_partition=2        the default
//! [tryboot]
//! boot_partition=3        what `reboot "0 tryboot"` starts, once
//! # ampoule: armed b
//! ```
//!
//! While nothing is armed both numbers are the default's, so that a try-boot is harmless. The
//! firmware tries once and remembers nothing, and nobody can count: when the agent starts in the
//! default although the other slot is armed, the try is over (or the power failed before it) and
//! the comment becomes `tried`. The restart command of the agent has to be `reboot "0 tryboot"`.
//!
//! Medium: the file is on FAT, whose renames are several writes. So it is written in place: always
//! 512 bytes, one sector, changed by single digits at the same places, so that even a sector that
//! is torn in the middle is a file that names slots with whole images. Other lines are kept.

use std::path::PathBuf;
use std::rc::Rc;

use super::{Loader, PerSlot, Running, WorldError};
use crate::machine::{BootView, Slot};
use crate::ports::{Access, Storage, replace};

/// What the firmware reads.
const FILE_LEN: usize = 512;
const KEY: &str = "boot_partition";
const NOTE: &str = "# ampoule: ";

/// `autoboot.txt` of Raspberry Pi firmware.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrybootSettings {
    /// `/boot/firmware/autoboot.txt`, on the first partition.
    pub file: PathBuf,
    /// The boot partition of each slot.
    pub partitions: PerSlot<u32>,
    /// Who says which slot runs; the device tree by default.
    pub running: Running,
}

pub(super) struct Tryboot {
    storage: Rc<dyn Storage>,
    settings: TrybootSettings,
}

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    default: Slot,
    tried: Tried,
}

/// What is known of the one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    Nothing,
    Armed,
    Over,
}

impl Tryboot {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: TrybootSettings) -> Self {
        Self { storage, settings }
    }

    fn running(&self) -> Result<Slot, WorldError> {
        self.settings.running.slot(self.storage.as_ref())
    }

    fn read(&self) -> Result<Option<String>, WorldError> {
        let path = &self.settings.file;
        let bytes = self.storage.read(path, FILE_LEN as u64);
        let bytes = bytes.map_err(WorldError::io("read", path))?;
        let text = bytes.map(String::from_utf8).transpose();
        text.map_err(|_| WorldError::malformed(path, "are not text"))
    }

    fn choice(&self) -> Result<Choice, WorldError> {
        let text = self.read()?.unwrap_or_default();
        let numbers = numbers_of(&text);
        let slot_of = |number: Option<u32>| {
            self.settings
                .partitions
                .find(|partition| Some(*partition) == number)
        };
        let default = match (numbers.0, slot_of(numbers.0)) {
            (_, Some(slot)) => slot,
            (None, None) => self.running()?,
            (Some(number), None) => {
                let what = format!("name boot partition {number}, expected one of a slot");
                return Err(WorldError::malformed(&self.settings.file, what));
            }
        };
        let is_over = text.contains(&format!("{NOTE}tried {}", default.other()));
        let tried = match slot_of(numbers.1) {
            Some(slot) if slot != default => Tried::Armed,
            _ if is_over => Tried::Over,
            _ => Tried::Nothing,
        };
        Ok(Choice { default, tried })
    }

    fn write(&self, choice: Choice) -> Result<(), WorldError> {
        let path = &self.settings.file;
        let before = self.read()?;
        let text = self.text(before.as_deref().unwrap_or(""), choice);
        let room = FILE_LEN;
        // One more for the end of the last line.
        let needed = text.len() + 1;
        if needed > room {
            return Err(WorldError::Full {
                path: path.clone(),
                needed,
                room,
            });
        }
        // The end of a comment: the firmware does not look there.
        let text = format!("{text:#<width$}\n", width = room - 1);
        if before.as_deref() == Some(&text) {
            return Ok(());
        }
        let io = || WorldError::io("write", path);
        if before.is_none_or(|before| before.len() != room) {
            return replace(self.storage.as_ref(), path, text.as_bytes()).map_err(io());
        }
        let mut file = self.storage.open(path, Access::Write).map_err(io())?;
        file.write_at(text.as_bytes(), 0).map_err(io())?;
        file.sync().map_err(io())
    }

    /// The lines that are ours at fixed places before all others.
    fn text(&self, before: &str, choice: Choice) -> String {
        let default = choice.default;
        let (tryboot, word, about) = match choice.tried {
            Tried::Nothing => (default, "quiet", default),
            Tried::Armed => (default.other(), "armed", default.other()),
            Tried::Over => (default, "tried", default.other()),
        };
        let number = |slot| self.settings.partitions.of(slot);
        let mut text = format!(
            "[all]\ntryboot_a_b=1\n{KEY}={}\n[tryboot]\n{KEY}={}\n{NOTE}{word} {about}\n",
            number(default),
            number(tryboot),
        );
        for line in foreign_lines(before) {
            text.push_str(&line);
            text.push('\n');
        }
        text
    }
}

/// The numbers of `[all]` and `[tryboot]`.
fn numbers_of(text: &str) -> (Option<u32>, Option<u32>) {
    let mut numbers = (None, None);
    let mut section = "all";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name;
        } else if let Some((key, value)) = line.split_once('=')
            && key.trim() == KEY
        {
            match section {
                "all" => numbers.0 = value.trim().parse().ok(),
                "tryboot" => numbers.1 = value.trim().parse().ok(),
                _ => {}
            }
        }
    }
    numbers
}

/// Lines that are not ours, each section's with its head; padding and our own comment are left
/// out.
fn foreign_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut section = "[all]";
    let mut said = "[tryboot]";
    for line in text.lines().map(str::trim) {
        let is_padding = line.starts_with('#') && line.trim_matches('#').is_empty();
        let key = line.split_once('=').map_or("", |(key, _)| key.trim());
        let is_choice =
            matches!(section, "[all]" | "[tryboot]") && matches!(key, KEY | "tryboot_a_b");
        if line.starts_with('[') {
            section = line;
        } else if !(line.is_empty() || is_padding || is_choice || line.starts_with(NOTE)) {
            if said != section {
                lines.push(section.to_owned());
                said = section;
            }
            lines.push(line.to_owned());
        }
    }
    lines
}

impl Loader for Tryboot {
    fn view(&self) -> Result<BootView, WorldError> {
        let Choice { default, tried } = self.choice()?;
        let armed = match tried {
            Tried::Nothing => None,
            Tried::Armed => Some((default.other(), 1)),
            Tried::Over => Some((default.other(), 0)),
        };
        Ok(BootView {
            running: self.running()?,
            default,
            armed,
        })
    }

    fn settle(&mut self) -> Result<(), WorldError> {
        let choice = self.choice()?;
        if choice.tried == Tried::Armed && self.running()? == choice.default {
            return self.write(Choice {
                tried: Tried::Over,
                ..choice
            });
        }
        self.write(choice)
    }

    /// This world can count to one.
    fn arm(&mut self, _slot: Slot, _attempts: u32) -> Result<(), WorldError> {
        let choice = self.choice()?;
        self.write(Choice {
            tried: Tried::Armed,
            ..choice
        })
    }

    fn disarm(&mut self) -> Result<(), WorldError> {
        let choice = self.choice()?;
        self.write(Choice {
            tried: Tried::Nothing,
            ..choice
        })
    }

    fn commit(&mut self, slot: Slot) -> Result<(), WorldError> {
        self.write(Choice {
            default: slot,
            tried: Tried::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_lines_are_kept_in_their_sections() {
        let text = "[all]\ntryboot_a_b=1\nboot_partition=2\nx=1\n[tryboot]\nboot_partition=3\n\
                    y=2\n[gpio4=1]\nboot_partition=9\n# ampoule: armed b\n#########\n";
        let kept = [
            "[all]",
            "x=1",
            "[tryboot]",
            "y=2",
            "[gpio4=1]",
            "boot_partition=9",
        ];
        assert_eq!(foreign_lines(text), kept);
        assert_eq!(numbers_of(text), (Some(2), Some(3)));
    }
}
