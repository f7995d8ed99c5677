//! The update module that rewrites one image in its place, for a component without a second slot.
//!
//! The program is `ampoule-in-place`; the agent runs it like any other update module. Its payload
//! holds patches in place by pairs (`ampoule-delta pairs` makes it): `N.forward` turns one base into
//! the new image, and `N.back` turns it back.
//!
//! ```text
//!   ArtifactInstall    which base is it? ─► both patches read whole ─► note the pair ─► forward
//!   ArtifactRollback   (forward to its end, where it was cut) ─► back
//! ```
//!
//! Invariants:
//! - Nothing is written before the image is known, to its last byte, as the base of a pair whose
//!   patches were both read whole and fit the memory and scratch of this device.
//! - From whatever a cut leaves behind, a whole image is reached without the network: the journal of
//!   a patch tells how far it is, and only an image half forward has to go forward first.
//! - Which pair it is, is durable before the first write; that and the journals are removed only
//!   while the image is whole.
//!
//! Gap: while it is rewritten the component is neither old nor new. It must be nothing that the
//! device needs to boot its agent.

mod error;
mod medium;
mod pair;

use std::path::{Path, PathBuf};

pub use error::InPlaceError;

use crate::ports::{Kind, Storage, replace};
use pair::{Direction, Pair};

/// Links that are followed to the image at most, as under `/dev/disk/by-partlabel`.
const LINKS_MAX: usize = 8;
/// Names the pair within the state folder.
const PAIR_FILE: &str = "pair";

/// What the device gives to one component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InPlaceConfig {
    /// The image: a block device, or a file.
    pub image: PathBuf,
    /// A folder of its own for journals and scratch, on a disk that survives restarts.
    pub state: PathBuf,
    /// Memory that a patch may take, in bytes.
    pub memory_max: u64,
    /// Scratch that a patch may take, in bytes.
    pub scratch_max: u64,
    /// Whether the device restarts to take the image up.
    pub restart: bool,
}

/// One call of the module.
pub struct InPlace<'a> {
    /// Files and devices.
    pub storage: &'a dyn Storage,
    /// The component.
    pub config: &'a InPlaceConfig,
    /// The work folder; the payload stands in its `files/`.
    pub work: &'a Path,
}

