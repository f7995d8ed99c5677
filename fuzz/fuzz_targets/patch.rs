//! Any bytes as a patch: an error or the image that its header promises, in any pieces, within the
//! memory that is accepted.
//!
//! The first byte says how long the pieces are that the patch comes in; where it is odd, the rest
//! is an undressed patch (see the package's own library).
#![no_main]

use ampoule_delta::{Accept, Patcher};
use ampoule_fuzz::{MEMORY_MAX, dressed, old_image};
use libfuzzer_sys::fuzz_target;

/// What a device would hold at most of an image that a fuzzer invents.
const NEW_LEN_MAX: usize = 4 << 20;

struct Bounded(Vec<u8>);

impl ampoule_delta::NewImage for Bounded {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ampoule_delta::ImageError> {
        if self.0.len() + bytes.len() > NEW_LEN_MAX {
            return Err(ampoule_delta::ImageError::new("too long for a fuzzer"));
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((step, patch)) = input.split_first() else { return };
    let patch = if step % 2 == 1 { dressed(patch) } else { patch.to_vec() };
    let old = old_image();
    let mut new = Bounded(Vec::new());
    let accept = Accept { memory_max: MEMORY_MAX, ..Accept::default() };
    let mut patcher = Patcher::new(accept);
    for piece in patch.chunks(usize::from(*step).max(1)) {
        if patcher.push(piece, &mut &old[..], &mut new).is_err() {
            return;
        }
    }
    if let Ok(header) = patcher.finish() {
        assert_eq!(header.new_len, new.0.len() as u64);
    }
});
