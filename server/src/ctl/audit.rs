//! `audit …`: an audit log in a folder, wherever it was copied to.

use std::path::{Path, PathBuf};

use ampoule_protocol::time::UtcTime;
use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::json;

use super::fetch::Fetch;
use super::output::{bar, plain, print, table};
use super::profile::Server;
use super::witness::{Submit, Witness, witness_key};
use super::{CtlError, files};
use crate::audit::entry::Entry;
use crate::audit::medium::Folder;
use crate::audit::note::{NOTE_LEN_MAX, Verifier};
use crate::audit::tiles::{self, Tiles, WIDTH};
use crate::audit::verify::{self, Against, CHECKPOINTS_MAX};
use crate::audit::witness;
use crate::audit::{AuditError, Checkpoint};

/// The file in which a server leaves the log's verifier key.
pub(super) const KEY_FILE: &str = "key";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Verify every entry, every hash and the signed checkpoint; names the first bad index.
    Verify(Verify),
    /// Print entries.
    Show(Show),
    /// Show that one checkpoint's log is the beginning of another's.
    Consistency(Consistency),
    /// As a second party: cosign the log's checkpoint if it only grew since the last time.
    Witness(Witness),
    /// Bring a cosigned checkpoint to the server, which publishes it.
    Submit(Submit),
    /// Copy the log from the server, or what is new of it, and verify it.
    Fetch(Fetch),
    /// Make a key for a witness.
    WitnessKey {
        /// The witness's name, such as "hospital.example/audit".
        name: String,
        /// The new file.
        file: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// The folder with "checkpoint" and "tile".
    dir: PathBuf,
    /// The log's verifier key, NAME+ID+KEY, or a file with it. Without it the key in the folder is
    /// taken, which proves nothing against whoever made the folder.
    #[arg(long)]
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    source: Source,
    /// A checkpoint that was seen before; the log must begin with what it vouches for. May be given
    /// more than once.
    #[arg(long, value_name = "CHECKPOINT")]
    from: Vec<PathBuf>,
    /// A witness's verifier key, or a file with it, whose cosignature must be there. May be given
    /// more than once.
    #[arg(long)]
    witness: Vec<String>,
    /// So many of those witnesses are enough; without it, all of them must have cosigned.
    #[arg(long, value_name = "COUNT", requires = "witness")]
    witnesses_min: Option<usize>,
    /// At most so many entries may have come since as many witnesses looked.
    #[arg(long, value_name = "COUNT", requires = "witness")]
    unseen_max: Option<u64>,
    /// Another copy of the log: the shorter must be the beginning of the longer.
    #[arg(long)]
    against: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    source: Source,
    /// The first entry.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many.
    #[arg(long, default_value_t = 100)]
    count: u64,
    /// Answer in JSON lines, each entry as it stands in the log.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Consistency {
    #[command(flatten)]
    source: Source,
    /// The older checkpoint.
    old: PathBuf,
    /// The newer one; without it, the folder's own.
    new: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn run(self, server: &Server) -> Result<(), CtlError> {
        match self {
            Self::Fetch(fetch) => fetch.run(server),
            Self::Verify(verify) => verify.run(),
            Self::Show(show) => show.run(),
            Self::Consistency(consistency) => consistency.run(),
            Self::Witness(witness) => witness.run(server),
            Self::Submit(submit) => submit.run(server),
            Self::WitnessKey { name, file } => witness_key(&name, &file),
        }
    }
}

impl Source {
    pub(super) fn folder(&self) -> Folder {
        Folder::new(&self.dir)
    }

    pub(super) fn log(&self) -> Result<Verifier, CtlError> {
        if let Some(key) = &self.key {
            return key_of(key);
        }
        let path = self.dir.join(KEY_FILE);
        if files::read(&path, NOTE_LEN_MAX as u64)?.is_none() {
            let what = format!("no --key is given, and \"{}\" is not there", path.display());
            return Err(CtlError::Usage(what));
        }
        eprintln!("warning: the key comes from the folder itself; give the owner's with --key");
        key_of(path.to_str().unwrap_or_default())
    }

