//! Reads a whole log from its folder and says what is wrong with it, and where it begins.
//!
//! Every entry is hashed, every hash of every level compared, and the root compared with the
//! signed checkpoint and with every older checkpoint that is known. One bundle, one tile of each
//! level and one hash for each bit of the size are in memory, however long the log is.
//!
//! What shows by what:
//!
//! | done to the log | found by | the index that is named |
//! |---|---|---|
//! | an entry edited, deleted, moved | its hash in tile 0 | that entry |
//! | and the tiles of level 0 to match | the tile above | the first entry of that tile |
//! | and all tiles to match | the root of a checkpoint | the first entry after the last root that agrees |
//! | entries cut off at the end | the checkpoint's size, or an older checkpoint | the first that is missing |
//! | another history signed | an older checkpoint, or a witness | as for all tiles |

use super::AuditError;
use super::checkpoint::Checkpoint;
use super::cosigned::{self, Cosigned};
use super::entry;
use super::medium::Medium;
use super::merkle::{self, Frontier, Hash};
use super::note::{NOTE_LEN_MAX, Note, Verifier};
use super::tiles::{self, CHECKPOINT, LEVELS_MAX, Tiles, WIDTH};

/// Older checkpoints that one run compares with.
pub const CHECKPOINTS_MAX: usize = 100_000;

/// What is wrong, and the first entry that it is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Finding {
    /// The first bad index.
    pub index: u64,
    /// What was found.
    pub what: What,
}

/// Kinds of [`Finding`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum What {
    /// The entry is another one than its tile vouches for.
    #[error(
        "entry {0} is not the one that its tile has the hash of: it was edited, moved or deleted"
    )]
    Entry(u64),
    /// The entry is gone.
    #[error("entry {0} is missing, and the checkpoint says that there are {1} entries")]
    Gone(u64, u64),
    /// There is something after the last entry.
    #[error("a bundle goes on after entry {0}, where it should end")]
    More(u64),
    /// The entry says that it has another place.
    #[error("entry {0} says that it is entry {1}: entries were moved, deleted or put in")]
    Place(u64, u64),
    /// A tile is gone or of another length.
    #[error("the tile \"{path}\" is missing or cut; it vouches for entries from {first} on")]
    Tile {
        /// Its file.
        path: String,
        /// The first entry below it.
        first: u64,
    },
    /// A hash is not that of what is below it.
    #[error("hash {place} of level {level} is not that of the entries {from} to {to}")]
    Hash {
        /// The level.
        level: u32,
        /// Its place in the level.
        place: u64,
        /// The first entry below it.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The root is not that of a checkpoint.
    #[error(
        "the {size} first entries have another root than the checkpoint of that size: history \
         was rewritten between entry {after} and entry {size}"
    )]
    Root {
        /// The size of the checkpoint.
        size: u64,
        /// Entries that are proven.
        after: u64,
    },
    /// The log is shorter than it was.
    #[error("the log has {size} entries, and a checkpoint vouches for {known}: it was cut short")]
    Short {
        /// Now.
        size: u64,
        /// Then.
        known: u64,
    },
}

/// A log that hangs together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Its checkpoint.
    pub checkpoint: Checkpoint,
    /// Older checkpoints that it agrees with.
    pub agrees: usize,
    /// What each of the witnesses that were asked for has seen; not of those who have seen nothing.
    pub cosigned: Vec<Cosigned>,
}

/// What a log is held against.
#[derive(Debug, Default)]
pub struct Against {
    /// Checkpoints that were seen before.
    pub known: Vec<Checkpoint>,
    /// Witnesses who may have seen it. What they have seen is in this folder, and the log must begin
    /// with it.
    pub witnesses: Vec<Verifier>,
    /// So many of them must have; all, where nothing is said.
    pub demanded: Option<usize>,
    /// So many entries may have come since so many of them looked.
    pub unseen_max: Option<u64>,
}

impl Against {
    /// What the witnesses have seen, where it is enough of them, of enough of the log.
    fn seen(
        &self,
        medium: &dyn Medium,
        log: &Verifier,
        size: u64,
    ) -> Result<Vec<Cosigned>, AuditError> {
        let (mut seen, mut missing) = (Vec::new(), Vec::new());
        for witness in &self.witnesses {
            match cosigned::newest(medium, log, witness)? {
                Some(one) => seen.push(one),
                None => missing.push(witness.name()),
            }
        }
        let demanded = self.demanded.unwrap_or(self.witnesses.len());
        if seen.len() < demanded {
            return Err(AuditError::Witnesses {
                found: seen.len(),
                demanded,
                missing: missing.join(", "),
            });
        }
        if let Some(unseen_max) = self.unseen_max
            && let Some(last) = demanded.checked_sub(1)
        {
            let mut sizes: Vec<u64> = seen.iter().map(|one| one.checkpoint.size).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let seen = sizes[last].min(size);
            if size - seen > unseen_max {
                return Err(AuditError::Unseen {
                    seen,
                    size,
                    unseen_max,
                });
            }
        }
        Ok(seen)
    }
}

/// Reads the signed checkpoint of a folder.
///
/// # Errors
/// It is missing, or not of this log.
pub fn checkpoint(medium: &dyn Medium, log: &Verifier) -> Result<(Checkpoint, Note), AuditError> {
    let note = medium.read(CHECKPOINT, NOTE_LEN_MAX);
    let note = note.map_err(|source| AuditError::File {
        act: "read",
        path: CHECKPOINT.to_owned(),
        source,
    })?;
    let note = note.ok_or_else(|| AuditError::Missing(CHECKPOINT.to_owned()))?;
    Ok((Checkpoint::verify(&note, log)?, Note::parse(&note)?))
}

