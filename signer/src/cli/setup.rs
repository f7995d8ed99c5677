//! `init`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::InitArgs;
use super::{Answer, Context};
use crate::ceremony::{self, Ceremony};
use crate::durable::{self, RealDisk};
use crate::error::SignerError;
use crate::init::{self, Duty};
use crate::keys::file::{self, Kind, Protection};
use crate::keys::{KeyError, Secrets};
use crate::terminal::table;
use crate::toml_doc::{Document, TOML_LEN_MAX};

pub(super) fn init(context: &Context, args: &InitArgs) -> Result<Answer, SignerError> {
    let path = match &args.ceremony {
        Some(path) if !args.example => path,
        _ => {
            return Ok(Answer::new(
                ceremony::EXAMPLE,
                json!({ "ceremony": ceremony::EXAMPLE }),
            ));
        }
    };
    let bytes = durable::read(path, TOML_LEN_MAX)?;
    let name = path.display().to_string();
    let text = Document::text(&name, &bytes)?;
    let folder = durable::folder_of(path);
    let ceremony = Ceremony::parse(&name, text, folder)?;
    let mut made = BTreeMap::new();
    if let Some(keys) = &args.generate {
        warn_of_low_work(context, args.work.work_factor);
        made = generate(context, &ceremony, keys, args.work.work_factor)?;
    }
    let duties = init::init(&RealDisk, &ceremony, &context.global.workspace, context.now)?;
    Ok(answer(context, &ceremony, &duties, &made))
}

/// Makes the keys whose public files do not exist.
fn generate(
    context: &Context,
    ceremony: &Ceremony,
    folder: &Path,
    work_factor: u8,
) -> Result<BTreeMap<String, PathBuf>, SignerError> {
    durable::create_dirs(&RealDisk, folder)?;
    let online: Vec<_> = ceremony.online_files().into_iter().cloned().collect();
    let mut secrets = context.secrets();
    let mut passphrase = None;
    let mut made = BTreeMap::new();
    for file in ceremony.files().into_keys().filter(|file| !file.exists()) {
        let name = init::holder_name(&file);
        let path = folder.join(format!("{name}.key"));
        let pem = file::generate(Kind::Ed25519)?;
        let protection = if online.contains(&file) {
            Protection::None
        } else {
            let shared = match passphrase.take() {
                Some(shared) => shared,
                None => ask(secrets.as_mut())?,
            };
            passphrase = Some(shared.clone());
            Protection::Passphrase(shared, work_factor)
        };
        super::keys::refuse_existing(&path)?;
        file::store(&RealDisk, &path, &pem, protection)?;
        // The public half last: while it is absent, the key counts as not made.
        super::keys::store_public_of(&pem, &file)?;
        made.insert(name, path);
    }
    Ok(made)
}

fn ask(secrets: &mut dyn Secrets) -> Result<age::secrecy::SecretString, KeyError> {
    secrets.new_one("all keys of this ceremony")
}

fn answer(
    context: &Context,
    ceremony: &Ceremony,
    duties: &[Duty],
    made: &BTreeMap<String, PathBuf>,
) -> Answer {
    let workspace = context.global.workspace.display();
    let rows: Vec<_> = duties
        .iter()
        .map(|duty| {
            let place = match (made.get(&duty.holder), duty.online) {
                (Some(path), _) => path.display().to_string(),
                (None, true) => "on the server".to_owned(),
                (None, false) => "with its holder".to_owned(),
            };
            vec![
                duty.holder.clone(),
                duty.id.short(),
                duty.roles.join(", "),
                place,
            ]
        })
        .collect();
    let mut text = format!("workspace \"{workspace}\" is ready; nothing is signed yet\n\n");
    text += &table(&["holder", "key", "signs", "secret key"], &rows);
    text += "\n\nwhat each holder keeps:\n";
    text += "  - the secret key file or token, offline, and its passphrase or PIN somewhere else\n";
    text += "  - the 12 digits of their key above, to compare before they sign\n";
    text += "what must be there to sign:\n";
    for (what, holders) in ceremony.parts() {
        let _ = writeln!(
            text,
            "  - {what}: {} of {}",
            holders.threshold,
            holders.files.len()
        );
    }
    text += "what loss means:\n";
    text += "  - fewer keys of a role left than its threshold: a higher role must name new ones (rotate)\n";
    text += "  - fewer root keys left than the threshold of root: devices must get a new root by hand\n";
    text += "\nnext: each holder of root and targets signs the drafts in \"staging\"\n";
    let json = json!({
        "workspace": workspace.to_string(),
        "holders": duties.iter().map(|duty| json!({
            "holder": duty.holder,
            "keyid": duty.id.as_str(),
            "roles": duty.roles,
            "online": duty.online,
            "secret": made.get(&duty.holder),
        })).collect::<Vec<_>>(),
    });
    Answer::new(text, json)
}

/// For `key generate` and the ceremony: what a work factor below the safe one means.
pub(super) fn warn_of_low_work(context: &Context, work_factor: u8) {
    if work_factor < file::WORK_FACTOR_SAFE {
        context.warn(&format!(
            "a work factor of {work_factor} is for tests, its passphrases are guessed cheaply"
        ));
    }
}
