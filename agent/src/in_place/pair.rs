//! The patches of a payload, by pairs.

use std::path::{Path, PathBuf};

use ampoule_delta::{
    Accept, Caps, HEADER_LEN_MAX, Header, IN_PLACE_HEADER_LEN_MAX, InPlaceHeader, check_in_place,
    in_place_header, in_place_patch_header,
};

use super::medium::Stored;
use super::{InPlaceConfig, InPlaceError};
use crate::ports::{Access, Storage};

/// Bases of one payload. Each costs a look at the whole image.
const PAIRS_MAX: usize = 16;

/// Which way a patch leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From a base to the new image.
    Forward,
    /// From the new image to that base.
    Back,
}

impl Direction {
    /// The ending of its patch, and the beginning of its files.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Back => "back",
        }
    }
}

/// One patch, as far as its first bytes tell.
struct Patch {
    path: PathBuf,
    header: Header,
    in_place: InPlaceHeader,
}

/// The way from one base to the new image, and back.
pub(super) struct Pair {
    forward: Patch,
    back: Patch,
}

/// All pairs of a payload, which lead to one image.
pub(super) fn all(storage: &dyn Storage, files: &Path) -> Result<Vec<Pair>, InPlaceError> {
    let mut pairs: Vec<Pair> = Vec::new();
    while let Some(pair) = Pair::open(storage, files, pairs.len())? {
        if pairs.len() == PAIRS_MAX {
            return Err(InPlaceError::Payload(format!(
                "has more than {PAIRS_MAX} pairs"
            )));
        }
        let leads_elsewhere =
            |first: &Pair| first.forward.header.new_digest != pair.forward.header.new_digest;
        if pairs.first().is_some_and(leads_elsewhere) {
            let what = format!("leads to two images, by 0 and by {}", pairs.len());
            return Err(InPlaceError::Payload(what));
        }
        pairs.push(pair);
    }
    if pairs.is_empty() {
        return Err(InPlaceError::Payload("has no \"0.forward\"".to_owned()));
    }
    Ok(pairs)
}

impl Pair {
    /// The pair of this number; `None` where the payload has none.
    pub(super) fn open(
        storage: &dyn Storage,
        files: &Path,
        number: usize,
    ) -> Result<Option<Self>, InPlaceError> {
        let patch = |direction: Direction| {
            Patch::open(
                storage,
                files.join(format!("{number}.{}", direction.as_str())),
            )
        };
        let Some(forward) = patch(Direction::Forward)? else {
            return Ok(None);
        };
        let Some(back) = patch(Direction::Back)? else {
            return Err(InPlaceError::Payload(format!(
                "has \"{number}.forward\" and no way back"
            )));
        };
        let there = |patch: &Patch| (patch.header.old_len, patch.in_place.old_digest);
        let here = |patch: &Patch| (patch.header.new_len, patch.header.new_digest);
        if there(&forward) != here(&back) || there(&back) != here(&forward) {
            return Err(InPlaceError::Payload(format!(
                "has \"{number}.back\", which does not lead back"
            )));
        }
        Ok(Some(Self { forward, back }))
    }

    const fn patch(&self, direction: Direction) -> &Patch {
        match direction {
            Direction::Forward => &self.forward,
            Direction::Back => &self.back,
        }
    }

    pub(super) fn file(&self, direction: Direction) -> &Path {
        &self.patch(direction).path
    }

    pub(super) const fn header(&self, direction: Direction) -> &Header {
        &self.patch(direction).header
    }

    pub(super) const fn scratch_len(&self, direction: Direction) -> u64 {
        self.patch(direction).in_place.scratch_len
    }

    /// Reads the whole patch; whether this device can take it.
    pub(super) fn check(
        &self,
        storage: &dyn Storage,
        direction: Direction,
        config: &InPlaceConfig,
    ) -> Result<(), InPlaceError> {
        let path = self.file(direction);
        let needed = self.scratch_len(direction);
        if needed > config.scratch_max {
            return Err(InPlaceError::Scratch {
                patch: path.to_owned(),
                needed,
                max: config.scratch_max,
            });
        }
        let file = storage.open(path, Access::Read);
        let mut file = Stored::of(file.map_err(InPlaceError::io("open", path))?);
        let checked = check_in_place(&mut file, &accept(config.memory_max));
        checked.map(|_| ()).map_err(InPlaceError::patch(path))
    }
}

/// What the device takes.
pub(super) fn accept(memory_max: u64) -> Accept {
    Accept {
        memory_max,
        caps: Caps::all(),
        ..Accept::default()
    }
}

impl Patch {
    fn open(storage: &dyn Storage, path: PathBuf) -> Result<Option<Self>, InPlaceError> {
        let file = match storage.open(&path, Access::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(InPlaceError::io("open", &path)(error)),
        };
        let mut first = vec![0; IN_PLACE_HEADER_LEN_MAX + HEADER_LEN_MAX];
        let mut len = 0;
        while len < first.len() {
            let read = file.read_at(&mut first[len..], len as u64);
            match read.map_err(InPlaceError::io("read", &path))? {
                0 => break,
                count => len += count,
            }
        }
        let first = &first[..len];
        let in_place = in_place_header(first).map_err(InPlaceError::patch(&path))?;
        let Some(in_place) = in_place else {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let what = format!("has \"{name}\", which is no patch in place");
            return Err(InPlaceError::Payload(what));
        };
        let header = in_place_patch_header(first).map_err(InPlaceError::patch(&path))?;
        Ok(Some(Self {
            path,
            header,
            in_place,
        }))
    }
}
