//! Targets in a bucket: read through the server, or by a link that the device asked for.
//!
//! A link goes to a device only where its own configuration made it ask ([`LINKS_HEADER`]) and ours
//! gives links away. It needs no trust: what comes is checked against what was signed. It is not
//! logged, and what is behind it stays readable until it lapses, also for a device that is revoked
//! meanwhile.

use std::sync::Arc;

use hyper::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION};
use hyper::{Method, Request, Response, StatusCode};

use super::body::Body;
use super::files::{self, Blob, Head};
use super::problem::Problem;
use super::range::{self, Wanted};
use crate::blob::{BlobError, Chunks};
use crate::fleet::Device;
use crate::serve::{Peer, Shared};

/// A device that says so follows one link to the bucket that it was told of.
pub(super) const LINKS_HEADER: HeaderName = HeaderName::from_static("ampoule-links");

/// Answers a request for a target in a bucket.
pub(super) async fn serve<B>(
    shared: &Shared,
    peer: &Peer,
    device: &Arc<Device>,
    blob: Blob,
    request: &Request<B>,
) -> Result<Response<Body>, Problem> {
    let Blob { key, etag } = blob;
    let failed = |error: BlobError| {
        let said = ampoule_protocol::error::chain(&error, None).replace('\n', "; ");
        shared.log.warn(format_args!("{said}"));
        Problem::unavailable("blobs-unavailable", "the file cannot be read now", 60)
    };
    let found = shared.published.length(&key).await.map_err(failed)?;
    let len = found.ok_or_else(Problem::not_found)?;
    let targets = shared.published.targets();
    let asked = request.headers();
    let is_get = request.method() == Method::GET;
    let wants_link = is_get && asked.contains_key(LINKS_HEADER);
    if wants_link
        && !range::is_known(asked, etag.as_bytes())
        && let Some(link) = targets.link(&key).await.map_err(failed)?
    {
        return redirect(&link);
    }
    let part = match range::wanted(asked, len, etag.as_bytes()) {
        Wanted::Whole => Some((0, len)),
        Wanted::Part { from, to } => Some((from, to)),
        Wanted::Outside => None,
    };
    let wanted = part.filter(|(from, to)| is_get && from < to);
    let wanted = wanted.filter(|_| !range::is_known(asked, etag.as_bytes()));
    let chunks = match wanted {
        Some((from, to)) => Some(targets.read(&key, from, to).await.map_err(failed)?),
        None => None,
    };
    let head = Head {
        etag: &etag,
        caching: files::IMMUTABLE,
        kind: files::kind_of(key.as_str()),
    };
    let body = |from, to| {
        chunks.map_or_else(Body::empty, |chunks: Chunks| {
            Body::stream(chunks, to - from, peer.transfer(device))
        })
    };
    Ok(files::respond(&head, len, request, body))
}

fn redirect(link: &str) -> Result<Response<Body>, Problem> {
    let unfit = |_| Problem::unavailable("blobs-unavailable", "the file cannot be read now", 60);
    let location = HeaderValue::from_str(link).map_err(unfit)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let headers = response.headers_mut();
    headers.insert(LOCATION, location);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
