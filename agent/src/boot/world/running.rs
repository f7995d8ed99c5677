//! Which slot runs: a question for the system that was booted, not for the settings of the next
//! boot.

use std::io;
use std::path::{Path, PathBuf};

use super::WorldError;
use crate::machine::Slot;
use crate::ports::{Access, Storage};

/// Bytes of a kernel command line, device tree property or EFI variable that are read at most.
const ANSWER_LEN_MAX: usize = 64 << 10;

/// Something for each slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerSlot<T> {
    /// Of slot a.
    pub a: T,
    /// Of slot b.
    pub b: T,
}

impl<T> PerSlot<T> {
    /// That of one slot.
    pub fn of(&self, slot: Slot) -> &T {
        match slot {
            Slot::A => &self.a,
            Slot::B => &self.b,
        }
    }

    /// The slot of which this is true; a before b.
    pub(super) fn find(&self, is_it: impl Fn(&T) -> bool) -> Option<Slot> {
        [Slot::A, Slot::B]
            .into_iter()
            .find(|slot| is_it(self.of(*slot)))
    }
}

/// Who says which slot runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Running {
    /// A whole word of the kernel command line, such as `rauc.slot=A` or `root=/dev/mmcblk0p2`.
    CommandLine {
        /// `/proc/cmdline`.
        path: PathBuf,
        /// The word of each slot.
        words: PerSlot<String>,
    },
    /// A big-endian number in the device tree: the partition that Raspberry Pi firmware booted.
    DeviceTree {
        /// `/proc/device-tree/chosen/bootloader/partition`.
        path: PathBuf,
        /// The number of each slot.
        numbers: PerSlot<u32>,
    },
    /// The kernel command line, and where none of its words says it, the EFI variable in which
    /// systemd-boot names the entry that it booted: 4 bytes of attributes, then UTF-16. Boot counters
    /// in the name are looked past. A name can be wrong about what it started; the command line was
    /// started.
    LoaderEntry {
        /// `/proc/cmdline`.
        cmdline: PathBuf,
        /// The word of each slot.
        words: PerSlot<String>,
        /// `/sys/firmware/efi/efivars/LoaderEntrySelected-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f`.
        path: PathBuf,
        /// The entry of each slot, without counter and ending.
        entries: PerSlot<String>,
    },
    /// Nobody has to say: a recovery image runs, and neither slot does.
    Recovery,
}

impl Running {
    /// The slot that runs.
    ///
    /// # Errors
    /// An answer that names neither slot.
    pub(super) fn slot(&self, storage: &dyn Storage) -> Result<Slot, WorldError> {
        let (path, found, looked_for) = match self {
            // A stand-in: in a recovery image the default is shown in its place.
            Self::Recovery => return Ok(Slot::A),
            Self::CommandLine { path, words } => (
                path,
                on_command_line(storage, path, words)?,
                format!("no word \"{}\" or \"{}\"", words.a, words.b),
            ),
            Self::DeviceTree { path, numbers } => {
                let bytes = ask(storage, path)?;
                let number = bytes.try_into().ok().map(u32::from_be_bytes);
                let found = numbers.find(|of_slot| Some(*of_slot) == number);
                (
                    path,
                    found,
                    format!("neither {} nor {}", numbers.a, numbers.b),
                )
            }
            Self::LoaderEntry {
                cmdline,
                words,
                path,
                entries,
            } => {
                if let Some(slot) = on_command_line(storage, cmdline, words)? {
                    return Ok(slot);
                }
                let (_, found) = selected(storage, path, entries)?;
                (
                    path,
                    found,
                    format!(
                        "neither \"{}\" nor \"{}\", and \"{}\" neither \"{}\" nor \"{}\"",
                        entries.a,
                        entries.b,
                        cmdline.display(),
                        words.a,
                        words.b
                    ),
                )
            }
        };
        found.ok_or_else(|| WorldError::RunningUnknown {
            path: path.clone(),
            what: looked_for,
        })
    }

    /// That the command line and the loader name different slots, for people.
    pub(super) fn doubt(&self, storage: &dyn Storage) -> Option<String> {
        let Self::LoaderEntry {
            cmdline,
            words,
            path,
            entries,
        } = self
        else {
            return None;
        };
        let runs = on_command_line(storage, cmdline, words).ok()??;
        let (name, said) = selected(storage, path, entries).ok()?;
        (said? != runs).then(|| {
            format!("slot \"{runs}\" runs, and the loader says that it started \"{name}\"")
        })
    }
}

/// The slot of which the kernel command line has a word.
fn on_command_line(
    storage: &dyn Storage,
    path: &Path,
    words: &PerSlot<String>,
) -> Result<Option<Slot>, WorldError> {
    let line = ask(storage, path)?;
    let line = String::from_utf8_lossy(&line);
    Ok(words.find(|word| line.split_ascii_whitespace().any(|other| other == word)))
}

/// The entry that the loader says it started, and its slot.
fn selected(
    storage: &dyn Storage,
    path: &Path,
    entries: &PerSlot<String>,
) -> Result<(String, Option<Slot>), WorldError> {
    let name = utf16_of(&ask(storage, path)?);
    let id = super::systemd_boot::id_of(&name);
    let slot = entries.find(|entry| entry == id);
    Ok((name, slot))
}

/// Reads a file of the kernel, whose length is not known before it is read.
fn ask(storage: &dyn Storage, path: &Path) -> Result<Vec<u8>, WorldError> {
    read_to_end(storage, path).map_err(WorldError::io("read", path))
}

fn read_to_end(storage: &dyn Storage, path: &Path) -> io::Result<Vec<u8>> {
    let file = storage.open(path, Access::Read)?;
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = file.read_at(&mut piece, bytes.len() as u64)?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&piece[..count]);
        if bytes.len() > ANSWER_LEN_MAX {
            return Err(io::Error::other(format!(
                "more than {ANSWER_LEN_MAX} bytes"
            )));
        }
    }
}

fn utf16_of(variable: &[u8]) -> String {
    let text = variable.get(4..).unwrap_or_default();
    let units = text
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let name = char::decode_utf16(units.take_while(|unit| *unit != 0));
    name.map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}
