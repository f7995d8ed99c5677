//! `measure audit write FOLDER ENTRIES` and `measure audit verify FOLDER`: a long log, written and
//! verified in two processes, so that the memory of the second is the verifier's alone.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;
use ampoule_server::audit::medium::Folder;
use ampoule_server::audit::note::Kind;
use ampoule_server::audit::verify::{Against, verify};
use ampoule_server::audit::{Act, Log, Record, Signer};
use serde_json::{Value, json};

/// Entries of one group, as a busy server makes them.
const GROUP_LEN: u64 = 512;

fn signer() -> Result<Signer, Box<dyn Error>> {
    let key = Ed25519Key::from_seed(&[9; 32])?;
    Ok(Signer::new("example.com/audit", Kind::Note, key)?)
}

pub(crate) fn run(words: &[String]) -> Result<Value, Box<dyn Error>> {
    match words {
        [act, folder, entries] if act == "write" => write(Path::new(folder), entries.parse()?),
        [act, folder] if act == "verify" => read(Path::new(folder)),
        _ => Err("usage: measure audit write FOLDER ENTRIES | verify FOLDER".into()),
    }
}

fn write(folder: &Path, entries: u64) -> Result<Value, Box<dyn Error>> {
    std::fs::create_dir_all(folder)?;
    let start = Instant::now();
    let mut log = Log::open(Box::new(Folder::new(folder)), signer()?)?;
    while log.size() < entries {
        let (from, to) = (log.size(), (log.size() + GROUP_LEN).min(entries));
        let entry = |index| {
            Record::new(Act::Receipt, format!("device:pump-{index}"))
                .about("device", format!("pump-{index}"))
                .with("outcome", "committed")
                .with("release", "2.4.1")
                .to_bytes(index, UtcTime::from_unix(1_893_499_200))
        };
        log.append(&(from..to).map(entry).collect::<Vec<_>>())?;
    }
    Ok(json!({ "entries": log.size(), "ms": start.elapsed().as_millis() }))
}

fn read(folder: &Path) -> Result<Value, Box<dyn Error>> {
    let (medium, signer) = (Folder::new(folder), signer()?);
    let start = Instant::now();
    let verified = verify(&medium, signer.verifier(), Against::default(), |_, _| {})?;
    Ok(json!({
        "entries": verified.checkpoint.size,
        "ms": start.elapsed().as_millis(),
        "peak_bytes": super::process::own_peak()?,
    }))
}