    pub(super) fn fault(&self) -> impl Fn(AuditError) -> CtlError + use<> {
        let path = self.dir.clone();
        move |source| CtlError::Log {
            path: path.clone(),
            source,
        }
    }

    fn checkpoint(&self) -> Result<(Checkpoint, Verifier), CtlError> {
        let log = self.log()?;
        let (checkpoint, _) = verify::checkpoint(&self.folder(), &log).map_err(self.fault())?;
        Ok((checkpoint, log))
    }
}

/// A verifier key of a file.
pub(super) fn parse_key(path: &Path, bytes: &[u8]) -> Result<Verifier, CtlError> {
    Verifier::parse(&String::from_utf8_lossy(bytes)).map_err(|source| CtlError::Note {
        path: path.to_path_buf(),
        source,
    })
}

/// A verifier key, or a file with one.
pub(super) fn key_of(text: &str) -> Result<Verifier, CtlError> {
    let path = Path::new(text);
    let bad = |source| CtlError::Note {
        path: path.to_path_buf(),
        source,
    };
    if text.contains('+') && !path.exists() {
        return Verifier::parse(text).map_err(bad);
    }
    parse_key(path, &files::expect(path, NOTE_LEN_MAX as u64)?)
}

pub(super) fn checkpoint_of(path: &Path, log: &Verifier) -> Result<Checkpoint, CtlError> {
    let bytes = files::expect(path, NOTE_LEN_MAX as u64)?;
    Checkpoint::verify(&bytes, log).map_err(|source| CtlError::Note {
        path: path.to_path_buf(),
        source,
    })
}

impl Verify {
    fn run(self) -> Result<(), CtlError> {
        if self.from.len() > CHECKPOINTS_MAX {
            return Err(CtlError::Usage("more than 100000 checkpoints".into()));
        }
        let log = self.source.log()?;
        let known: Result<_, _> = self
            .from
            .iter()
            .map(|path| checkpoint_of(path, &log))
            .collect();
        if self.witnesses_min > Some(self.witness.len()) {
            let what = "--witnesses-min is more than there are --witness";
            return Err(CtlError::Usage(what.into()));
        }
        let witnesses: Result<_, _> = self.witness.iter().map(|key| key_of(key)).collect();
        let against = Against {
            known: known?,
            witnesses: witnesses?,
            demanded: self.witnesses_min,
            unseen_max: self.unseen_max,
        };
        let medium = self.source.folder();
        let progress = bar(0, "verifying");
        let verified = verify::verify(&medium, &log, against, |done, size| {
            progress.set_length(size);
            progress.set_position(done);
        });
        progress.finish_and_clear();
        let verified = verified.map_err(self.source.fault())?;
        if let Some(other) = &self.against {
            compare(&medium, &verified.checkpoint, other, &log)?;
        }
        let checkpoint = &verified.checkpoint;
        let root = BASE64.encode(&checkpoint.root);
        let value = json!({
            "origin": checkpoint.origin,
            "size": checkpoint.size,
            "root": root,
            "checkpoints": verified.agrees,
            "cosigned": verified.cosigned.iter().map(|one| json!({
                "witness": one.witness.name(),
                "size": one.checkpoint.size,
                "time": one.time,
            })).collect::<Vec<_>>(),
        });
        print(self.json, &value, || {
            let mut lines = vec![
                format!(
                    "{}: {} entries, each as it was signed",
                    plain(&checkpoint.origin),
                    checkpoint.size
                ),
                format!("root {root}"),
            ];
            if verified.agrees > 0 {
                let count = verified.agrees;
                lines.push(format!(
                    "it begins with what {count} older checkpoints vouch for"
                ));
            }
            for one in &verified.cosigned {
                let (name, size) = (plain(one.witness.name()), one.checkpoint.size);
                let time = i64::try_from(one.time).unwrap_or(i64::MAX);
                let time = UtcTime::from_unix(time);
                lines.push(format!("{name} has seen {size} entries at {time}"));
            }
            lines.join("\n")
        });
        Ok(())
    }
}

