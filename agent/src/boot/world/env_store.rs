//! Where U-Boot's environment is kept: one copy, or two that take turns.
//!
//! ```text
//!   one copy     u32 CRC-32 of data │ data …
//!   two copies   u32 CRC-32 of data │ u8 flags │ data …        flags are outside of the CRC
//! ```
//!
//! As in U-Boot's `env/common.c` and `fw_env.config`. Of two whole copies the one with the larger
//! flags counts, as an *unsigned* number that wraps: 0 is newer than 255 (fwup-home/fwup#214 took
//! it as signed and went back in time at generation 128). The CRC has the byte order of the CPU.
//!
//! How it is written:
//! - Two copies: the other copy, whole, with flags + 1; sync. It counts from the moment at which
//!   its CRC fits, and until then the copy that was there does.
//! - One copy that is a file of its own: replaced by a rename.
//! - One copy on a device: there is no way to do this with one write. First a shadow of the new
//!   copy in the agent's folder, then the device; a copy that a cut damaged is written again from
//!   the shadow at the next start. Until then U-Boot runs the environment that was compiled into
//!   it, which has to boot a slot (docs/guide/boot.md).
//!
//! An environment without a whole copy is never made anew: it would lack the board's own boot
//! commands. If its CRC fits another size than the configured one, the error says which
//! (mendersoftware/meta-mender#1038).
//!
//! Gap: raw NAND and NOR (`/dev/mtd…`, boolean flags, erase before write, bad blocks) and UBI
//! volumes are refused; so is libubootenv's YAML configuration.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use super::WorldError;
use super::env::Env;
use crate::ports::{Access, Kind, Storage, replace};

/// Bytes of a configuration that are read at most.
const CONFIG_LEN_MAX: u64 = 64 << 10;
/// Bytes of one copy; real ones are 8 KiB to 256 KiB.
const COPY_LEN: Range<u64> = 16..(4 << 20);
/// The sizes at which a CRC is tried for the message about a wrong size.
const SIZE_STEP: usize = 4 << 10;
/// How often, and how far apart, a lock that another program holds is tried.
const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Where U-Boot's environment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvSettings {
    /// `/etc/fw_env.config`.
    pub config: PathBuf,
    /// The lock that `fw_setenv` takes, `/run/lock/fw_printenv.lock`; `None` for no other writers.
    pub lock: Option<PathBuf>,
    /// The agent's own copy of an environment that is kept once, on a device.
    pub shadow: PathBuf,
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Area {
    path: PathBuf,
    /// Negative from the end.
    offset: i64,
    size: u64,
}

/// An environment, and where the copy that counts is.
pub(super) struct Found {
    pub(super) env: Env,
    index: usize,
    flags: u8,
    /// Whether the copy that counts was damaged, and this is its shadow.
    is_shadow: bool,
}

/// Reads and writes the copies.
pub(super) struct EnvStore {
    storage: Rc<dyn Storage>,
    settings: EnvSettings,
}

impl EnvStore {
    pub(super) fn new(storage: Rc<dyn Storage>, settings: EnvSettings) -> Self {
        Self { storage, settings }
    }

    /// For errors.
    pub(super) fn path(&self) -> &Path {
        &self.settings.config
    }

    pub(super) fn read(&self) -> Result<Found, WorldError> {
        self.find(&self.areas()?)
    }

    /// Writes the copy that a cut damaged again, if its shadow is whole.
    pub(super) fn settle(&self) -> Result<(), WorldError> {
        let areas = self.areas()?;
        let found = self.find(&areas)?;
        if found.is_shadow {
            let _lock = self.lock()?;
            return self.write(&areas, &found, &found.env);
        }
        Ok(())
    }

    /// Changes variables, by one write that counts.
    pub(super) fn edit(&self, change: impl FnOnce(&mut Env)) -> Result<(), WorldError> {
        let _lock = self.lock()?;
        let areas = self.areas()?;
        let found = self.find(&areas)?;
        let mut env = found.env.clone();
        change(&mut env);
        if env == found.env && !found.is_shadow {
            return Ok(());
        }
        self.write(&areas, &found, &env)
    }

    fn areas(&self) -> Result<Vec<Area>, WorldError> {
        let path = &self.settings.config;
        let text = self
            .storage
            .read(path, CONFIG_LEN_MAX)
            .map_err(WorldError::io("read", path))?;
        let text = text.ok_or(io::ErrorKind::NotFound.into());
        let text = text.map_err(WorldError::io("read", path))?;
        let text = String::from_utf8_lossy(&text);
        areas_of(&text).map_err(|what| WorldError::malformed(path, what))
    }

