//! Any JSON as a release description: an error or a release, and a release comes back the same.
#![no_main]

use ampoule_protocol::json;
use ampoule_protocol::release::Release;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes) else { return };
    let Ok(release) = Release::from_custom(Some(&value)) else { return };
    let custom = release.to_custom().expect("what was read is within bounds");
    assert_eq!(Release::from_custom(Some(&custom)), Ok(release));
});
