//! Serves the published tree: validators, ranges, encodings, caching.
//!
//! Names with a version or a digest never change and may be cached for a year; the timestamp is
//! asked for each time. Only metadata is ever encoded, and only when no range is asked for; images
//! and deltas are compressed already.

use std::sync::Arc;

use hyper::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    ETAG, HeaderValue, RANGE, VARY,
};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use super::body::Body;
use super::problem::Problem;
use super::range::{self, Encoding, Wanted};
use crate::blob::Key;
use crate::fleet::Device;
use crate::published::{Document, Form, Found};
use crate::serve::{Peer, Shared};

pub(super) const IMMUTABLE: &str = "public, max-age=31536000, immutable";
/// What one device is told is nobody else's.
const OWN_IMMUTABLE: &str = "private, max-age=31536000, immutable";
/// Headers of one answer.
const HEADERS_MAX: usize = 10;
const ASK_EACH_TIME: &str = "no-cache";

/// A target in a bucket.
pub(super) struct Blob {
    pub(super) key: Key,
    pub(super) etag: HeaderValue,
}

/// What came of looking a file up.
pub(super) enum Served {
    /// The answer.
    Here(Response<Body>),
    /// It has to be fetched first.
    Elsewhere(Blob),
}

/// Answers a request for the file `path` of the tree.
pub(super) fn serve<B>(
    shared: &Shared,
    peer: &Peer,
    device: &Arc<Device>,
    path: &str,
    request: &Request<B>,
) -> Result<Served, Problem> {
    let found = shared.published.find(path).map_err(|error| {
        shared.log.warn(format_args!(
            "failed to read {path:?} of the published tree: {error}"
        ));
        Problem::unavailable("tree-unavailable", "the file cannot be read now", 60)
    })?;
    let response = match found.ok_or_else(Problem::not_found)? {
        Found::Elsewhere { key, etag } => return Ok(Served::Elsewhere(Blob { key, etag })),
        Found::Versioned(document) => document_response(&document, IMMUTABLE, request),
        // Another server may have signed a newer one.
        Found::Timestamp(_) if shared.rollouts.behind().is_some() || shared.timestamp_changes() => {
            return Err(Problem::behind());
        }
        Found::Timestamp(document) => document_response(&document, ASK_EACH_TIME, request),
        Found::File {
            file,
            len,
            etag,
            immutable,
        } => {
            let caching = if immutable { IMMUTABLE } else { ASK_EACH_TIME };
            let head = Head {
                etag: &etag,
                caching,
                kind: kind_of(path),
            };
            let transfer = || peer.transfer(device);
            respond(&head, len, request, |from, to| {
                Body::part(file, from, to, transfer())
            })
        }
    };
    Ok(Served::Here(response))
}

/// Answers a request for the file `path` of the device's own director repository.
pub(super) fn serve_director<B>(
    shared: &Shared,
    device: &Arc<Device>,
    path: &str,
    request: &Request<B>,
) -> Result<Response<Body>, Problem> {
    let director = shared.director.as_ref().ok_or_else(Problem::not_found)?;
    let row = device.row();
    if shared.rollouts.behind().is_some() {
        return Err(Problem::behind());
    }
    let assigned = shared.rollouts.assigned(&row, shared.now());
    let assigned = assigned.ok_or_else(Problem::behind)?;
    let found = director.find(&row.device, &assigned, path, shared.now());
    let found = found.map_err(|error| {
        shared
            .log
            .warn(format_args!("failed to make {path:?}: {error}"));
        Problem::unavailable("director-unavailable", "the file cannot be made now", 60)
    })?;
    let found = found.ok_or_else(Problem::not_found)?;
    if found.tells {
        shared.rollouts.hear_taken(row.number, &assigned);
    }
    let caching = if found.immutable {
        OWN_IMMUTABLE
    } else {
        ASK_EACH_TIME
    };
    Ok(document_response(&found.document, caching, request))
}

fn document_response<B>(
    document: &Document,
    caching: &'static str,
    request: &Request<B>,
) -> Response<Body> {
    let (form, coding) = choose(document, request.headers());
    let head = Head {
        etag: &form.etag,
        caching,
        kind: "application/json",
    };
    let mut response = respond(&head, form.bytes.len() as u64, request, |from, to| {
        let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
        Body::full(form.bytes.slice(range))
    });
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(coding) = coding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    response
}

/// The form to send, and the name of its encoding.
fn choose<'a>(document: &'a Document, headers: &HeaderMap) -> (&'a Form, Option<&'static str>) {
    let wanted = if headers.contains_key(RANGE) {
        Encoding::Identity
    } else {
        range::encoding(headers)
    };
    let encoded = match wanted {
        Encoding::Identity => None,
        Encoding::Gzip => document.gzip.as_ref().map(|form| (form, Some("gzip"))),
        Encoding::Zstd => document.zstd.as_ref().map(|form| (form, Some("zstd"))),
    };
    encoded.unwrap_or((&document.plain, None))
}

/// What every answer about one file says.
pub(super) struct Head<'a> {
    pub(super) etag: &'a HeaderValue,
    pub(super) caching: &'static str,
    pub(super) kind: &'static str,
}

pub(super) fn respond<B>(
    head: &Head<'_>,
    len: u64,
    request: &Request<B>,
    body: impl FnOnce(u64, u64) -> Body,
) -> Response<Body> {
    let asked = request.headers();
    if range::is_known(asked, head.etag.as_bytes()) {
        return head.response(StatusCode::NOT_MODIFIED, Body::empty());
    }
    let (status, from, to) = match range::wanted(asked, len, head.etag.as_bytes()) {
        Wanted::Whole => (StatusCode::OK, 0, len),
        Wanted::Part { from, to } => (StatusCode::PARTIAL_CONTENT, from, to),
        Wanted::Outside => return outside(len),
    };
    let body = if request.method() == Method::HEAD {
        Body::empty()
    } else {
        body(from, to)
    };
    let mut response = head.response(status, body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(to - from));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(head.kind));
    if status == StatusCode::PARTIAL_CONTENT {
        let part = format!("bytes {from}-{}/{len}", to - 1);
        headers.insert(CONTENT_RANGE, text(&part));
    }
    response
}

impl Head<'_> {
    fn response(&self, status: StatusCode, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        // Room for all of them at once, and for the two that are added below hyper.
        let mut headers = HeaderMap::with_capacity(HEADERS_MAX);
        headers.insert(ETAG, self.etag.clone());
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(self.caching));
        *response.headers_mut() = headers;
        response
    }
}

/// 416 says how long the file is (RFC 9110 section 15.5.17).
fn outside(len: u64) -> Response<Body> {
    let mut response = Problem::range(len).into_response();
    response
        .headers_mut()
        .insert(CONTENT_RANGE, text(&format!("bytes */{len}")));
    response
}

/// Our own ranges are ASCII.
fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static(""))
}

pub(super) fn kind_of(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "json")) => "application/json",
        _ => "application/octet-stream",
    }
}