    fn find(&self, areas: &[Area]) -> Result<Found, WorldError> {
        let mut copies = Vec::new();
        for area in areas {
            copies.push(self.copy(area)?);
        }
        match &copies[..] {
            [one] => match env_of(one, 4) {
                Some(env) => Ok(Found {
                    env,
                    index: 0,
                    flags: 0,
                    is_shadow: false,
                }),
                None => self.shadow(&areas[0], one),
            },
            [first, second] => {
                let first_env = env_of(first, 5).map(|env| (env, first[4]));
                let second_env = env_of(second, 5).map(|env| (env, second[4]));
                let newer = match (first_env, second_env) {
                    (Some(_), Some((env, flags))) if is_newer(flags, first[4]) => (env, 1, flags),
                    (Some((env, flags)), _) => (env, 0, flags),
                    (None, Some((env, flags))) => (env, 1, flags),
                    (None, None) => return Err(damaged(&areas[0], first, 5)),
                };
                let (env, index, flags) = newer;
                Ok(Found {
                    env,
                    index,
                    flags,
                    is_shadow: false,
                })
            }
            _ => Err(WorldError::malformed(self.path(), "names no environment")),
        }
    }

    fn shadow(&self, area: &Area, damaged_copy: &[u8]) -> Result<Found, WorldError> {
        let path = &self.settings.shadow;
        let copy = self
            .storage
            .read(path, area.size)
            .map_err(WorldError::io("read", path))?;
        let env = copy.filter(|copy| copy.len() == damaged_copy.len());
        match env.and_then(|copy| env_of(&copy, 4)) {
            Some(env) => Ok(Found {
                env,
                index: 0,
                flags: 0,
                is_shadow: true,
            }),
            None => Err(damaged(area, damaged_copy, 4)),
        }
    }

    fn copy(&self, area: &Area) -> Result<Vec<u8>, WorldError> {
        let io = || WorldError::io("read", &area.path);
        let file = self.storage.open(&area.path, Access::Read).map_err(io())?;
        let len = file.len().map_err(io())?;
        let start = area.start(len)?;
        let mut copy = vec![0; usize::try_from(area.size).unwrap_or(0)];
        file.read_exact_at(&mut copy, start).map_err(io())?;
        Ok(copy)
    }

    fn write(&self, areas: &[Area], found: &Found, env: &Env) -> Result<(), WorldError> {
        let (area, head) = match areas {
            [_, _] => (&areas[1 - found.index], 5),
            _ => (&areas[0], 4),
        };
        let io = || WorldError::io("write", &area.path);
        let size = usize::try_from(area.size).unwrap_or(0);
        let data = env.encode(size - head).map_err(|needed| WorldError::Full {
            path: area.path.clone(),
            needed,
            room: size - head,
        })?;
        let mut copy = crc32fast::hash(&data).to_ne_bytes().to_vec();
        if head == 5 {
            copy.push(found.flags.wrapping_add(1));
        } else {
            if self.is_file_of_its_own(area).map_err(io())? {
                copy.extend_from_slice(&data);
                return replace(self.storage.as_ref(), &area.path, &copy).map_err(io());
            }
            let shadow = [copy.as_slice(), &data].concat();
            let path = &self.settings.shadow;
            replace(self.storage.as_ref(), path, &shadow).map_err(WorldError::io("write", path))?;
        }
        copy.extend_from_slice(&data);
        let mut file = self.storage.open(&area.path, Access::Write).map_err(io())?;
        let start = area.start(file.len().map_err(io())?)?;
        file.write_at(&copy, start).map_err(io())?;
        file.sync().map_err(io())
    }

    fn is_file_of_its_own(&self, area: &Area) -> io::Result<bool> {
        Ok(area.offset == 0
            && self.storage.kind(&area.path)? == Some(Kind::File)
            && self.storage.open(&area.path, Access::Read)?.len()? == area.size)
    }

    /// Held until it is dropped.
    fn lock(&self) -> Result<Option<File>, WorldError> {
        let Some(path) = &self.settings.lock else {
            return Ok(None);
        };
        let io = || WorldError::io("lock", path);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let file = options.open(path).map_err(io())?;
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(io()(error)),
            }
        }
        Err(io()(io::Error::other("another program holds it")))
    }
}

impl Area {
    fn start(&self, len: u64) -> Result<u64, WorldError> {
        let start = match u64::try_from(self.offset) {
            Ok(start) => Some(start),
            Err(_) => len.checked_sub(self.offset.unsigned_abs()),
        };
        let fits = |start: &u64| start.checked_add(self.size).is_some_and(|end| end <= len);
        start.filter(fits).ok_or_else(|| {
            let (size, offset) = (self.size, self.offset);
            let what = format!("has {len} bytes, expected {size} more at offset {offset}");
            WorldError::malformed(&self.path, what)
        })
    }
}

/// Whether `flags` are those of a newer copy than `other`; the same are not.
fn is_newer(flags: u8, other: u8) -> bool {
    match (flags, other) {
        (0, 255) => true,
        (255, 0) => false,
        _ => flags > other,
    }
}

fn env_of(copy: &[u8], head: usize) -> Option<Env> {
    let (crc, data) = (copy.get(..4)?, copy.get(head..)?);
    (crc == crc32fast::hash(data).to_ne_bytes()).then(|| Env::parse(data))?
}

