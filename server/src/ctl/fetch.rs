//! `audit fetch`: a copy of the log, by the paths of C2SP `tlog-tiles`.
//!
//! The checkpoint that comes is written last, and only when the log that it vouches for begins with
//! the copy that was there: a server that tells another history leaves the copy as it is.

use std::path::{Path, PathBuf};

use super::client::{Client, Got};
use super::output::bar;
use super::profile::Server;
use super::{CtlError, files};
use crate::audit::cosigned::WITNESSES_MAX;
use crate::audit::medium::Folder;
use crate::audit::note::{NOTE_LEN_MAX, Verifier};
use crate::audit::tiles::{CHECKPOINT, Kind, LEVELS_MAX, WIDTH, count, path, width};
use crate::audit::witness::grew;
use crate::audit::{AuditError, Checkpoint, cosigned};
use crate::door::words::Witnesses;

const API: &str = "/api/v1/audit/";

#[derive(Debug, clap::Args)]
pub(super) struct Fetch {
    /// The folder of the copy; made where it is not there.
    dir: PathBuf,
    /// The log's verifier key; without it, the one in the folder, and for a new copy the server's.
    #[arg(long)]
    key: Option<String>,
}

impl Fetch {
    pub(super) fn run(self, server: &Server) -> Result<(), CtlError> {
        let client = Client::new(&server.profile()?)?;
        std::fs::create_dir_all(&self.dir).map_err(CtlError::file("create", &self.dir))?;
        let log = self.log(&client)?;
        let fault = |source| CtlError::Log {
            path: self.dir.clone(),
            source,
        };
        let note = expect(&client, CHECKPOINT)?;
        let new = Checkpoint::verify(&note, &log).map_err(fault)?;
        let own = self.dir.join(CHECKPOINT);
        let old = files::read(&own, NOTE_LEN_MAX as u64)?;
        let old = old
            .map(|note| Checkpoint::verify(&note, &log))
            .transpose()
            .map_err(fault)?;
        let from = old.as_ref().map_or(0, |old| old.size);
        if new.size < from {
            let what = crate::audit::verify::What::Short {
                size: new.size,
                known: from,
            };
            let index = new.size;
            let finding = crate::audit::Finding { index, what };
            return Err(fault(AuditError::Found(finding)));
        }
        let wanted = wanted(from, new.size);
        let progress = bar(wanted.len() as u64, "fetching");
        for (kind, number, width) in wanted {
            self.tile(&client, kind, number, width)?;
            progress.inc(1);
        }
        progress.finish_and_clear();
        if let Some(old) = &old {
            grew(&Folder::new(&self.dir), old, &new).map_err(fault)?;
        }
        self.witnesses(&client, &log, &new)?;
        files::replace(&own, &note)?;
        println!(
            "{}: {} entries, {} of them new",
            new.origin,
            new.size,
            new.size - from
        );
        Ok(())
    }

    fn log(&self, client: &Client) -> Result<Verifier, CtlError> {
        let path = self.dir.join(super::audit::KEY_FILE);
        let given = match &self.key {
            Some(key) => Some(super::audit::key_of(key)?),
            None => None,
        };
        let kept = files::read(&path, NOTE_LEN_MAX as u64)?;
        let text = match (&given, kept) {
            (Some(key), _) => format!("{key}\n").into_bytes(),
            (None, Some(kept)) => return super::audit::parse_key(&path, &kept),
            (None, None) => {
                eprintln!("warning: the key is the server's word; compare it with its owner");
                expect(client, super::audit::KEY_FILE)?
            }
        };
        let key = super::audit::parse_key(&path, &text)?;
        files::replace(&path, &text)?;
        Ok(key)
    }

    /// What witnesses have seen, as far as the log begins with it.
    fn witnesses(&self, client: &Client, log: &Verifier, new: &Checkpoint) -> Result<(), CtlError> {
        let fault = |source| CtlError::Log {
            path: self.dir.clone(),
            source,
        };
        let known: Witnesses = client.get(&format!("{API}witnesses"))?;
        for witness in known.witnesses.into_iter().take(WITNESSES_MAX) {
            let Some(size) = witness.size else { continue };
            let key = Verifier::parse(&witness.key).map_err(fault)?;
            // It looked after the checkpoint was taken that is copied here.
            if size > new.size {
                continue;
            }
            let path = cosigned::path(&key);
            let note = expect(client, &path)?;
            let seen = Checkpoint::verify(&note, log).map_err(fault)?;
            if seen.size > new.size {
                continue;
            }
            grew(&Folder::new(&self.dir), &seen, new).map_err(fault)?;
            let folder = self.dir.join(cosigned::FOLDER);
            std::fs::create_dir_all(&folder).map_err(CtlError::file("create", &folder))?;
            files::replace(&folder.join(key.id()), &note)?;
        }
        Ok(())
    }

    /// One file; where the partial tile is gone, the full one has taken its place.
    fn tile(&self, client: &Client, kind: Kind, number: u64, width: u64) -> Result<(), CtlError> {
        let mut name = path(kind, number, width);
        let mut got = client.file(&format!("{API}{name}"))?;
        if matches!(got, Got::Absent) && width != WIDTH {
            name = path(kind, number, WIDTH);
            got = client.file(&format!("{API}{name}"))?;
        }
        let Got::Found(bytes) = got else {
            return Err(CtlError::Log {
                path: self.dir.clone(),
                source: AuditError::Missing(name),
            });
        };
        let target = name
            .split('/')
            .fold(self.dir.clone(), |at, part| at.join(part));
        let folder = target.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(CtlError::file("create", folder))?;
        files::replace(&target, &bytes)
    }
}

fn expect(client: &Client, name: &str) -> Result<Vec<u8>, CtlError> {
    match client.file(&format!("{API}{name}"))? {
        Got::Found(bytes) => Ok(bytes),
        Got::Absent => Err(CtlError::Usage(format!(
            "the server has no {name:?} of a log"
        ))),
    }
}

/// The files that a log of `new` entries has and one of `old` has not.
fn wanted(old: u64, new: u64) -> Vec<(Kind, u64, u64)> {
    let mut files = Vec::new();
    for level in 0..LEVELS_MAX {
        if count(level, old) == count(level, new) {
            continue;
        }
        for number in count(level, old) / WIDTH..count(level, new).div_ceil(WIDTH) {
            let wide = width(level, number, new);
            files.push((Kind::Level(level), number, wide));
            if level == 0 {
                files.push((Kind::Entries, number, wide));
            }
        }
    }
    files
}
