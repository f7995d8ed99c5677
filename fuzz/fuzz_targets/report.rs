//! Any bytes as what a device sends: an error or a value, never a receipt that nobody signed.
#![no_main]

use std::sync::LazyLock;

use ampoule_protocol::device::{Inventory, Receipt};
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::sign::{Ed25519Key, Sign};
use libfuzzer_sys::fuzz_target;

/// Its secret half is forgotten: no input can be signed by it.
static KEY: LazyLock<PublicKey> = LazyLock::new(|| {
    let key = Ed25519Key::from_seed(&[0x5a; 32]).expect("a seed");
    key.public_key().clone()
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(inventory) = Inventory::parse(bytes) {
        assert!(inventory.components.len() <= ampoule_protocol::device::REPORT_LIST_MAX);
    }
    assert!(Receipt::verify(bytes, &KEY).is_err());
});
