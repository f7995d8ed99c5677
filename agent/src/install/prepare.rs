//! Makes a verified image ready to run: nothing for slots and files, unpacking for trees.

use ampoule_protocol::release::Install;

use super::{InstallError, Place, VerifiedImage};
use crate::ports::Storage;

/// Makes a verified image ready to run; may be repeated.
///
/// # Errors
/// An archive that cannot be unpacked.
pub fn prepare(
    storage: &dyn Storage,
    place: &Place,
    image: &VerifiedImage,
) -> Result<(), InstallError> {
    match &place.install {
        Install::Slot | Install::File | Install::Module(_) => Ok(()),
        Install::Tree => super::tree::unpack(storage, place, image.slot()),
    }
}
