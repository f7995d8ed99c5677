//! The refresh of the four top-level roles.

use alloc::vec::Vec;

use super::{Answer, LocalName, Step, Trusted, Wanted};
use crate::limits::{Lengths, ROOT_STEPS_MAX};
use crate::metadata::MetaFile;
use crate::name::RoleName;
use crate::paths;
use crate::trust::{
    Adopted, AtSnapshot, AtTargets, AtTimestamp, Complete, LocalSnapshot, Rotating, TrustError,
    TrustedSet, UpdateStart,
};

/// A refresh under way.
pub struct Refresh {
    start: UpdateStart,
    lengths: Lengths,
    source: Source,
    place: Place,
}

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A repository: its timestamp says what is newest.
    Repository,
    /// A bundle: its own statement does, and the timestamp is neither asked for nor stored.
    Bundle,
}

/// Where the refresh is; each place is one question, or the bytes to be stored before the next.
enum Place {
    NextRoot {
        set: TrustedSet<Rotating>,
        steps: u32,
    },
    StoreRoot {
        set: TrustedSet<Rotating>,
        steps: u32,
        bytes: Vec<u8>,
    },
    LocalTimestamp(TrustedSet<AtTimestamp>),
    Timestamp(TrustedSet<AtTimestamp>),
    /// The timestamp, or the bundle's statement.
    StoreNewest {
        name: LocalName,
        set: TrustedSet<AtSnapshot>,
        bytes: Vec<u8>,
    },
    LocalSnapshot(TrustedSet<AtSnapshot>),
    Snapshot(TrustedSet<AtSnapshot>),
    StoreSnapshot {
        set: TrustedSet<AtTargets>,
        bytes: Vec<u8>,
    },
    LocalTargets(TrustedSet<AtTargets>),
    Targets(TrustedSet<AtTargets>),
    StoreTargets {
        set: TrustedSet<Complete>,
        bytes: Vec<u8>,
    },
    Done(TrustedSet<Complete>),
    Over,
}

impl Refresh {
    /// Begins with the root that is trusted already, at a fixed time.
    ///
    /// # Errors
    /// A root that its own keys did not sign.
    pub fn begin(root: &[u8], start: UpdateStart, lengths: Lengths) -> Result<Self, TrustError> {
        Self::begin_from(Source::Repository, root, start, lengths)
    }

    /// As [`Refresh::begin`], with what `source` offers.
    ///
    /// # Errors
    /// A root that its own keys did not sign.
    pub fn begin_from(
        source: Source,
        root: &[u8],
        start: UpdateStart,
        lengths: Lengths,
    ) -> Result<Self, TrustError> {
        let place = Place::NextRoot {
            set: TrustedSet::begin(root)?,
            steps: 0,
        };
        Ok(Self {
            start,
            lengths,
            source,
            place,
        })
    }

    /// What is needed next.
    ///
    /// # Errors
    /// A file that the trusted metadata does not name though it must.
    pub fn step(&self) -> Result<Step, TrustError> {
        let fetch = |file, max_len| Ok(Step::Fetch(Wanted { file, max_len }));
        match &self.place {
            Place::NextRoot { set, .. } => match set.next_version() {
                Some(version) => fetch(paths::root_file(version), self.lengths.root),
                None => Err(TrustError::TooManyRoots),
            },
            Place::StoreRoot { set, bytes, .. } => {
                let name = LocalName::Root(set.root().common.version);
                Ok(Step::Store(name, bytes.clone()))
            }
            Place::LocalTimestamp(_) => Ok(Step::Load(LocalName::Timestamp)),
            Place::Timestamp(_) => match self.source {
                Source::Repository => fetch(paths::TIMESTAMP_FILE.into(), self.lengths.timestamp),
                Source::Bundle => fetch(paths::BUNDLE_FILE.into(), self.lengths.bundle),
            },
            Place::StoreNewest { name, bytes, .. } => Ok(Step::Store(name.clone(), bytes.clone())),
            Place::LocalSnapshot(_) => Ok(Step::Load(LocalName::Snapshot)),
            Place::Snapshot(set) => {
                let file = paths::snapshot_file(set.file_version(set.wanted().version));
                fetch(file, at_most(set.wanted(), self.lengths.snapshot))
            }
            Place::StoreSnapshot { bytes, .. } => {
                Ok(Step::Store(LocalName::Snapshot, bytes.clone()))
            }
            Place::LocalTargets(_) => Ok(Step::Load(LocalName::Targets(RoleName::targets()))),
            Place::Targets(set) => {
                let wanted = set.wanted()?;
                let version = set.file_version(wanted.version);
                let file = paths::role_file(&RoleName::targets(), version);
                fetch(file, at_most(wanted, self.lengths.targets))
            }
            Place::StoreTargets { bytes, .. } => Ok(Step::Store(
                LocalName::Targets(RoleName::targets()),
                bytes.clone(),
            )),
            Place::Done(_) => Ok(Step::Done),
            Place::Over => Err(TrustError::OutOfTurn),
        }
    }

