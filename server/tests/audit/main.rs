//! The audit log, from outside: vectors of others, power cuts, and what is done to it by stealth.
#![allow(
    unreachable_pub,
    reason = "the helpers are shared by the stories of this program only"
)]

mod disk;
mod power;
mod tampered;
mod vectors;
mod witnessed;

use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;
use ampoule_server::audit::note::Kind;
use ampoule_server::audit::{Act, Record, Signer, Verifier};

const ORIGIN: &str = "example.com/audit";

fn signer() -> Signer {
    let key = Ed25519Key::from_seed(&[9; 32]).unwrap();
    Signer::new(ORIGIN, Kind::Note, key).unwrap()
}

fn verifier() -> Verifier {
    Verifier::parse(&signer().verifier().to_string()).unwrap()
}

/// Entries `from..to`, as the server makes them.
fn entries(from: u64, to: u64) -> Vec<Vec<u8>> {
    entries_of("carol", from, to)
}

fn entries_of(who: &str, from: u64, to: u64) -> Vec<Vec<u8>> {
    let record =
        |index| Record::new(Act::Login, format!("account:{who}")).to_bytes(index, UtcTime::EPOCH);
    (from..to).map(record).collect()
}
