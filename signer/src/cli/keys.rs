//! `key …`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use age::secrecy::SecretString;
use ampoule_protocol::key::{Key, PublicKey};
use ampoule_protocol::sign;
use serde_json::json;

use super::args::{KeyArgs, KeyCommand};
use super::setup::warn_of_low_work;
use super::{Answer, Context};
use crate::durable::{self, RealDisk};
use crate::error::{DiskError, OperatorError, SignerError};
use crate::keys::file::{self, Protection};
use crate::keys::{KEY_FILE_LEN_MAX, KeyError, locate, public};
use crate::layout::Layout;
use crate::sign::OpenKey;
use crate::terminal::table;

pub(super) fn key(context: &Context, args: &KeyArgs) -> Result<Answer, SignerError> {
    match &args.command {
        KeyCommand::Generate {
            path,
            kind,
            unencrypted,
            work,
        } => {
            refuse_existing(path)?;
            refuse_existing(&public_path(path))?;
            let protection = if *unencrypted {
                Protection::None
            } else {
                warn_of_low_work(context, work.work_factor);
                Protection::Passphrase(new_passphrase(context, path)?, work.work_factor)
            };
            write(path, &file::generate(*kind)?, protection)
        }
        KeyCommand::Import { pem, path, work } => {
            refuse_existing(path)?;
            refuse_existing(&public_path(path))?;
            let bytes = durable::read(pem, KEY_FILE_LEN_MAX)?;
            let text =
                std::str::from_utf8(&bytes).map_err(|_| KeyError::NotAKey { path: pem.clone() })?;
            sign::from_pkcs8_pem(text).map_err(|_| KeyError::NotAKey { path: pem.clone() })?;
            warn_of_low_work(context, work.work_factor);
            let passphrase = new_passphrase(context, path)?;
            write(
                path,
                text,
                Protection::Passphrase(passphrase, work.work_factor),
            )
        }
        KeyCommand::List { folders } => list(context, folders),
        KeyCommand::ExportPublic { key, path } => export(context, key, path.as_deref()),
    }
}

/// Opens every key file named on the command line.
pub(super) fn open(context: &Context, paths: &[PathBuf]) -> Result<Vec<OpenKey>, SignerError> {
    let mut secrets = context.secrets();
    paths
        .iter()
        .map(|path| {
            let source = locate(path)?;
            let key = source.open(secrets.as_mut())?;
            Ok(OpenKey {
                name: source.describe(),
                key,
            })
        })
        .collect()
}

pub(super) fn refuse_existing(path: &Path) -> Result<(), SignerError> {
    if path.exists() {
        return Err(OperatorError::Exists {
            path: path.to_owned(),
        }
        .into());
    }
    Ok(())
}

/// Writes the public half of a PEM to `path`.
pub(super) fn store_public_of(pem: &str, path: &Path) -> Result<PublicKey, SignerError> {
    let key = sign::from_pkcs8_pem(pem).map_err(|e| SignerError::Ourselves(e.to_string()))?;
    durable::create_dirs(&RealDisk, durable::folder_of(path))?;
    public::store(&RealDisk, path, key.public_key())?;
    Ok(key.public_key().clone())
}

fn new_passphrase(context: &Context, path: &Path) -> Result<SecretString, SignerError> {
    Ok(context
        .secrets()
        .new_one(&format!("\"{}\"", path.display()))?)
}

fn write(path: &Path, pem: &str, protection: Protection) -> Result<Answer, SignerError> {
    durable::create_dirs(&RealDisk, durable::folder_of(path))?;
    file::store(&RealDisk, path, pem, protection)?;
    let public_path = public_path(path);
    let public = store_public_of(pem, &public_path)?;
    let id = public.to_key().id();
    let text = format!(
        "key {} ({})\n  secret \"{}\": keep it offline\n  public \"{}\": hand it in",
        id.short(),
        public.scheme().as_str(),
        path.display(),
        public_path.display()
    );
    let json = json!({
        "keyid": id.as_str(),
        "scheme": public.scheme().as_str(),
        "secret": path,
        "public": public_path,
    });
    Ok(Answer::new(text, json))
}

fn public_path(path: &Path) -> PathBuf {
    path.with_extension("pub")
}

/// A key in a folder; what is sealed does not tell which it is.
struct Listed {
    holder: String,
    key: Option<Key>,
    public: Option<PathBuf>,
    secret: Option<PathBuf>,
}

fn list(context: &Context, folders: &[PathBuf]) -> Result<Answer, SignerError> {
    let layout = Layout::new(&context.global.workspace);
    if folders.is_empty() && !layout.settings().is_file() {
        let folder = context.global.workspace.clone();
        return Err(OperatorError::NoWorkspace { folder }.into());
    }
    let own = vec![layout.holders()];
    let mut rows = Vec::new();
    for folder in if folders.is_empty() { &own } else { folders } {
        rows.extend(keys_in(folder)?);
    }
    let scheme = |row: &Listed| {
        let public = row.key.as_ref().and_then(Key::public);
        public.map(|key| key.scheme().as_str())
    };
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            let secret = row.secret.as_ref().map_or("not here", |_| "here");
            let id = row.key.as_ref().map(|key| key.id().short());
            let id = id.unwrap_or_else(|| "no .pub".to_owned());
            let scheme = scheme(row).unwrap_or("unknown").to_owned();
            vec![row.holder.clone(), id, scheme, secret.to_owned()]
        })
        .collect();
    let json: Vec<_> = rows
        .iter()
        .map(|row| {
            json!({
                "holder": row.holder,
                "keyid": row.key.as_ref().map(|key| key.id().to_string()),
                "scheme": scheme(row),
                "public": row.public,
                "secret": row.secret,
            })
        })
        .collect();
    Ok(Answer::new(
        table(&["holder", "key", "kind", "secret"], &cells),
        json!(json),
    ))
}

/// By holder: each public key with its secret half where that lies beside it, and each secret half
/// without a public one.
fn keys_in(folder: &Path) -> Result<Vec<Listed>, SignerError> {
    let entries = std::fs::read_dir(folder).map_err(DiskError::at("list", folder))?;
    let mut holders = BTreeSet::new();
    for entry in entries {
        let path = entry.map_err(DiskError::at("list", folder))?.path();
        if path.extension().is_some_and(|e| e == "pub" || e == "key") {
            holders.insert(crate::init::holder_name(&path));
        }
    }
    let there = |path: PathBuf| path.is_file().then_some(path);
    let mut rows = Vec::new();
    for holder in holders {
        let public = there(folder.join(format!("{holder}.pub")));
        rows.push(Listed {
            key: public.as_deref().map(public::read).transpose()?,
            public,
            secret: there(folder.join(format!("{holder}.key"))),
            holder,
        });
    }
    Ok(rows)
}

fn export(context: &Context, key: &Path, to: Option<&Path>) -> Result<Answer, SignerError> {
    let opened = open(context, &[key.to_owned()])?;
    let [OpenKey { key, .. }] = opened.as_slice() else {
        return Err(SignerError::Ourselves("one key was asked for".to_owned()));
    };
    let public = key.public_key();
    let id = public.to_key().id();
    let bytes = public::to_bytes(public);
    let json = json!({ "keyid": id.as_str(), "public": to });
    match to {
        Some(path) => {
            refuse_existing(path)?;
            public::store(&RealDisk, path, public)?;
            Ok(Answer::new(
                format!("key {} is in \"{}\"", id.short(), path.display()),
                json,
            ))
        }
        None => Ok(Answer::new(String::from_utf8_lossy(&bytes), json)),
    }
}
