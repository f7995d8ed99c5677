//! Any bytes as a patch in place: an error or the image that its header promises; never a write
//! outside of the scratch, the journal and the new image, and none before the base was checked.
//!
//! Where the first byte is odd, the rest is an undressed patch (see the package's own library).
#![no_main]

use ampoule_delta::{Accept, ImageError, JOURNAL_LEN, Medium, Store, apply_in_place};
use ampoule_fuzz::{MEMORY_MAX, dressed_in_place, old_image};
use libfuzzer_sys::fuzz_target;

/// The image and the scratch of the device.
const ROOM: usize = 64 << 10;

struct Bytes(Vec<u8>);

impl Store for Bytes {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        let from = usize::try_from(offset).map_err(|_| ImageError::new("beyond the end"))?;
        let bytes = from.checked_add(buf.len()).and_then(|end| self.0.get(from..end));
        buf.copy_from_slice(bytes.ok_or_else(|| ImageError::new("beyond the end"))?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
        // A write beyond the declared room would be our mistake: it panics here.
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), ImageError> {
        Ok(())
    }

    fn capacity(&mut self) -> Result<u64, ImageError> {
        Ok(self.0.len() as u64)
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((first, patch)) = input.split_first() else { return };
    let patch = if first % 2 == 1 { dressed_in_place(patch) } else { patch.to_vec() };
    let mut image = old_image();
    image.resize(ROOM, 0);
    let mut medium = Medium {
        image: &mut Bytes(image),
        scratch: &mut Bytes(vec![0; ROOM]),
        journal: &mut Bytes(vec![0; JOURNAL_LEN as usize]),
    };
    let accept = Accept { memory_max: MEMORY_MAX, ..Accept::default() };
    let _ = apply_in_place(&mut &patch[..], &mut medium, &accept, &mut |_| {});
});
