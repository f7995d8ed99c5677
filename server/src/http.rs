//! What devices ask, and what they are answered.
//!
//! ```text
//!   GET, HEAD /tuf/image/metadata/<file>   the published tree
//!   GET, HEAD /tuf/image/targets/<path>
//!   GET, HEAD /tuf/director/metadata/<file>  the director repository of the device that asks
//!   POST      /device/v1/inventory         what runs; answered when durable
//!   POST      /device/v1/receipts          one signed receipt; answered when durable
//!   GET       /device/v1/self              what we know of the device that asks
//! ```
//!
//! A match on the path, not a router: these are all routes there are on the device path.
//! Every request passes [`admit`] first, on resumed and long-open connections too.

pub mod body;
mod files;
pub mod problem;
pub mod range;
mod reports;

pub(crate) use reports::view_of;

use std::sync::Arc;
use std::time::Instant;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Method, Request, Response, Version};

use crate::bucket::Rate;
use crate::fleet::{Device, Refusal};
use crate::serve::{Peer, Shared};
use body::Body;
use problem::Problem;

/// Answers one request; there is always an answer.
pub async fn answer(shared: &Shared, peer: &Peer, request: Request<Incoming>) -> Response<Body> {
    let version = request.version();
    match route(shared, peer, request).await {
        Ok(response) => response,
        Err(problem) => {
            let ends = problem.ends_connection() && version < Version::HTTP_2;
            let mut response = problem.into_response();
            if ends {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }
}

async fn route(
    shared: &Shared,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let device = admit(shared, peer)?;
    let path = request.uri().path();
    if let Some(file) = path.strip_prefix("/tuf/image/") {
        return match *request.method() {
            Method::GET | Method::HEAD => files::serve(shared, peer, &device, file, &request),
            _ => Err(Problem::method("GET and HEAD")),
        };
    }
    if let Some(file) = path.strip_prefix("/tuf/director/") {
        return match *request.method() {
            Method::GET | Method::HEAD => files::serve_director(shared, &device, file, &request),
            _ => Err(Problem::method("GET and HEAD")),
        };
    }
    match (path, request.method()) {
        ("/device/v1/inventory", &Method::POST) => {
            reports::inventory(shared, peer, request.into_body()).await
        }
        ("/device/v1/receipts", &Method::POST) => {
            reports::receipt(shared, peer, request.into_body()).await
        }
        ("/device/v1/self", &Method::GET) => reports::view(shared, &device).await,
        ("/device/v1/inventory" | "/device/v1/receipts", _) => Err(Problem::method("POST")),
        ("/device/v1/self", _) => Err(Problem::method("GET")),
        _ => Err(Problem::not_found()),
    }
}

/// Whether this device is served at all, and now.
fn admit(shared: &Shared, peer: &Peer) -> Result<Arc<Device>, Problem> {
    if shared.tls.current().is_revoked(&peer.identity) {
        return Err(Refusal::Revoked.into());
    }
    let device = shared
        .fleet
        .find(&peer.identity.device)
        .ok_or(Refusal::Unknown)?;
    device.admits(&peer.identity, shared.now().unix())?;
    let limits = &shared.config.limits;
    let rate = Rate {
        per_minute: limits.requests_per_minute,
        burst: limits.requests_burst,
    };
    device
        .take(rate, Instant::now())
        .map_err(|secs| Problem::too_many("this device asks more often than it may", secs))?;
    Ok(device)
}
