//! Where a log lies in a folder (C2SP `tlog-tiles`), and how its hashes are read from there.
//!
//! ```text
//!   checkpoint                the newest signed size and root
//!   tile/<level>/<n>          256 hashes; a hash of level 1 covers a tile of level 0, and so on
//!   tile/<level>/<n>.p/<w>    the first <w> hashes of a tile that is not full yet
//!   tile/entries/<n>[.p/<w>]  the entries below a tile of level 0, each after its 2-byte length
//! ```
//!
//! Any static file server can serve the folder as it is.

use std::collections::BTreeMap;
use std::io;

use super::AuditError;
use super::medium::Medium;
use super::merkle::{self, Hash, Subtrees};

/// Hashes of a full tile.
pub const WIDTH: u64 = 256;
/// Levels that a log can have: 256^8 entries are 2^64.
pub const LEVELS_MAX: u32 = 8;
/// Bytes of an entry; its length is written in two bytes.
pub const ENTRY_LEN_MAX: usize = u16::MAX as usize;
/// Bytes of a bundle of entries.
const BUNDLE_LEN_MAX: usize = 256 * (2 + ENTRY_LEN_MAX);
/// Tiles that are kept for making proofs.
const KEPT_MAX: usize = 64;

/// The file of the newest checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

/// What a tile holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Hashes of this level.
    Level(u32),
    /// Entries.
    Entries,
}

/// The path of a tile; `width` is 1 to 256.
pub fn path(kind: Kind, number: u64, width: u64) -> String {
    let folder = match kind {
        Kind::Level(level) => format!("tile/{level}"),
        Kind::Entries => "tile/entries".to_owned(),
    };
    let mut parts = vec![format!("{:03}", number % 1000)];
    let mut rest = number / 1000;
    while rest > 0 {
        parts.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    parts.reverse();
    let full = format!("{folder}/{}", parts.join("/"));
    if width == WIDTH {
        full
    } else {
        format!("{full}.p/{width}")
    }
}

/// Hashes that a log of `size` entries has at `level`.
pub fn count(level: u32, size: u64) -> u64 {
    size.checked_shr(8 * level).unwrap_or(0)
}

/// How wide tile `number` of `level` is in a log of `size` entries; 0 where there is none.
pub fn width(level: u32, number: u64, size: u64) -> u64 {
    let before = number.saturating_mul(WIDTH);
    count(level, size).saturating_sub(before).min(WIDTH)
}

/// Takes hashes apart.
fn hashes(bytes: &[u8]) -> Vec<Hash> {
    let (hashes, _) = bytes.as_chunks::<32>();
    hashes.to_vec()
}

/// Takes a bundle apart: the entries that are whole, and whether bytes are left over.
pub fn entries(bundle: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while let Some((len, after)) = rest.split_first_chunk::<2>() {
        let len = usize::from(u16::from_be_bytes(*len));
        let Some((entry, after)) = after.split_at_checked(len) else {
            break;
        };
        entries.push(entry);
        rest = after;
    }
    (entries, !rest.is_empty())
}

/// Adds an entry to a bundle.
///
/// # Panics
/// Where the entry is longer than [`ENTRY_LEN_MAX`].
pub fn bundle(into: &mut Vec<u8>, entry: &[u8]) {
    let len = u16::try_from(entry.len()).expect("entries are bounded before they come here");
    into.extend(len.to_be_bytes());
    into.extend(entry);
}

/// The tiles of a log of one size.
pub struct Tiles<'a> {
    medium: &'a dyn Medium,
    size: u64,
    kept: BTreeMap<(u32, u64), Vec<Hash>>,
}

impl<'a> Tiles<'a> {
    /// Of a log of `size` entries.
    pub fn new(medium: &'a dyn Medium, size: u64) -> Self {
        Self {
            medium,
            size,
            kept: BTreeMap::new(),
        }
    }

