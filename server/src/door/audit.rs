//! `/api/v1/audit`: the log as it lies, under the paths of C2SP `tlog-tiles`, for copying.

use std::sync::Arc;

use ampoule_protocol::error::chain;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use super::extract::{Noted, json};
use super::who::Who;
use super::{Door, words};
use crate::audit::tiles::CHECKPOINT;
use crate::audit::{AuditError, cosigned};
use crate::http::problem::Problem;

type Answer = Result<Response, Problem>;

/// Bytes of the longest file: a bundle of 256 entries.
const FILE_LEN_MAX: usize = 256 * (2 + 65_535);

fn file(bytes: Vec<u8>, kind: &'static str, cached: &'static str) -> Response {
    let mut response = Response::new(Body::from(bytes));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cached));
    response
}

/// The newest checkpoint, a signed note.
#[utoipa::path(get, path = "/api/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = words::Problem, content_type = "application/problem+json")))]
pub(super) async fn checkpoint(State(door): State<Arc<Door>>, _: Who) -> Answer {
    let note = read(&door, CHECKPOINT.to_owned()).await?;
    Ok(file(note, "text/plain; charset=utf-8", "no-store"))
}

/// The log's verifier key.
#[utoipa::path(get, path = "/api/v1/audit/key", tag = "audit",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = words::Problem, content_type = "application/problem+json")))]
pub(super) async fn key(State(door): State<Arc<Door>>, _: Who) -> Answer {
    let bytes = format!("{}\n", door.shared.audit.log()).into_bytes();
    Ok(file(bytes, "text/plain; charset=utf-8", "no-store"))
}

/// A tile or a bundle of entries: what comes behind `tile/`.
#[utoipa::path(get, path = "/api/v1/audit/tile/{path}", params(("path" = String, Path)),
    tag = "audit",
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = words::Problem, content_type = "application/problem+json")))]
pub(super) async fn tile(
    State(door): State<Arc<Door>>,
    _: Who,
    Path(path): Path<String>,
) -> Answer {
    // Only what a tile can be called: levels, "entries", numbers, "x" and ".p".
    let segment = |segment: &str| {
        let stem = segment.strip_suffix(".p").unwrap_or(segment);
        let digits = stem.strip_prefix('x').unwrap_or(stem);
        stem == "entries"
            || (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
    };
    if path.len() > 64 || !path.split('/').all(segment) {
        return Err(Problem::not_found());
    }
    let bytes = read(&door, format!("tile/{path}")).await?;
    // Beyond the checkpoint a cut may have left what is written over later.
    Ok(file(bytes, "application/octet-stream", "private, no-cache"))
}

/// Whose cosignatures the log takes, and what each of them has seen.
#[utoipa::path(get, path = "/api/v1/audit/witnesses", tag = "audit",
    responses((status = 200, body = words::Witnesses),
        (status = "default", body = words::Problem, content_type = "application/problem+json")))]
pub(super) async fn witnesses(State(door): State<Arc<Door>>, _: Who) -> Answer {
    let audit = door.shared.audit.clone();
    let look = move || {
        let files = audit.place().files();
        let each = audit.witnesses().iter().map(|witness| {
            let seen = cosigned::newest(&*files, audit.log(), witness)?;
            Ok(words::Witness {
                name: witness.name().to_owned(),
                key: witness.to_string(),
                size: seen.as_ref().map(|seen| seen.checkpoint.size),
                time: seen.as_ref().map(|seen| seen.time),
            })
        });
        each.collect::<Result<Vec<_>, AuditError>>()
    };
    let found = tokio::task::spawn_blocking(look).await;
    let witnesses = found.map_err(|_| unreadable())??;
    Ok(json(&words::Witnesses { witnesses }))
}

/// The newest checkpoint that one witness has cosigned; `id` is that of its key.
#[utoipa::path(get, path = "/api/v1/audit/cosigned/{id}", params(("id" = String, Path)),
    tag = "audit", responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = words::Problem, content_type = "application/problem+json")))]
pub(super) async fn cosigned(
    State(door): State<Arc<Door>>,
    _: Who,
    Path(id): Path<String>,
) -> Answer {
    let known = door.shared.audit.witnesses().iter();
    let witness = known.into_iter().find(|witness| witness.id() == id);
    let witness = witness.ok_or_else(Problem::not_found)?;
    let bytes = read(&door, cosigned::path(witness)).await?;
    Ok(file(bytes, "text/plain; charset=utf-8", "no-store"))
}

/// Takes a witness's cosignature in: a checkpoint of this log as the witness saw it, with its
/// signature. Nothing is written into the log of it: that would be a checkpoint that the witness
/// has not seen, and the signature proves itself.
#[utoipa::path(post, path = "/api/v1/audit/cosignatures", tag = "audit",
    request_body(content = String, content_type = "text/plain"),
    responses((status = 200, body = words::Witnesses),
        (status = "default", body = words::Problem, content_type = "application/problem+json")))]
pub(super) async fn cosign(State(door): State<Arc<Door>>, who: Who, note: Noted) -> Answer {
    let taken = door.shared.audit.cosign(note.0.to_vec()).await;
    let taken = taken.map_err(|error| refused(&door, &who, error))?;
    let each = taken.into_iter().map(|one| words::Witness {
        name: one.witness.name().to_owned(),
        key: one.witness.to_string(),
        size: Some(one.checkpoint.size),
        time: Some(one.time),
    });
    let witnesses = each.collect();
    Ok(json(&words::Witnesses { witnesses }))
}

fn refused(door: &Door, who: &Who, error: AuditError) -> Problem {
    let said = chain(&error, None).replace('\n', "; ");
    match error {
        AuditError::Found(_) => {
            door.shared.log.warn(format_args!(
                "{} has a cosigned checkpoint that this log does not begin with: {said}",
                who.name
            ));
            Problem::new(StatusCode::CONFLICT, "other-history", said)
        }
        AuditError::OtherLog { .. }
        | AuditError::Unsigned(_)
        | AuditError::Signature(_)
        | AuditError::Note(_) => Problem::new(StatusCode::BAD_REQUEST, "bad-cosignature", said),
        other => other.into(),
    }
}

fn unreadable() -> Problem {
    Problem::unavailable("audit-unavailable", "the log cannot be read now", 60)
}

async fn read(door: &Door, path: String) -> Result<Vec<u8>, Problem> {
    let place = door.shared.audit.place().clone();
    let read = move || place.files().read(&path, FILE_LEN_MAX);
    let found = tokio::task::spawn_blocking(read).await;
    let found = found.map_err(|_| unreadable())?.map_err(|_| unreadable())?;
    found.ok_or_else(Problem::not_found)
}
