//! `/api/v1/audit`: the log as it lies, under the paths of C2SP `tlog-tiles`, for copying.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};

use super::who::Who;
use super::{Door, words};
use crate::audit::medium::{Folder, Medium as _};
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
    let note = door.shared.audit.checkpoint().into_bytes();
    Ok(file(note, "text/plain; charset=utf-8", "no-store"))
}

/// The log's verifier key.
#[utoipa::path(get, path = "/api/v1/audit/key", tag = "audit",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = words::Problem, content_type = "application/problem+json")))]
pub(super) async fn key(State(door): State<Arc<Door>>, _: Who) -> Answer {
    let bytes = read(&door, "key".to_owned()).await?;
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

async fn read(door: &Door, path: String) -> Result<Vec<u8>, Problem> {
    let folder = door.shared.audit.folder().to_path_buf();
    let read = move || Folder::new(&folder).read(&path, FILE_LEN_MAX);
    let unreadable = || Problem::unavailable("audit-unavailable", "the log cannot be read now", 60);
    let found = tokio::task::spawn_blocking(read).await;
    let found = found.map_err(|_| unreadable())?.map_err(|_| unreadable())?;
    found.ok_or_else(Problem::not_found)
}
