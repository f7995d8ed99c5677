//! Is the old image the one this patch was made for? Asked before the first write.
//!
//! XXH3 is no protection against a person; it need not be. Whoever can bend the running image owns
//! the device, and what comes out is checked block by block against the signed hash tree. This
//! check turns a wrong base into one clear error at the speed of reading.

use alloc::vec;

use twox_hash::XxHash3_64;

use crate::error::PatchError;
use crate::header::Header;
use crate::image::OldImage;

const PIECE: usize = 64 << 10;

/// Reads the old image once and compares its sum with the header's.
pub(super) fn check(header: &Header, old: &mut dyn OldImage) -> Result<(), PatchError> {
    use core::hash::Hasher as _;
    let mut hasher = XxHash3_64::new();
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    while offset < header.old_len {
        let len = usize::try_from(header.old_len - offset).map_or(PIECE, |left| left.min(PIECE));
        let piece = &mut buffer[..len];
        old.read_at(offset, piece).map_err(PatchError::Old)?;
        hasher.write(piece);
        offset += len as u64;
    }
    if hasher.finish() == header.old_check {
        Ok(())
    } else {
        Err(PatchError::WrongBase)
    }
}
