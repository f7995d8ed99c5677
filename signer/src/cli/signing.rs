//! `sign`, `merge`, `attach`, `payload`, `publish`, `refresh`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{AttachArgs, MergeArgs, PayloadArgs, PublishArgs, RefreshArgs, SignArgs};
use super::show::{request_json, request_text};
use super::{Answer, Context, keys};
use crate::doubt;
use crate::durable::{self, Access, RealDisk};
use crate::error::{OperatorError, SignerError};
use crate::keys::{KEY_FILE_LEN_MAX, public};
use crate::layout::Layout;
use crate::publish::{self, Options, Outcome, Scope};
use crate::request::Request;
use crate::sign::{self, OpenKey};
use crate::terminal;
use crate::verify;
use crate::workspace::Workspace;
use ampoule_protocol::hex;

pub(super) fn sign(context: &Context, args: &SignArgs) -> Result<Answer, SignerError> {
    let opened = keys::open(context, &args.keys)?;
    let files = if args.all {
        asking(context, &opened)?
    } else {
        args.files.clone()
    };
    let mut text = String::new();
    let mut json = Vec::new();
    for file in &files {
        let request = sign_one(context, args, file, &opened)?;
        let state = if request.is_complete()? {
            "complete"
        } else {
            "not complete yet"
        };
        let _ = writeln!(
            text,
            "signed {}: {state} (\"{}\")",
            request.title(),
            file.display()
        );
        json.push(request_json(file, &request)?);
    }
    Ok(Answer::new(text, json!(json)))
}

fn sign_one(
    context: &Context,
    args: &SignArgs,
    file: &Path,
    opened: &[OpenKey],
) -> Result<Request, SignerError> {
    let _lock = sign::lock_of(file)?;
    let mut request = Request::load(file)?;
    require_deltas(context, file, &request)?;
    sign::require_asked(&request, opened)?;
    if let Some(own) = &args.root
        && let Some(doubt) = doubt::against(&request, &verify::read(own)?)?
    {
        return Err(OperatorError::OtherRoot {
            path: file.to_owned(),
            doubt,
        }
        .into());
    }
    let words = request_text(file, &request)?;
    // What is signed is read before it is signed, so it does not wait for the answer at the end.
    eprintln!("{words}\n");
    let agreed = args.yes || (terminal::can_ask() && confirmed(&request)?);
    if !agreed {
        return Err(OperatorError::NotConfirmed.into());
    }
    sign::sign(&mut request, opened)?;
    request.store(&RealDisk, file)?;
    Ok(request)
}

fn confirmed(request: &Request) -> Result<bool, SignerError> {
    let question = format!(
        "Sign {} with digest {}?",
        request.title(),
        request.digest().short()
    );
    terminal::confirm(&question)
        .map_err(|e| crate::error::DiskError::at("read", Path::new("standard input"))(e).into())
}

/// A draft of this workspace must have its deltas before anybody signs it: adding them later
/// would cost every signature.
fn require_deltas(context: &Context, file: &Path, request: &Request) -> Result<(), SignerError> {
    let layout = Layout::new(&context.global.workspace);
    if !layout.settings().is_file() || durable::folder_of(file) != layout.staging() {
        return Ok(());
    }
    let workspace = Workspace::open(&context.global.workspace)?;
    let Some(product) = workspace.settings.product(request.role.as_str()) else {
        return Ok(());
    };
    match crate::deltas::missing(&workspace, &product.name)?
        .into_iter()
        .next()
    {
        Some((component, missing)) => {
            Err(OperatorError::DeltasMissing { component, missing }.into())
        }
        None => Ok(()),
    }
}

/// The drafts of the workspace that ask for one of these keys.
fn asking(context: &Context, opened: &[OpenKey]) -> Result<Vec<PathBuf>, SignerError> {
    let workspace = Workspace::open(&context.global.workspace)?;
    let mut files = Vec::new();
    for staged in workspace.staged.values() {
        for key in opened {
            if !staged.request.ids_of(key.key.public_key())?.is_empty() {
                files.push(staged.path.clone());
                break;
            }
        }
    }
    if files.is_empty() {
        return Err(OperatorError::NoDraft {
            what: "these keys".to_owned(),
        }
        .into());
    }
    Ok(files)
}

pub(super) fn merge(_: &Context, args: &MergeArgs) -> Result<Answer, SignerError> {
    let copies: Vec<&Path> = args.copies.iter().map(PathBuf::as_path).collect();
    let added = sign::merge(&RealDisk, &args.file, &copies)?;
    let request = Request::load(&args.file)?;
    let state = if request.is_complete()? {
        "complete"
    } else {
        "not complete yet"
    };
    let text = format!("{added} new on {}: {state}", request.title());
    Ok(Answer::new(text, request_json(&args.file, &request)?))
}