/// Verifies the whole log; `progress` is told how many entries are done.
///
/// # Errors
/// The first thing that is wrong: [`AuditError::Found`] where entries are named.
pub fn verify(
    medium: &dyn Medium,
    log: &Verifier,
    mut against: Against,
    mut progress: impl FnMut(u64, u64),
) -> Result<Verified, AuditError> {
    let (checkpoint, _) = checkpoint(medium, log)?;
    let size = checkpoint.size;
    let cosigned = against.seen(medium, log, size)?;
    let agrees = against.known.len();
    against.known.push(checkpoint.clone());
    let of_witnesses = cosigned.iter().map(|one| one.checkpoint.clone());
    against.known.extend(of_witnesses);
    against.known.sort_by_key(|known| known.size);
    let mut walk = Walk::new(Tiles::new(medium, size), against.known);
    walk.compare()?;
    for number in 0..size.div_ceil(WIDTH) {
        walk.bundle(number)?;
        progress(walk.frontier.size(), size);
    }
    if let Some(longer) = walk.known.front() {
        let what = What::Short {
            size,
            known: longer.size,
        };
        return Err(Finding { index: size, what }.into());
    }
    Ok(Verified {
        checkpoint,
        agrees,
        cosigned,
    })
}

/// Where the reading is.
struct Walk<'a> {
    tiles: Tiles<'a>,
    frontier: Frontier,
    /// Of each level: the tile as it is stored, and the hashes as they must be.
    levels: Vec<(Vec<Hash>, Vec<Hash>)>,
    /// Checkpoints that are not reached yet, by size.
    known: std::collections::VecDeque<Checkpoint>,
    /// The size of the last one that agreed.
    proven: u64,
}

impl<'a> Walk<'a> {
    fn new(tiles: Tiles<'a>, known: Vec<Checkpoint>) -> Self {
        Self {
            tiles,
            frontier: Frontier::default(),
            levels: vec![(Vec::new(), Vec::new()); LEVELS_MAX as usize],
            known: known.into(),
            proven: 0,
        }
    }

    /// Reads one bundle and what is above it.
    fn bundle(&mut self, number: u64) -> Result<(), AuditError> {
        let size = self.tiles.size();
        let first = number * WIDTH;
        let width = tiles::width(0, number, size);
        let bundle = self.tiles.bundle(number)?.unwrap_or_default();
        let (entries, more) = tiles::entries(&bundle);
        self.load(0, number)?;
        for (index, entry) in (first..first + width).zip(&entries) {
            let leaf = merkle::leaf(entry);
            self.rise(leaf, index)?;
            if let Some(says) = entry::index(entry).filter(|says| *says != index) {
                return found(index, What::Place(index, says));
            }
            self.frontier.push(leaf);
            self.compare()?;
        }
        let count = entries.len() as u64;
        if count < width {
            return found(first + count, What::Gone(first + count, size));
        }
        if more || count > width {
            return found(first + width, What::More(first + width - 1));
        }
        Ok(())
    }

    /// Compares a hash with its place in the stored tile, and what it completes above.
    fn rise(&mut self, leaf: Hash, index: u64) -> Result<(), AuditError> {
        let mut hash = leaf;
        for level in 0..LEVELS_MAX {
            let place = index >> (8 * level);
            let at = usize::try_from(place % WIDTH).unwrap_or(usize::MAX);
            if level > 0 && at == 0 {
                self.load(level, place / WIDTH)?;
            }
            let (stored, made) = &mut self.levels[level as usize];
            if stored.get(at) != Some(&hash) {
                let from = place << (8 * level);
                let what = match level {
                    0 => What::Entry(index),
                    _ => What::Hash {
                        level,
                        place,
                        from,
                        to: index,
                    },
                };
                return found(from, what);
            }
            made.push(hash);
            if made.len() as u64 != WIDTH {
                break;
            }
            hash = merkle::over(made);
            made.clear();
        }
        Ok(())
    }

    fn load(&mut self, level: u32, number: u64) -> Result<(), AuditError> {
        let Some(tile) = self.tiles.level(level, number)? else {
            let width = tiles::width(level, number, self.tiles.size());
            let path = tiles::path(tiles::Kind::Level(level), number, width);
            let first = (number * WIDTH) << (8 * level);
            return found(first, What::Tile { path, first });
        };
        self.levels[level as usize].0 = tile;
        Ok(())
    }

    /// Compares the root with each checkpoint of this size.
    fn compare(&mut self) -> Result<(), AuditError> {
        let size = self.frontier.size();
        while self.known.front().is_some_and(|known| known.size == size) {
            let known = self.known.pop_front();
            if known.is_some_and(|known| known.root != self.frontier.root()) {
                let after = self.proven;
                return found(after, What::Root { size, after });
            }
            self.proven = size;
        }
        Ok(())
    }
}

fn found<T>(index: u64, what: What) -> Result<T, AuditError> {
    Err(Finding { index, what }.into())
}

/// The first entry in which two logs differ, and `None` where the shorter is the beginning of the
/// longer: the answer to a split view. Both are verified already.
///
/// # Errors
/// A file cannot be read.
pub fn parted(one: &Tiles<'_>, other: &Tiles<'_>) -> Result<Option<u64>, AuditError> {
    let size = one.size().min(other.size());
    for number in 0..size.div_ceil(WIDTH) {
        let (one, other) = (one.level(0, number)?, other.level(0, number)?);
        let pairs = one.into_iter().flatten().zip(other.into_iter().flatten());
        let first = number * WIDTH;
        let differing = (first..size)
            .zip(pairs)
            .find(|(_, (one, other))| one != other);
        if let Some((index, _)) = differing {
            return Ok(Some(index));
        }
    }
    Ok(None)
}
