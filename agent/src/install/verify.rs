//! Reads a slot back from the medium: the only way to a [`VerifiedImage`].

use std::io;

use ampoule_protocol::digest::{Digest, Hasher};
use ampoule_protocol::name::ComponentName;

use super::{InstallError, Place};
use crate::machine::{Part, Slot};
use crate::ports::{Access, Storage, StoredFile};

/// Bytes read at once.
const PIECE_LEN: usize = 256 << 10;

/// A slot that was read back in this process and holds what was signed.
///
/// Never stored: after a restart, bytes are bytes again.
#[derive(Debug)]
pub struct VerifiedImage {
    component: ComponentName,
    slot: Slot,
    sha256: Digest,
}

impl VerifiedImage {
    /// The component.
    pub fn component(&self) -> &ComponentName {
        &self.component
    }

    /// The slot.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// The digest that was found.
    pub fn sha256(&self) -> Digest {
        self.sha256
    }
}

/// Reads the part's slot back.
///
/// # Errors
/// A slot that cannot be read, or holds something else.
pub fn verify(
    storage: &dyn Storage,
    place: &Place,
    part: &Part,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifiedImage, InstallError> {
    let artifact = &part.artifact;
    read_back(
        storage,
        place,
        part.slot,
        artifact.length,
        artifact.sha256,
        progress,
    )
}

/// Reads `length` bytes of a slot back, and believes them where they have this digest.
pub(crate) fn read_back(
    storage: &dyn Storage,
    place: &Place,
    slot: Slot,
    length: u64,
    wanted: Digest,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<VerifiedImage, InstallError> {
    let path = place.slot_path(slot);
    let io = |source| InstallError::Io {
        act: "read back",
        path: path.to_owned(),
        source,
    };
    let mut file = storage.open(path, Access::Write).map_err(io)?;
    file.sync().map_err(io)?;
    file.forget_cached().map_err(io)?;
    drop(file);
    let file = storage.open_medium(path).map_err(io)?;
    let found = digest_of(file.as_ref(), length, &mut |done| progress(done, length)).map_err(io)?;
    if found != wanted {
        let component = place.component.as_str();
        return Err(InstallError::read_back(component, slot, &found, &wanted));
    }
    Ok(VerifiedImage {
        component: place.component.clone(),
        slot,
        sha256: found,
    })
}

/// The digest of the first `length` bytes.
///
/// # Errors
/// As the storage says; `UnexpectedEof` where there are fewer.
pub fn digest_of(
    file: &dyn StoredFile,
    length: u64,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    let mut piece = vec![0; PIECE_LEN];
    let mut offset = 0;
    while offset < length {
        let rest = usize::try_from(length - offset)
            .unwrap_or(PIECE_LEN)
            .min(PIECE_LEN);
        file.read_exact_at(&mut piece[..rest], offset)?;
        hasher.update(&piece[..rest]);
        offset += rest as u64;
        progress(offset);
    }
    Ok(hasher.finish())
}