/// Says whether the CRC fits another size, or another form.
fn damaged(area: &Area, copy: &[u8], head: usize) -> WorldError {
    let size = copy.len();
    let smaller = (1..=size / SIZE_STEP).map(|count| count * SIZE_STEP);
    let fits = |head| {
        smaller
            .clone()
            .find(|len| env_of(&copy[..*len], head).is_some())
    };
    let what = match (fits(head), fits(9 - head)) {
        (Some(len), _) => {
            format!("have a checksum over {len:#x} bytes, expected one over {size:#x}")
        }
        (None, Some(_)) if head == 4 => "are one of two copies, expected the only one".to_owned(),
        (None, Some(_)) => "are an only copy, expected one of two".to_owned(),
        (None, None) => format!("have no checksum that fits {size:#x} bytes"),
    };
    WorldError::malformed(&area.path, what)
}

/// Reads `fw_env.config`: device, offset (as C reads it: `0x…`, `0…` or decimal), size (always
/// hexadecimal); what else stands there is about flash chips.
fn areas_of(text: &str) -> Result<Vec<Area>, String> {
    let mut areas = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_ascii_whitespace();
        let Some(path) = words.next().filter(|word| !word.starts_with('#')) else {
            continue;
        };
        let fail = |what: &str| format!("have a line {} without {what}", index + 1);
        if path.starts_with("/dev/mtd") || path.starts_with("/dev/ubi") {
            return Err(format!(
                "name \"{path}\", expected a block device or a file"
            ));
        }
        let offset = words
            .next()
            .and_then(offset_of)
            .ok_or_else(|| fail("an offset"))?;
        let size = words
            .next()
            .and_then(size_of)
            .ok_or_else(|| fail("a fitting size"))?;
        areas.push(Area {
            path: PathBuf::from(path),
            offset,
            size,
        });
    }
    let fault = match &areas[..] {
        [first, second] if first.size != second.size => Some(format!(
            "name copies of {:#x} and {:#x} bytes",
            first.size, second.size
        )),
        [first, second] if overlap(first, second) => Some("name copies that overlap".to_owned()),
        [_] | [_, _] => None,
        _ => Some(format!("name {} copies, expected one or two", areas.len())),
    };
    fault.map_or(Ok(areas), Err)
}

fn overlap(first: &Area, second: &Area) -> bool {
    let distance = first.offset.abs_diff(second.offset);
    let same_end = (first.offset < 0) == (second.offset < 0);
    first.path == second.path && same_end && distance < first.size
}

fn offset_of(word: &str) -> Option<i64> {
    let (sign, digits) = match word.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, word),
    };
    let value = match digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        Some(hex) => i64::from_str_radix(hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => i64::from_str_radix(digits, 8),
        None => digits.parse(),
    };
    value.ok()?.checked_mul(sign)
}

fn size_of(word: &str) -> Option<u64> {
    let digits = word
        .strip_prefix("0x")
        .or_else(|| word.strip_prefix("0X"))
        .unwrap_or(word);
    let size = u64::from_str_radix(digits, 16).ok()?;
    COPY_LEN.contains(&size).then_some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fwup_214_flags_are_unsigned_and_wrap() {
        for (newer, older) in [(1, 0), (128, 127), (129, 128), (255, 254), (0, 255)] {
            assert!(is_newer(newer, older), "{newer} after {older}");
            assert!(!is_newer(older, newer), "{older} after {newer}");
        }
        assert!(!is_newer(7, 7), "the first of two equal copies counts");
    }

    #[test]
    fn fw_env_config_is_read_as_its_own_tools_read_it() {
        let text = "# comment\n/dev/mmcblk0 -0x8000 4000\n\n/dev/mmcblk0 0x1000 0x4000 200 1\n";
        let areas = areas_of(text).expect("two copies");
        assert_eq!(
            areas[0],
            Area {
                path: "/dev/mmcblk0".into(),
                offset: -0x8000,
                size: 0x4000
            }
        );
        assert_eq!(areas[1].offset, 0x1000);
        assert_eq!(offset_of("010"), Some(8));
        assert_eq!(offset_of("4096"), Some(4096));
    }

    #[test]
    fn a_config_that_cannot_be_meant_is_refused() {
        for text in [
            "",
            "/dev/mmcblk0 0x0",
            "/dev/mmcblk0 zero 0x4000",
            "/dev/mmcblk0 0x0 0x0",
            "/dev/mmcblk0 0x0 0x4000\n/dev/mmcblk0 0x4000 0x8000",
            "/dev/mmcblk0 0x0 0x4000\n/dev/mmcblk0 0x2000 0x4000",
            "/dev/mtd1 0x0 0x4000 0x4000",
            "/a 0 4000\n/b 0 4000\n/c 0 4000",
        ] {
            assert!(areas_of(text).is_err(), "{text}");
        }
    }
}