pub(super) fn attach(_: &Context, args: &AttachArgs) -> Result<Answer, SignerError> {
    let key = public::read(&args.public)?;
    let signature = signature(args)?;
    let request = Request::load(&args.file)?;
    let ids = match key.public() {
        Some(public) => request.ids_of(public)?,
        None => Vec::new(),
    };
    let Some(id) = ids.first() else {
        let (key, role) = (key.id().short(), request.title());
        return Err(OperatorError::KeyNotAsked { key, role }.into());
    };
    let request = sign::attach(&RealDisk, &args.file, id, &signature)?;
    let state = if request.is_complete()? {
        "complete"
    } else {
        "not complete yet"
    };
    let text = format!("signature of {} taken in: {state}", request.holder(id));
    Ok(Answer::new(text, request_json(&args.file, &request)?))
}

fn signature(args: &AttachArgs) -> Result<Vec<u8>, SignerError> {
    let not_hex = |text: &str| OperatorError::BadArgument {
        what: "signature",
        text: text.chars().take(24).collect(),
        source: None,
    };
    if let Some(text) = &args.signature {
        return Ok(hex::decode(text.trim()).ok_or_else(|| not_hex(text))?);
    }
    let Some(path) = &args.signature_file else {
        return Err(not_hex("").into());
    };
    let bytes = durable::read(path, KEY_FILE_LEN_MAX)?;
    let as_hex = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| hex::decode(text.trim()));
    Ok(as_hex.unwrap_or(bytes))
}

pub(super) fn payload(_: &Context, args: &PayloadArgs) -> Result<Answer, SignerError> {
    let request = Request::load(&args.file)?;
    let bytes = request.envelope.signed_bytes();
    keys::refuse_existing(&args.output)?;
    durable::put(&RealDisk, &args.output, &bytes, Access::Shared)?;
    let digest = request.digest();
    let text = format!(
        "{} bytes of {} are in \"{}\"\nsha256 {digest}",
        bytes.len(),
        request.title(),
        args.output.display()
    );
    let json = json!({ "output": args.output, "length": bytes.len(), "sha256": digest });
    Ok(Answer::new(text, json))
}

pub(super) fn publish(context: &Context, args: &PublishArgs) -> Result<Answer, SignerError> {
    let opened = keys::open(context, &args.keys)?;
    let scope = if args.partial {
        Scope::Complete
    } else {
        Scope::All
    };
    let options = Options {
        scope,
        renew_snapshot: false,
        renew_timestamp: false,
    };
    let workspace = &context.global.workspace;
    let outcome = publish::publish(
        &RealDisk,
        workspace,
        &opened,
        options,
        context.now,
        &context.bars,
    )?;
    let mut mirrored = None;
    if let Some(to) = &args.to {
        let from = Layout::new(workspace).published();
        mirrored = Some(publish::mirror(&RealDisk, &from, to, &context.bars)?);
    }
    Ok(published(
        context,
        &outcome,
        args.to.as_deref().zip(mirrored),
    ))
}

pub(super) fn refresh(context: &Context, args: &RefreshArgs) -> Result<Answer, SignerError> {
    let opened = keys::open(context, &args.keys)?;
    let options = Options {
        scope: Scope::Nothing,
        renew_snapshot: args.snapshot,
        renew_timestamp: true,
    };
    let workspace = &context.global.workspace;
    let outcome = publish::publish(
        &RealDisk,
        workspace,
        &opened,
        options,
        context.now,
        &context.bars,
    )?;
    Ok(published(context, &outcome, None))
}

fn published(context: &Context, outcome: &Outcome, mirror: Option<(&Path, usize)>) -> Answer {
    let tree = Layout::new(&context.global.workspace).published();
    let mut text = if outcome.metadata.is_empty() {
        format!("nothing to publish: \"{}\" is up to date\n", tree.display())
    } else {
        format!(
            "published to \"{}\": {} ({}), {} proved\nmetadata: {}\n",
            tree.display(),
            terminal::count(outcome.targets, "target file"),
            terminal::bytes(outcome.targets_len),
            terminal::count(outcome.deltas_proved, "delta"),
            outcome.metadata.join(", ")
        )
    };
    for title in &outcome.left {
        let _ = writeln!(text, "left as a draft: {title}");
    }
    if let Some((to, written)) = mirror {
        let _ = writeln!(
            text,
            "copied to \"{}\": {} written",
            to.display(),
            terminal::count(written, "file")
        );
    }
    let json = json!({
        "tree": tree,
        "metadata": outcome.metadata,
        "targets": outcome.targets,
        "targets_len": outcome.targets_len,
        "deltas_proved": outcome.deltas_proved,
        "left": outcome.left,
        "copied": mirror.map(|(_, written)| written),
    });
    Answer::new(text, json)
}
