//! Any bytes as what a server answers to a device: an error or a value, and what is read is written
//! the same way again.
#![no_main]

use ampoule_protocol::device::{Acknowledged, CheckedIn, DeviceView};
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;

fuzz_target!(|bytes: &[u8]| {
    stays::<CheckedIn>(bytes);
    stays::<Acknowledged>(bytes);
    stays::<DeviceView>(bytes);
});

fn stays<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return };
    let written = serde_json::to_vec(&read).expect("plain data");
    let again: T = serde_json::from_slice(&written).expect("what we wrote");
    assert_eq!(serde_json::to_vec(&again).expect("plain data"), written);
}