    /// Entries of the log.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The hashes of tile `number` of `level`, as many as it should have; `None` where the file is
    /// missing or of another length.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn level(&self, level: u32, number: u64) -> Result<Option<Vec<Hash>>, AuditError> {
        let width = width(level, number, self.size);
        let len = usize::try_from(width * 32).unwrap_or(usize::MAX);
        let bytes = self.read(Kind::Level(level), number, width, len)?;
        Ok(bytes
            .filter(|bytes| bytes.len() == len)
            .map(|bytes| hashes(&bytes)))
    }

    /// The bytes of a bundle; `None` where the file is missing.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bundle(&self, number: u64) -> Result<Option<Vec<u8>>, AuditError> {
        let width = width(0, number, self.size);
        self.read(Kind::Entries, number, width, BUNDLE_LEN_MAX)
    }

    /// A partial tile may be gone once the full one is there; the full one begins with it.
    fn read(
        &self,
        kind: Kind,
        number: u64,
        width: u64,
        len_max: usize,
    ) -> Result<Option<Vec<u8>>, AuditError> {
        let read = |path: &str, len_max| {
            let failed = |source| AuditError::File {
                act: "read",
                path: path.to_owned(),
                source,
            };
            match self.medium.read(path, len_max) {
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(Some(Vec::new())),
                other => other.map_err(failed),
            }
        };
        let found = read(&path(kind, number, width), len_max)?;
        if found.is_some() || width == WIDTH {
            return Ok(found);
        }
        let full = read(&path(kind, number, WIDTH), BUNDLE_LEN_MAX)?;
        Ok(full.map(|mut bytes| {
            let len = match kind {
                Kind::Level(_) => len_max,
                Kind::Entries => {
                    let kept = entries(&bytes).0;
                    let kept = kept.iter().take(usize::try_from(width).unwrap_or(0));
                    kept.map(|entry| entry.len() + 2).sum()
                }
            };
            bytes.truncate(len);
            bytes
        }))
    }

    fn hash(&mut self, level: u32, index: u64) -> Result<Hash, AuditError> {
        let (number, place) = (index / WIDTH, index % WIDTH);
        if !self.kept.contains_key(&(level, number)) {
            let tile = self.level(level, number)?;
            let tile = tile.ok_or_else(|| {
                let width = width(level, number, self.size);
                AuditError::Missing(path(Kind::Level(level), number, width))
            })?;
            if self.kept.len() >= KEPT_MAX {
                self.kept.pop_first();
            }
            self.kept.insert((level, number), tile);
        }
        let tile = self.kept.get(&(level, number));
        let place = usize::try_from(place).unwrap_or(usize::MAX);
        let hash = tile.and_then(|tile| tile.get(place));
        hash.copied()
            .ok_or_else(|| AuditError::Missing(path(Kind::Level(level), number, WIDTH)))
    }
}

impl Subtrees for Tiles<'_> {
    type Error = AuditError;

    fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, AuditError> {
        let (level, above) = (height / 8, height % 8);
        let first = index << above;
        let hashes: Result<Vec<Hash>, AuditError> = (first..first + (1 << above))
            .map(|index| self.hash(level, index))
            .collect();
        Ok(merkle::over(&hashes?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the specification.
    #[test]
    fn paths_and_widths_are_those_of_the_specification() {
        let long = path(Kind::Level(0), 1_234_067, WIDTH);
        assert_eq!(long, "tile/0/x001/x234/067");
        assert_eq!(path(Kind::Entries, 0, 5), "tile/entries/000.p/5");
        let widths = |level, number| width(level, number, 70_000);
        assert_eq!((widths(0, 272), widths(0, 273)), (256, 112));
        assert_eq!((widths(1, 0), widths(1, 1), widths(2, 0)), (256, 17, 1));
        assert_eq!((width(0, 0, 256), width(1, 0, 256)), (256, 1));
    }

    #[test]
    fn bundles_come_apart_as_they_were_made() {
        let mut bytes = Vec::new();
        bundle(&mut bytes, b"one");
        bundle(&mut bytes, b"");
        let (found, more) = entries(&bytes);
        assert_eq!((found, more), (vec![&b"one"[..], b""], false));
        bytes.push(0);
        assert!(entries(&bytes).1);
        bytes.push(1);
        assert_eq!(entries(&bytes).0.len(), 2);
    }
}
