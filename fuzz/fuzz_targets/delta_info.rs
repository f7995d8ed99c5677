//! Any bytes as a patch that is explained: an error, or parts that add up to its length.
//!
//! Where the first byte is odd, the rest is an undressed patch (see the package's own library).
#![no_main]

use ampoule_delta::{in_place_header, info, spent};
use ampoule_fuzz::{MEMORY_MAX, dressed, old_image};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((first, patch)) = input.split_first() else { return };
    let patch = if first % 2 == 1 { dressed(patch) } else { patch.to_vec() };
    let _ = in_place_header(&patch);
    let Ok(told) = info(&patch) else { return };
    let parts: u64 = told.parts().iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(parts, patch.len() as u64);
    // What else the bytes are, they are an image too: cut and bent headers of archives and ELF.
    if told.header.memory_needed() <= MEMORY_MAX && told.header.new_len <= 4 << 20 {
        let _ = spent(&mut &old_image()[..], input, &patch);
    }
});
