//! Any bytes as a metadata file: an error or a value, and what is a value comes back the same.
#![no_main]

use ampoule_protocol::metadata::{Envelope, Payload, Root, Snapshot, Targets, Timestamp};
use libfuzzer_sys::fuzz_target;

fn round<T: Payload + PartialEq + std::fmt::Debug>(envelope: &Envelope) {
    let signed = envelope.unverified();
    if let Ok(payload) = T::from_signed(signed) {
        let again = T::from_signed(&payload.to_signed()).expect("what we write, we read");
        assert_eq!(again, payload);
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(envelope) = Envelope::parse(bytes) else { return };
    let again = Envelope::parse(&envelope.to_bytes()).expect("what we write, we read");
    assert_eq!(again, envelope);
    assert_eq!(again.signed_bytes(), envelope.signed_bytes());
    round::<Root>(&envelope);
    round::<Timestamp>(&envelope);
    round::<Snapshot>(&envelope);
    round::<Targets>(&envelope);
});
