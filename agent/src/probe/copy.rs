//! Fills the other slot with the image that runs, and reads it back.

use ampoule_protocol::release::Install;

use crate::install::{InstallError, Place, VerifiedImage, digest_of, read_back};
use crate::machine::Slot;
use crate::ports::{Access, Storage};

/// Bytes copied at once.
const PIECE_LEN: usize = 256 << 10;

/// Whether the slots of a component are bytes that can be copied.
pub(super) const fn can_be_copied(place: &Place) -> bool {
    matches!(place.install, Install::Slot | Install::File)
}

/// Copies the first `length` bytes of the running slot (all of it, where that is not known), makes
/// them durable and reads them back.
///
/// Blocks that are there already are not written again.
pub(super) fn copy(
    storage: &dyn Storage,
    place: &Place,
    running: Slot,
    length: Option<u64>,
) -> Result<VerifiedImage, InstallError> {
    let (from, to) = (place.slot_path(running), place.slot_path(running.other()));
    let io = |act, path: &std::path::Path| {
        let path = path.to_owned();
        move |source| InstallError::Io { act, path, source }
    };
    let source = storage.open(from, Access::Read).map_err(io("read", from))?;
    let found = source.len().map_err(io("read", from))?;
    let length = length.map_or(found, |length| length.min(found));
    let is_new = storage.kind(to).map_err(io("open slot", to))?.is_none();
    let mut target = storage
        .open(to, Access::Make)
        .map_err(io("open slot", to))?;
    target.set_len(length).map_err(io("write slot", to))?;
    let room = target.len().map_err(io("open slot", to))?;
    if room < length {
        return Err(InstallError::TooSmall {
            path: to.to_owned(),
            found: room,
            needed: length,
        });
    }
    let (mut piece, mut there) = (vec![0; PIECE_LEN], vec![0; PIECE_LEN]);
    let mut offset = 0;
    while offset < length {
        let rest = usize::try_from(length - offset)
            .unwrap_or(PIECE_LEN)
            .min(PIECE_LEN);
        let (piece, there) = (&mut piece[..rest], &mut there[..rest]);
        source
            .read_exact_at(piece, offset)
            .map_err(io("read", from))?;
        let is_there = target.read_exact_at(there, offset).is_ok() && there == piece;
        if !is_there {
            target
                .write_at(piece, offset)
                .map_err(io("write slot", to))?;
        }
        offset += rest as u64;
    }
    target.sync().map_err(io("sync slot", to))?;
    let wanted = digest_of(source.as_ref(), length, &mut |_| {}).map_err(io("read", from))?;
    drop(target);
    if is_new && let Some(folder) = to.parent() {
        storage.sync_dir(folder).map_err(io("sync slot", to))?;
    }
    read_back(
        storage,
        place,
        running.other(),
        length,
        wanted,
        &mut |_, _| {},
    )
}