/// Holds a log against another copy of it.
fn compare(
    medium: &Folder,
    checkpoint: &Checkpoint,
    other: &Path,
    log: &Verifier,
) -> Result<(), CtlError> {
    let fault = |source| CtlError::Log {
        path: other.to_path_buf(),
        source,
    };
    let copy = Folder::new(other);
    let verified = verify::verify(&copy, log, Against::default(), |_, _| {}).map_err(fault)?;
    let one = Tiles::new(medium, checkpoint.size);
    let two = Tiles::new(&copy, verified.checkpoint.size);
    match verify::parted(&one, &two).map_err(fault)? {
        None => Ok(()),
        Some(index) => {
            let size = checkpoint.size.min(verified.checkpoint.size);
            let what = verify::What::Root { size, after: index };
            Err(fault(AuditError::Found(verify::Finding { index, what })))
        }
    }
}

impl Show {
    fn run(self) -> Result<(), CtlError> {
        let (checkpoint, _) = self.source.checkpoint()?;
        let folder = self.source.folder();
        let tiles = Tiles::new(&folder, checkpoint.size);
        let end = self.first.saturating_add(self.count).min(checkpoint.size);
        let mut rows = Vec::new();
        let mut index = self.first;
        while index < end {
            let number = index / WIDTH;
            let bundle = tiles.bundle(number).map_err(self.source.fault())?;
            let bundle = bundle.unwrap_or_default();
            let (entries, _) = tiles::entries(&bundle);
            let from = usize::try_from(index % WIDTH).unwrap_or(0);
            let until = (number + 1).saturating_mul(WIDTH).min(end);
            let count = usize::try_from(until - index).unwrap_or(0);
            for entry in entries.iter().skip(from).take(count) {
                rows.push(if self.json {
                    vec![plain(&String::from_utf8_lossy(entry))]
                } else {
                    row(entry)
                });
            }
            index = until;
        }
        if self.json {
            for row in rows {
                println!("{}", row.concat());
            }
        } else {
            let header = ["INDEX", "TIME", "BY", "ACT", "ABOUT", "OUTCOME"];
            println!("{}", table(&header, rows));
        }
        Ok(())
    }
}

fn row(entry: &[u8]) -> Vec<String> {
    let word = |value: Result<serde_json::Value, _>| match value {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    };
    match serde_json::from_slice::<Entry>(entry) {
        Ok(entry) => vec![
            entry.index.to_string(),
            entry.at.to_string(),
            entry.what.by,
            word(serde_json::to_value(entry.what.act)),
            entry.what.about.unwrap_or_default(),
            word(serde_json::to_value(entry.what.outcome)),
        ],
        // An entry of a newer server.
        Err(_) => vec!["?".into(), plain(&String::from_utf8_lossy(entry))],
    }
}

impl Consistency {
    fn run(self) -> Result<(), CtlError> {
        let (own, log) = self.source.checkpoint()?;
        let old = checkpoint_of(&self.old, &log)?;
        let new = match &self.new {
            Some(path) => checkpoint_of(path, &log)?,
            None => own.clone(),
        };
        let folder = self.source.folder();
        // The tiles belong to the folder's own checkpoint: each is shown to be its beginning.
        witness::grew(&folder, &new, &own).map_err(self.source.fault())?;
        witness::grew(&folder, &old, &new).map_err(self.source.fault())?;
        let value = json!({"origin": old.origin, "old": old.size, "new": new.size});
        print(self.json, &value, || {
            format!(
                "the log of {} entries begins with the log of {}",
                new.size, old.size
            )
        });
        Ok(())
    }
}