    /// Takes the answer to the last [`Refresh::step`].
    ///
    /// # Errors
    /// Whatever is not believed; the refresh is over then, and what was stored stays trusted.
    pub fn answer(&mut self, answer: Answer<'_>) -> Result<(), TrustError> {
        let place = core::mem::replace(&mut self.place, Place::Over);
        self.place = self.after(place, answer)?;
        Ok(())
    }

    fn after(&self, place: Place, answer: Answer<'_>) -> Result<Place, TrustError> {
        match (place, answer) {
            (
                Place::NextRoot {
                    steps: ROOT_STEPS_MAX,
                    ..
                },
                Answer::Bytes(_),
            ) => Err(TrustError::TooManyRoots),
            (Place::NextRoot { set, steps }, Answer::Bytes(bytes)) => {
                let set = set.rotate(bytes)?;
                Ok(Place::StoreRoot {
                    set,
                    steps: steps + 1,
                    bytes: bytes.to_vec(),
                })
            }
            (Place::NextRoot { set, .. }, Answer::NotFound) => {
                Ok(Place::LocalTimestamp(set.finish_root(self.start)?))
            }
            (Place::StoreRoot { set, steps, .. }, Answer::Stored) => {
                Ok(Place::NextRoot { set, steps })
            }
            (Place::LocalTimestamp(mut set), Answer::Bytes(bytes)) => {
                // What was stored and is not believed any more is no floor; see `finish_root`.
                let _ = set.local_timestamp(bytes);
                Ok(Place::Timestamp(set))
            }
            (Place::LocalTimestamp(set), Answer::NotFound) => Ok(Place::Timestamp(set)),
            (Place::Timestamp(set), Answer::Bytes(bytes)) if self.source == Source::Bundle => {
                Ok(Place::StoreNewest {
                    name: LocalName::Bundle,
                    set: set.bundle(bytes)?,
                    bytes: bytes.to_vec(),
                })
            }
            (Place::Timestamp(set), Answer::Bytes(bytes)) => match set.timestamp(bytes)? {
                (set, Adopted::New) => Ok(Place::StoreNewest {
                    name: LocalName::Timestamp,
                    set,
                    bytes: bytes.to_vec(),
                }),
                (set, Adopted::Kept) => Ok(Place::LocalSnapshot(set)),
            },
            (Place::StoreNewest { set, .. }, Answer::Stored) => Ok(Place::LocalSnapshot(set)),
            (Place::LocalSnapshot(set), Answer::Bytes(bytes)) => match set.local_snapshot(bytes) {
                LocalSnapshot::Current(set) => Ok(Place::LocalTargets(set)),
                LocalSnapshot::Older(set) => Ok(Place::Snapshot(set)),
            },
            (Place::LocalSnapshot(set), Answer::NotFound) => Ok(Place::Snapshot(set)),
            (Place::Snapshot(set), Answer::Bytes(bytes)) => Ok(Place::StoreSnapshot {
                set: set.snapshot(bytes)?,
                bytes: bytes.to_vec(),
            }),
            (Place::StoreSnapshot { set, .. }, Answer::Stored) => Ok(Place::LocalTargets(set)),
            (Place::LocalTargets(set), Answer::Bytes(bytes)) => match set.check_targets(bytes) {
                Ok(targets) => Ok(Place::Done(set.targets(targets))),
                Err(_) => Ok(Place::Targets(set)),
            },
            (Place::LocalTargets(set), Answer::NotFound) => Ok(Place::Targets(set)),
            (Place::Targets(set), Answer::Bytes(bytes)) => {
                let targets = set.check_targets(bytes)?;
                Ok(Place::StoreTargets {
                    set: set.targets(targets),
                    bytes: bytes.to_vec(),
                })
            }
            (Place::StoreTargets { set, .. }, Answer::Stored) => Ok(Place::Done(set)),
            (place @ (Place::Timestamp(_) | Place::Snapshot(_) | Place::Targets(_)), _) => {
                Err(missing(&place, self.source))
            }
            (_, _) => Err(TrustError::OutOfTurn),
        }
    }

    /// The trusted metadata; `None` before [`Step::Done`].
    pub fn finish(self) -> Option<Trusted> {
        match self.place {
            Place::Done(set) => Some(Trusted {
                set,
                lengths: self.lengths,
            }),
            _ => None,
        }
    }
}

fn missing(place: &Place, source: Source) -> TrustError {
    let file = match place {
        Place::Timestamp(_) if source == Source::Bundle => paths::BUNDLE_FILE,
        Place::Timestamp(_) => paths::TIMESTAMP_FILE,
        Place::Snapshot(_) => "snapshot.json",
        _ => "targets.json",
    };
    TrustError::Missing { file: file.into() }
}

/// The signed length where there is one, never more than `limit`.
pub(super) fn at_most(meta: &MetaFile, limit: u64) -> u64 {
    meta.length.map_or(limit, |length| length.min(limit))
}
