//! What devices ask, and what they are answered.
//!
//! ```text
//!   GET, HEAD /tuf/image/metadata/<file>   the published tree
//!   GET, HEAD /tuf/image/targets/<path>
//!   GET, HEAD /tuf/director/metadata/<file>  the director repository of the device that asks
//!   POST      /device/v1/inventory         what runs; answered when durable
//!   POST      /device/v1/receipts          one signed receipt; answered when durable
//!   GET       /device/v1/self              what we know of the device that asks
//!   POST      /fleetlock/v1/<what>         a permit to leave service, taken and given back
//!   …         /.well-known/est/…           renewal of its certificate ([`crate::est`])
//! ```
//!
//! A match on the path, not a router: these are all routes there are on the device path.
//! Every request passes [`admit`] first, on resumed and long-open connections too.

pub mod body;
mod elsewhere;
mod files;
mod fleet_lock;
pub mod problem;
pub mod range;
mod reports;

pub use reports::inventory_write;
pub(crate) use reports::{read as read_body, view_of};

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::{Method, Request, Response, Version};

use crate::bucket::Rate;
use crate::est::{self, Caller};
use crate::fleet::{Device, Refusal};
use crate::serve::pace::Pace;
use crate::serve::{HELD_LEN_MAX, Peer, Shared};
use crate::to_its_end::to_its_end;
use body::Body;
use files::{Blob, Served};
use problem::Problem;

/// An answer that is there, or one that waits for a body or for the disk.
///
/// What waits is boxed: hyper keeps room for the future of a request as long as a connection is
/// open, and most connections ask for files alone.
pub(crate) enum Answer {
    /// Taken when it is polled.
    Now(Option<Response<Body>>),
    /// Still to come.
    Later(Pin<Box<dyn Future<Output = Response<Body>> + Send>>),
}

impl Future for Answer {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Now(response) => {
                let response = response
                    .take()
                    .expect("hyper polls no future that has ended");
                Poll::Ready(Ok(response))
            }
            Self::Later(answering) => answering.as_mut().poll(context).map(Ok),
        }
    }
}

/// Answers one request; there is always an answer.
pub(crate) fn answer(shared: &Arc<Shared>, peer: &Arc<Peer>, request: Request<Incoming>) -> Answer {
    let answering = Pace::request(&peer.pace);
    let version = request.version();
    match route(shared, peer, &request) {
        Ok(Route::Answer(response)) => {
            if is_last(&request) && fits_the_end(&response) {
                peer.pace.hold_back(true);
            }
            shared.metrics.answered(response.status());
            Answer::Now(Some(response))
        }
        Ok(waits) => {
            let (shared, peer) = (shared.clone(), peer.clone());
            Answer::Later(Box::pin(async move {
                let _answering = answering;
                let by = shared.clone();
                let waiting = async move { wait(&by, &peer, waits, request).await };
                let response = to_its_end(waiting)
                    .await
                    .unwrap_or_else(|problem| refuse(problem, version));
                shared.metrics.answered(response.status());
                response
            }))
        }
        Err(problem) => {
            let response = refuse(problem, version);
            shared.metrics.answered(response.status());
            if request.body().is_end_stream() {
                return Answer::Now(Some(response));
            }
            let shared = shared.clone();
            Answer::Later(Box::pin(async move {
                let _answering = answering;
                reports::let_pass(&shared, &mut request.into_body()).await;
                response
            }))
        }
    }
}

/// Whether nothing is read behind this request: the connection ends with its answer.
fn is_last(request: &Request<Incoming>) -> bool {
    let closes = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"close");
    request.version() < Version::HTTP_2
        && request.body().is_end_stream()
        && request.headers().get(CONNECTION).is_some_and(closes)
}

/// Whether an answer goes out with the end of its connection.
fn fits_the_end(response: &Response<Body>) -> bool {
    let len = response.body().size_hint().exact();
    len.is_some_and(|len| len < HELD_LEN_MAX as u64)
}

