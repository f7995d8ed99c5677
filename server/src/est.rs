//! Enrolment over Secure Transport (RFC 7030): how a device comes by its certificate, and renews
//! it. The key is made on the device and never leaves it.
//!
//! ```text
//!   GET  /.well-known/est/cacerts         the issuing authority, certs-only CMS
//!   GET  /.well-known/est/csrattrs        204: nothing is asked for but the device's name
//!   POST /.well-known/est/simpleenroll    a first certificate, by one of
//!          a one-time token               HTTP Basic: the device's id and the token
//!          a birth certificate            the manufacturer's; taken where the id is on the list of
//!                                         those authorised, else a person is asked (202)
//!   POST /.well-known/est/simplereenroll  the next certificate, by the one in use
//!   GET  /.well-known/est/crl             what was revoked, PEM; ours, not of the RFC
//! ```
//!
//! All of it is answered on the enrolment listener ([`listen`]), and renewal on the device listener
//! too. Decisions stand in [`decide`], what must be remembered in [`ledger`].
//!
//! Invariants:
//! - The request's signature holds and its name is the one that the caller proved.
//! - A token or an approval serves one key. Asking again with that key is answered again, since an
//!   answer can be lost.
//! - A renewed certificate takes the place of the old one when it is first used ([`take_up`]), not
//!   when it is issued: a device that never got the answer is not locked out.
//! - Whoever was revoked gets nothing here without a new word from an operator.

mod certs_only;
pub mod csr;
mod decide;
pub mod ledger;
pub mod listen;
mod renewal;

use std::path::PathBuf;
use std::time::Instant;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use rustls_pki_types::CertificateDer;
use tokio::sync::Mutex;

use crate::config::Config;
use crate::error::ServerError;
use crate::http::body::Body;
use crate::http::problem::Problem;
use crate::http::read_body;
use crate::identity::Identity;
use crate::pki::Authority;
use crate::secrets::Sealer;
use crate::serve::Shared;

pub use decide::Basic;
pub use renewal::{revoked, take_up};

/// What all paths of the protocol begin with (RFC 7030 section 3.2.2).
pub const WELL_KNOWN: &str = "/.well-known/est/";
/// How long a revocation list is handed out before a new one is made, in seconds.
const CRL_AGE_MAX_SECS: u64 = 5;

/// Who asks, as its certificate says.
#[derive(Debug)]
pub enum Caller {
    /// A certificate of our own authority.
    Device(Identity),
    /// A certificate of the manufacturer's.
    Birth(Identity),
    /// No certificate.
    Nobody,
}

/// What enrolment needs while the server runs.
pub struct Est {
    authority: Authority,
    validity_days: u32,
    authorised: Option<PathBuf>,
    /// One decision at a time: each reads, decides and writes.
    turn: Mutex<()>,
    crl: std::sync::Mutex<Option<(Instant, Bytes)>>,
}

impl Est {
    /// Loads the issuing authority.
    ///
    /// # Errors
    /// Its certificate or key cannot be used.
    pub fn load(config: &Config) -> Result<Option<Self>, ServerError> {
        let Some(est) = &config.est else {
            return Ok(None);
        };
        let sealer = Sealer::configured(config)?;
        Ok(Some(Self {
            authority: Authority::load(&config.enroll, sealer.as_ref())?,
            validity_days: config.enroll.validity_days,
            authorised: est.authorised.clone(),
            turn: Mutex::new(()),
            crl: std::sync::Mutex::new(None),
        }))
    }
}

/// Answers on the enrolment listener.
pub async fn answer(
    shared: &Shared,
    caller: &Caller,
    request: Request<Incoming>,
) -> Response<Body> {
    let answered = match request.uri().path().strip_prefix(WELL_KNOWN) {
        Some(_) => route(shared, caller, request).await,
        None => Err(Problem::not_found()),
    };
    answered.unwrap_or_else(|problem| {
        let mut response = problem.into_response();
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"enrolment\"");
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        response
    })
}

/// Answers a request whose path begins with [`WELL_KNOWN`].
///
/// # Errors
/// The refusal, as the caller is told it.
pub async fn route(
    shared: &Shared,
    caller: &Caller,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let est = shared.est.as_ref().ok_or_else(Problem::not_found)?;
    let name = request.uri().path().strip_prefix(WELL_KNOWN);
    match (name.unwrap_or_default(), request.method()) {
        ("cacerts", &Method::GET) => certificates(&[est.authority.certificate()]),
        ("csrattrs", &Method::GET) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        ("crl", &Method::GET) => renewal::list(shared, est).await.map(pem),
        ("simpleenroll", &Method::POST) => {
            let basic = Basic::of(request.headers());
            let csr = csr_of(shared, request).await?;
            let der = decide::first(shared, est, caller, basic.as_ref(), &csr).await?;
            certificates(&[der])
        }
        ("simplereenroll", &Method::POST) => {
            let csr = csr_of(shared, request).await?;
            let der = decide::next(shared, est, caller, &csr).await?;
            certificates(&[der])
        }
        ("cacerts" | "csrattrs" | "crl", _) => Err(Problem::method("GET")),
        ("simpleenroll" | "simplereenroll", _) => Err(Problem::method("POST")),
        _ => Err(Problem::not_found()),
    }
}

async fn csr_of(shared: &Shared, request: Request<Incoming>) -> Result<csr::Csr, Problem> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/pkcs10") {
        let detail = format!("the body is {kind:?}, expected application/pkcs10");
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return Err(Problem::new(status, "not-pkcs10", detail));
    }
    let body = read_body(shared, request.into_body()).await?;
    csr::Csr::of_body(&body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "bad-request-for-certificate",
            error.to_string(),
        )
    })
}

fn certificates(list: &[CertificateDer<'_>]) -> Result<Response<Body>, Problem> {
    let text = certs_only::message(list).ok_or_else(|| {
        Problem::unavailable(
            "authority-unreadable",
            "the authority's certificate is bad",
            60,
        )
    })?;
    let mut response = Response::new(Body::full(text.into()));
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("application/pkcs7-mime; smime-type=certs-only");
    headers.insert(CONTENT_TYPE, kind);
    let base64 = HeaderValue::from_static("base64");
    headers.insert("content-transfer-encoding", base64);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn pem(bytes: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(bytes));
    let kind = HeaderValue::from_static("application/x-pem-file");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
