//! Makes a repository in memory, verifies a release from it, then bends it in three ways and
//! shows why each is refused.

use std::error::Error;

use ampoule_examples::memory::{self, Client, Files, Keys};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::Coded;
use ampoule_protocol::metadata::TargetFile;
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;

/// Seeds that only an example may use: everybody knows them.
fn known_key(seed: u8) -> Result<Ed25519Key, Box<dyn Error>> {
    Ok(Ed25519Key::from_seed(&[seed; 32])?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let now = UtcTime::parse("2026-11-23T13:18:00Z")?;
    let product = RoleName::parse("infusion-pump")?;
    let path = TargetPath::parse("infusion-pump/release-2.4.1.toml")?;
    let keys = Keys {
        top: known_key(1)?,
        product: vec![known_key(2)?, known_key(3)?],
    };
    let release = TargetFile::new(14, Digest::of(b"the release ..."));
    let files = memory::publish(
        &product,
        [(path.clone(), release)].into(),
        &keys,
        now.plus_secs(86_400),
    )?;

    let mut client = Client::new(&files["1.root.json"]);
    let found = client
        .find(&files, &path, now)?
        .ok_or("the release is not found")?;
    println!("found   {} through role {}", found.path(), found.role());

    let bend = |name: &str, bend: &dyn Fn(&mut Vec<u8>)| -> Files {
        let mut bent = files.clone();
        bent.entry(name.into()).and_modify(bend);
        bent
    };
    // A byte in the middle of a file is most likely in the payload or in a signature.
    let flip = |bytes: &mut Vec<u8>| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    for (what, files, now) in [
        (
            "one byte of the product role",
            bend("1.infusion-pump.json", &flip),
            now,
        ),
        (
            "one byte of the timestamp",
            bend("timestamp.json", &flip),
            now,
        ),
        (
            "nothing, a week later",
            files.clone(),
            now.plus_secs(7 * 86_400),
        ),
    ] {
        let mut client = Client::new(&files["1.root.json"]);
        match client.find(&files, &path, now) {
            Ok(_) => return Err(format!("believed after bending {what}").into()),
            Err(error) => println!("refused {what}: {error} [{}]", error.code()),
        }
    }
    Ok(())
}
