//! The reader of deflate, zlib, gzip and zip: what it says of a stranger's image has to hold.
#![no_main]

use ampoule_delta::Caps;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|image: &[u8]| ampoule_fuzz::openings_hold(image, Caps::ZLIB));