fn refuse(problem: Problem, version: Version) -> Response<Body> {
    let ends = problem.ends_connection() && version < Version::HTTP_2;
    let mut response = problem.into_response();
    if ends {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Where a request leads.
enum Route {
    /// To this answer.
    Answer(Response<Body>),
    /// To one that has to wait.
    Wait(Waits, Arc<Device>),
    /// To a target in a bucket.
    Fetch(Blob, Arc<Device>),
    /// To a permit that the device takes or gives back.
    Permit(fleet_lock::Ask, Arc<Device>),
    /// To a new certificate for this device.
    Enrol,
    /// Back here, if this is the first use of a renewed certificate.
    TakeUp,
}

/// The answer of a route that does not know it at once.
async fn wait(
    shared: &Arc<Shared>,
    peer: &Peer,
    waits: Route,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let again = match waits {
        Route::TakeUp if est::take_up(shared, &peer.identity).await? => {
            route(shared, peer, &request)?
        }
        other => other,
    };
    match again {
        Route::Answer(response) => Ok(response),
        Route::Wait(waits, device) => {
            let body = request.into_body();
            waits.answer(shared, peer, &device, body).await
        }
        Route::Fetch(blob, device) => elsewhere::serve(shared, peer, &device, blob, &request).await,
        Route::Permit(ask, device) => fleet_lock::answer(shared, &device, ask, request).await,
        Route::Enrol => {
            let caller = Caller::Device((*peer.identity).clone());
            est::route(shared, &caller, request).await
        }
        Route::TakeUp => Err(Refusal::OtherCertificate.into()),
    }
}

/// What has to wait.
#[derive(Debug, Clone, Copy)]
enum Waits {
    Inventory,
    Receipt,
    View,
}

impl Waits {
    async fn answer(
        self,
        shared: &Shared,
        peer: &Peer,
        device: &Arc<Device>,
        body: Incoming,
    ) -> Result<Response<Body>, Problem> {
        match self {
            Self::Inventory => reports::inventory(shared, peer, body).await,
            Self::Receipt => reports::receipt(shared, peer, body).await,
            Self::View => reports::view(shared, device).await,
        }
    }
}

fn route(shared: &Shared, peer: &Peer, request: &Request<Incoming>) -> Result<Route, Problem> {
    let Some(device) = admit(shared, peer)? else {
        return Ok(Route::TakeUp);
    };
    let path = request.uri().path();
    if path.starts_with(est::WELL_KNOWN) {
        return Ok(Route::Enrol);
    }
    if let Some(file) = path.strip_prefix("/tuf/image/") {
        return match *request.method() {
            Method::GET | Method::HEAD => {
                Ok(match files::serve(shared, peer, &device, file, request)? {
                    Served::Here(response) => Route::Answer(response),
                    Served::Elsewhere(blob) => Route::Fetch(blob, device),
                })
            }
            _ => Err(Problem::method("GET and HEAD")),
        };
    }
    if let Some(file) = path.strip_prefix("/tuf/director/") {
        return match *request.method() {
            Method::GET | Method::HEAD => {
                files::serve_director(shared, &device, file, request).map(Route::Answer)
            }
            _ => Err(Problem::method("GET and HEAD")),
        };
    }
    if let Some(ask) = path
        .strip_prefix(fleet_lock::BASE)
        .and_then(fleet_lock::Ask::of)
    {
        return match *request.method() {
            Method::POST => Ok(Route::Permit(ask, device)),
            _ => Err(Problem::method("POST")),
        };
    }
    let waits = match (path, request.method()) {
        ("/device/v1/inventory", &Method::POST) => Waits::Inventory,
        ("/device/v1/receipts", &Method::POST) => Waits::Receipt,
        ("/device/v1/self", &Method::GET) => Waits::View,
        ("/device/v1/inventory" | "/device/v1/receipts", _) => {
            return Err(Problem::method("POST"));
        }
        ("/device/v1/self", _) => return Err(Problem::method("GET")),
        _ => return Err(Problem::not_found()),
    };
    Ok(Route::Wait(waits, device))
}

/// Whether this device is served at all, and now; nothing where only the store can tell, since its
/// certificate may be the successor of the one that is enrolled.
fn admit(shared: &Shared, peer: &Peer) -> Result<Option<Arc<Device>>, Problem> {
    let identity = &peer.identity;
    if shared.tls.current().is_revoked(identity) {
        return Err(Refusal::Revoked.into());
    }
    let device = peer.device().ok_or(Refusal::Unknown)?;
    let limits = &shared.config.limits;
    let rate = Rate {
        per_minute: limits.requests_per_minute,
        burst: limits.requests_burst,
    };
    let took = device.take(rate, Instant::now());
    match device.admits(identity, shared.now().unix()) {
        // Within the rate, since the store is asked.
        Err(Refusal::OtherCertificate) if took.is_ok() && shared.est.is_some() => return Ok(None),
        Err(refusal) => return Err(refusal.into()),
        Ok(()) => {}
    }
    took.map_err(|secs| Problem::too_many("this device asks more often than it may", secs))?;
    Ok(Some(device.clone()))
}