impl InPlace<'_> {
    /// Runs a state of the Update Modules v3 protocol; what is to be printed, where it is a question.
    ///
    /// # Errors
    /// See [`InPlaceError`]. A state that is not of this module does nothing, as the protocol asks.
    pub fn call(&self, state: &str) -> Result<Option<&'static str>, InPlaceError> {
        match state {
            "SupportsRollback" => Ok(Some("Yes")),
            "NeedsArtifactReboot" if self.config.restart => Ok(Some("Automatic")),
            "NeedsArtifactReboot" | "ProvidePayloadFileSizes" => Ok(Some("No")),
            "ArtifactInstall" => self.install().map(|()| None),
            "ArtifactVerifyReboot" | "ArtifactCommit" => self.must_be_new().map(|()| None),
            "ArtifactRollback" => self.roll_back().map(|()| None),
            "Cleanup" => self.clean_up().map(|()| None),
            _ => Ok(None),
        }
    }

    fn install(&self) -> Result<(), InPlaceError> {
        let pairs = pair::all(self.storage, &self.work.join("files"))?;
        let index = match self.base_of(&pairs)? {
            Some(index) => index,
            // What an update of this payload left half, whose way back failed.
            None if self.noted()?.is_some() => {
                self.roll_back()?;
                self.base_of(&pairs)?.ok_or_else(|| self.no_base(&pairs))?
            }
            None => return Err(self.no_base(&pairs)),
        };
        let pair = &pairs[index];
        for direction in [Direction::Forward, Direction::Back] {
            pair.check(self.storage, direction, self.config)?;
        }
        self.note(index)?;
        self.apply(pair, Direction::Forward)
    }

    fn roll_back(&self) -> Result<(), InPlaceError> {
        let Some(index) = self.noted()? else {
            // Nothing was begun.
            return Ok(());
        };
        let pair = Pair::open(self.storage, &self.work.join("files"), index)?
            .ok_or(InPlaceError::PairMissing(index))?;
        if self.is(&pair, Direction::Back)? {
            // A cut may have left behind it what only the new image had.
            let len = pair.header(Direction::Back).new_len;
            return medium::end_at(self.storage, &self.image()?, len);
        }
        match self.apply(&pair, Direction::Back) {
            // Not begun, and the image is not what it begins from: the way forward was cut.
            Err(InPlaceError::Patch {
                source: ampoule_delta::PatchError::WrongBase,
                ..
            }) => {
                self.apply(&pair, Direction::Forward)?;
                self.apply(&pair, Direction::Back)
            }
            other => other,
        }
    }

    fn must_be_new(&self) -> Result<(), InPlaceError> {
        let index = self.noted()?.ok_or(InPlaceError::NotNew)?;
        let pair = Pair::open(self.storage, &self.work.join("files"), index)?
            .ok_or(InPlaceError::PairMissing(index))?;
        if self.is(&pair, Direction::Forward)? {
            Ok(())
        } else {
            Err(InPlaceError::NotNew)
        }
    }

    /// Removes journals and scratch, unless somebody needs them still.
    fn clean_up(&self) -> Result<(), InPlaceError> {
        if let Some(index) = self.noted()?
            && let Some(pair) = Pair::open(self.storage, &self.work.join("files"), index)?
            && !self.is(&pair, Direction::Forward)?
            && !self.is(&pair, Direction::Back)?
        {
            return Err(InPlaceError::Half);
        }
        self.forget()
    }

    /// The pair whose base the image is.
    fn base_of(&self, pairs: &[Pair]) -> Result<Option<usize>, InPlaceError> {
        for (index, pair) in pairs.iter().enumerate() {
            if self.is(pair, Direction::Back)? {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    fn no_base(&self, pairs: &[Pair]) -> InPlaceError {
        InPlaceError::NoBase {
            image: self.config.image.clone(),
            pairs: pairs.len(),
        }
    }

    /// Whether the image is what a patch of the pair leads to.
    fn is(&self, pair: &Pair, direction: Direction) -> Result<bool, InPlaceError> {
        let image = &self.config.image;
        let header = pair.header(direction);
        medium::is_image(self.storage, image, header.new_len, &header.new_digest)
            .map_err(InPlaceError::io("read", image))
    }

    fn apply(&self, pair: &Pair, direction: Direction) -> Result<(), InPlaceError> {
        let (image, state) = (self.image()?, &self.config.state);
        medium::apply(
            self.storage,
            &medium::Task {
                patch: pair.file(direction),
                image: &image,
                journal: &state.join(format!("{}.journal", direction.as_str())),
                scratch: &state.join(format!("{}.scratch", direction.as_str())),
                scratch_len: pair.scratch_len(direction),
                memory_max: self.config.memory_max,
            },
        )
    }

    /// The image behind all links, and whether it may grow: a file may.
    fn image(&self) -> Result<(PathBuf, bool), InPlaceError> {
        let mut path = self.config.image.clone();
        for _ in 0..LINKS_MAX {
            let kind = self.storage.kind(&path);
            match kind.map_err(InPlaceError::io("look at", &path))? {
                Some(Kind::Link) => {
                    let target = self.storage.read_link(&path);
                    let target = target.map_err(InPlaceError::io("follow", &path))?;
                    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
                    path = folder.join(target.unwrap_or_default());
                }
                Some(Kind::File) => return Ok((path, true)),
                Some(Kind::Device) => return Ok((path, false)),
                Some(Kind::Folder) | None => break,
            }
        }
        Err(InPlaceError::NoImage(self.config.image.clone()))
    }

    fn noted(&self) -> Result<Option<usize>, InPlaceError> {
        let path = self.config.state.join(PAIR_FILE);
        let found = self.storage.read(&path, 16);
        let found = found.map_err(InPlaceError::io("read", &path))?;
        let number = |bytes: Vec<u8>| std::str::from_utf8(&bytes).ok()?.parse().ok();
        match found {
            None => Ok(None),
            Some(bytes) => number(bytes).map(Some).ok_or(InPlaceError::Note(path)),
        }
    }

    /// Begins with a folder that knows this pair and nothing else.
    fn note(&self, index: usize) -> Result<(), InPlaceError> {
        self.forget()?;
        let state = &self.config.state;
        let made = self.storage.create_dir(state).and_then(|()| {
            self.storage.sync_dir(above(state))?;
            replace(
                self.storage,
                &state.join(PAIR_FILE),
                index.to_string().as_bytes(),
            )
        });
        made.map_err(InPlaceError::io("write", state))
    }

    /// The note goes first: without it the rest means nothing.
    fn forget(&self) -> Result<(), InPlaceError> {
        let state = &self.config.state;
        let removed = self.storage.kind(state).and_then(|kind| {
            if kind.is_none() {
                return Ok(());
            }
            self.storage.remove(&state.join(PAIR_FILE))?;
            self.storage.sync_dir(state)?;
            self.storage.remove(state)?;
            self.storage.sync_dir(above(state))
        });
        removed.map_err(InPlaceError::io("clear", state))
    }
}

fn above(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
