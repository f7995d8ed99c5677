//! `audit witness …`: what a second party does, on its own machine and with its own key.
//!
//! It needs a copy of the log (`audit fetch`) and a way out to the server's door; nobody needs a way
//! in to it.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ampoule_protocol::sign::Ed25519Key;

use super::audit::{Source, checkpoint_of};
use super::client::Client;
use super::output::plain;
use super::profile::Server;
use super::{CtlError, files};
use crate::audit::AuditError;
use crate::audit::note::{Kind, NOTE_LEN_MAX, Signer};
use crate::audit::witness;
use crate::door::words::Witnesses;

#[derive(Debug, clap::Args)]
pub(super) struct Witness {
    #[command(flatten)]
    source: Source,
    /// The witness's key, as "witness-key" made it.
    #[arg(long = "witness-key")]
    signer: PathBuf,
    /// Where the witness remembers what it cosigned.
    #[arg(long)]
    state: PathBuf,
    /// Write the cosigned checkpoint there instead of printing the cosignature alone.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Bring it to the server.
    #[arg(long)]
    send: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Submit {
    /// A cosigned checkpoint.
    note: PathBuf,
}

impl Witness {
    pub(super) fn run(self, server: &Server) -> Result<(), CtlError> {
        let log = self.source.log()?;
        let key = files::expect(&self.signer, NOTE_LEN_MAX as u64)?;
        let witness = Signer::parse(&String::from_utf8_lossy(&key));
        let witness = witness.map_err(|source| CtlError::Note {
            path: self.signer.clone(),
            source,
        })?;
        let known = if files::read(&self.state, NOTE_LEN_MAX as u64)?.is_some() {
            Some(checkpoint_of(&self.state, &log)?)
        } else {
            eprintln!("note: nothing was cosigned before; this checkpoint is the first");
            None
        };
        let folder = self.source.folder();
        let seen = witness::look(&folder, &log, known.as_ref()).map_err(self.source.fault())?;
        let (from, to) = (seen.known, seen.checkpoint.size);
        let mut unkept = None;
        let cosigned = seen.cosign(&witness, now(), |note| {
            files::replace(&self.state, note.as_bytes()).map_err(|error| {
                unkept = Some(error);
                AuditError::Broken
            })
        });
        if let Some(error) = unkept {
            return Err(error);
        }
        let (note, line) = cosigned.map_err(self.source.fault())?;
        match &self.out {
            Some(path) => files::replace(path, note.as_bytes())?,
            None => print!("{line}"),
        }
        eprintln!("note: the log grew from {from} to {to} entries");
        if self.send {
            submit(server, note.as_bytes())?;
        }
        Ok(())
    }
}

impl Submit {
    pub(super) fn run(self, server: &Server) -> Result<(), CtlError> {
        submit(server, &files::expect(&self.note, NOTE_LEN_MAX as u64)?)
    }
}

fn submit(server: &Server, note: &[u8]) -> Result<(), CtlError> {
    let client = Client::new(&server.profile()?)?;
    let taken: Witnesses = client.post_note("/api/v1/audit/cosignatures", note)?;
    for witness in taken.witnesses {
        let (name, size) = (plain(&witness.name), witness.size.unwrap_or(0));
        eprintln!("note: the server publishes that {name} has seen {size} entries");
    }
    Ok(())
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

pub(super) fn witness_key(name: &str, file: &Path) -> Result<(), CtlError> {
    let mut seed = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)
        .map_err(|error| CtlError::Usage(format!("no random bytes: {error}")))?;
    let made = Ed25519Key::from_seed(&seed)
        .map_err(|error| AuditError::Key(error.to_string()))
        .and_then(|key| Signer::new(name, Kind::Cosignature, key));
    let signer = made.map_err(|source| CtlError::Note {
        path: file.to_path_buf(),
        source,
    })?;
    files::create(file, signer.to_text().as_bytes())?;
    println!("{}", signer.verifier());
    Ok(())
}
