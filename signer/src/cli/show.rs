//! `review`, `inspect`, `verify`.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::args::{InspectArgs, ReviewArgs, VerifyArgs};
use super::{Answer, Context};
use crate::doubt;
use crate::durable;
use crate::error::{SignerError, TreeError};
use crate::keys::{KEY_FILE_LEN_MAX, public};
use crate::layout::REQUEST_EXTENSION;
use crate::request::{Need, Request};
use crate::terminal::{Tone, bytes, paint, table};
use crate::tree::Published;
use crate::verify::{self, Expiry, Row};
use crate::words;
use crate::workspace::Workspace;

pub(super) fn review(context: &Context, args: &ReviewArgs) -> Result<Answer, SignerError> {
    let mut requests = Vec::new();
    if args.files.is_empty() {
        let workspace = Workspace::open(&context.global.workspace)?;
        for staged in workspace.staged.values() {
            let mut request = staged.request.clone();
            workspace.complete_chain(&mut request)?;
            requests.push((staged.path.clone(), request));
        }
    }
    for file in &args.files {
        requests.push((file.clone(), Request::load(file)?));
    }
    let mut texts = Vec::new();
    let mut json = Vec::new();
    for (path, request) in &requests {
        texts.push(request_text(path, request)?);
        json.push(request_json(path, request)?);
    }
    let text = if texts.is_empty() {
        "nothing is drafted".to_owned()
    } else {
        texts.join("\n\n")
    };
    Ok(Answer::new(text, json!(json)))
}

/// A request in words: what, what changes, who must sign, who has.
pub(super) fn request_text(path: &Path, request: &Request) -> Result<String, SignerError> {
    let mut text = paint(Tone::Strong, &request.title());
    let _ = writeln!(text, "  (\"{}\")", path.display());
    let _ = writeln!(text, "digest of the signed bytes: {}", request.digest());
    match &request.previous {
        Some(previous) => {
            let (version, _) = verify::head(path, previous)?;
            let _ = writeln!(text, "against version {version}:");
        }
        None => text.push_str("the first version:\n"),
    }
    for line in words::changes(request)? {
        let _ = writeln!(text, "  {line}");
    }
    for doubt in doubt::doubts(request)? {
        let _ = writeln!(text, "{}: {doubt}", paint(Tone::Missing, "caution"));
    }
    for need in request.needs()? {
        text += &need_text(request, &need);
    }
    Ok(text.trim_end().to_owned())
}

fn need_text(request: &Request, need: &Need) -> String {
    let state = if need.is_met() {
        paint(Tone::Good, "complete")
    } else {
        paint(Tone::Missing, "not complete")
    };
    let mut text = format!(
        "{} asks for {} of {} signatures, {} made: {state}\n",
        need.by,
        need.threshold,
        need.keys.len(),
        need.signed.len()
    );
    for (id, _) in &need.keys {
        let signed = if need.signed.contains(id) {
            "has signed"
        } else {
            "has not signed"
        };
        let _ = writeln!(text, "  {} {signed}", request.holder(id));
    }
    text
}

pub(super) fn request_json(path: &Path, request: &Request) -> Result<Value, SignerError> {
    let needs: Vec<_> = request
        .needs()?
        .iter()
        .map(|need| {
            json!({
                "by": need.by,
                "threshold": need.threshold,
                "keys": need.keys.iter().map(|(id, _)| json!({
                    "keyid": id.as_str(),
                    "holder": request.holders.get(id.as_str()),
                    "signed": need.signed.contains(id),
                })).collect::<Vec<_>>(),
                "met": need.is_met(),
            })
        })
        .collect();
    Ok(json!({
        "file": path,
        "role": request.role.as_str(),
        "version": request.version(),
        "digest": request.digest(),
        "complete": request.is_complete()?,
        "changes": words::changes(request)?,
        "doubts": doubt::doubts(request)?,
        "needs": needs,
    }))
}

pub(super) fn inspect(_: &Context, args: &InspectArgs) -> Result<Answer, SignerError> {
    let path = &args.path;
    if path.is_dir() {
        let missing = || TreeError::Missing {
            tree: path.clone(),
            file: ampoule_protocol::paths::TIMESTAMP_FILE.to_owned(),
        };
        let published = Published::load(path)?.ok_or_else(missing)?;
        let rows = verify::rows(&published);
        return Ok(Answer::new(rows_table(&rows), rows_json(&rows)));
    }
    if is_request(path) {
        let request = Request::load(path)?;
        return Ok(Answer::new(
            request_text(path, &request)?,
            request_json(path, &request)?,
        ));
    }
    if path.extension().is_some_and(|extension| extension == "pub") {
        let key = public::read(path)?;
        let scheme = key.public().map(|key| key.scheme().as_str());
        let text = format!("public key {} ({})", key.id(), scheme.unwrap_or("unknown"));
        return Ok(Answer::new(
            text,
            json!({ "keyid": key.id().as_str(), "scheme": scheme }),
        ));
    }
    metadata(path)
}

/// A metadata file, as it says of itself: nothing is verified here.
fn metadata(path: &Path) -> Result<Answer, SignerError> {
    let envelope = verify::read(path)?;
    let role = verify::role_of(path, &envelope)?;
    let (version, expires) = verify::head(path, &envelope)?;
    let request = Request {
        repository: crate::layout::Repository::Image,
        role,
        envelope: envelope.clone(),
        previous: None,
        chain: Vec::new(),
        former: None,
        holders: std::collections::BTreeMap::new(),
    };
    let mut text = format!("{} (signatures not verified)\n", request.title());
    for line in words::changes(&request)? {
        let _ = writeln!(text, "  {line}");
    }
    let ids: Vec<_> = envelope
        .signatures()
        .iter()
        .map(|s| s.keyid.short())
        .collect();
    let _ = write!(text, "signatures said to be by: {}", ids.join(", "));
    let json = json!({
        "role": request.role.as_str(),
        "version": version,
        "expires": expires,
        "signed": serde_json::from_slice::<Value>(
            &ampoule_protocol::json::compact(envelope.unverified())
        ).unwrap_or_default(),
        "signatures": envelope.signatures().iter().map(|s| s.keyid.as_str()).collect::<Vec<_>>(),
    });
    Ok(Answer::new(text, json))
}

pub(super) fn verify(context: &Context, args: &VerifyArgs) -> Result<Answer, SignerError> {
    let expiry = if args.ignore_expiry {
        Expiry::Ignore
    } else {
        Expiry::Enforce
    };
    let path = &args.path;
    if path.is_dir() {
        let report = verify::tree(path, expiry, context.now, &context.bars)?;
        let text = format!(
            "{}\n\"{}\" verifies: {} target files ({})",
            rows_table(&report.rows),
            path.display(),
            report.targets,
            bytes(report.targets_len)
        );
        let json = json!({
            "roles": rows_json(&report.rows),
            "targets": report.targets,
            "targets_len": report.targets_len,
        });
        return Ok(Answer::new(text, json));
    }
    if is_request(path) {
        let request = Request::load(path)?;
        request.require_complete()?;
        let text = format!("{} is complete", request.title());
        return Ok(Answer::new(text, request_json(path, &request)?));
    }
    let (root, targets) = (args.root.as_deref(), args.targets.as_deref());
    let row = verify::file(path, root, targets, expiry, context.now)?;
    let text = format!(
        "{} version {} verifies: {} of {} required signatures, expires at {}",
        row.role, row.version, row.signed.0, row.signed.1, row.expires
    );
    Ok(Answer::new(text, rows_json(&[row])))
}

fn is_request(path: &Path) -> bool {
    let named = path
        .extension()
        .is_some_and(|extension| extension == REQUEST_EXTENSION);
    // A copy that travelled may have another name.
    named
        || durable::read(path, KEY_FILE_LEN_MAX)
            .is_ok_and(|bytes| Request::from_bytes(path, &bytes).is_ok())
}

fn rows_table(rows: &[Row]) -> String {
    let cells: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                row.role.clone(),
                row.version.to_string(),
                format!("{} of {}", row.signed.0, row.signed.1),
                row.expires.to_string(),
                row.targets.to_string(),
            ]
        })
        .collect();
    table(&["role", "version", "signed", "expires", "targets"], &cells)
}

fn rows_json(rows: &[Row]) -> Value {
    rows.iter()
        .map(|row| {
            json!({
                "role": row.role,
                "version": row.version,
                "signatures": row.signed.0,
                "threshold": row.signed.1,
                "expires": row.expires,
                "targets": row.targets,
            })
        })
        .collect()
}
