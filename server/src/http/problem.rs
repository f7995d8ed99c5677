//! What a device is told when it is not served: `application/problem+json` (RFC 9457).
//!
//! `code` is stable and kebab-case; `detail` is for people and names the place of a fault.

use ampoule_protocol::device::ReportError;
use ampoule_protocol::error::Coded;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use crate::audit::AuditError;
use crate::fleet::Refusal;
use crate::store::StoreError;

/// One refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    retry_after_secs: Option<u64>,
}

#[derive(Serialize)]
struct Words<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
}

impl Problem {
    /// A refusal with a stable code and a sentence.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            retry_after_secs: None,
        }
    }

    /// There is no such thing here.
    pub fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "there is nothing of that name",
        )
    }

    /// The thing is there, and takes other methods.
    pub fn method(allowed: &str) -> Self {
        let detail = format!("only {allowed} is answered here");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
    }

    /// A body beyond its bound.
    pub fn too_large(max: usize) -> Self {
        let detail = format!("the body is longer than the {max} bytes that are taken");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail)
    }

    /// A range outside the file.
    pub fn range(len: u64) -> Self {
        let detail = format!("the file has {len} bytes");
        Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            "range-not-satisfiable",
            detail,
        )
    }

    /// Too many requests.
    pub fn too_many(what: &str, retry_after_secs: u64) -> Self {
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", what);
        Self {
            retry_after_secs: Some(retry_after_secs),
            ..problem
        }
    }

    /// A person has to decide first (202).
    pub fn waits(detail: &str, retry_after_secs: u64) -> Self {
        let problem = Self::new(StatusCode::ACCEPTED, "enrolment-waits", detail);
        Self {
            retry_after_secs: Some(retry_after_secs),
            ..problem
        }
    }

    /// We cannot now.
    pub fn unavailable(code: &'static str, detail: &str, retry_after_secs: u64) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Self {
            retry_after_secs: Some(retry_after_secs),
            ..problem
        }
    }

    /// Another server may have said something newer to this device.
    pub fn behind() -> Self {
        let detail = "this server is behind the others; ask again";
        Self::unavailable("server-behind", detail, 5)
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }

    /// The sentence.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// Whether the connection should end with it.
    pub fn ends_connection(&self) -> bool {
        matches!(
            self.status,
            StatusCode::FORBIDDEN | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT
        )
    }

    /// The answer.
    pub fn into_response(self) -> Response<Body> {
        let words = Words {
            r#type: format!("urn:ampoule:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Problem"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
        };
        let text = serde_json::to_vec(&words).unwrap_or_default();
        let mut response = Response::new(Body::full(text.into()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (code, detail) = match refusal {
            Refusal::Unknown => ("unknown-device", "this device is not enrolled here"),
            Refusal::Revoked => ("device-revoked", "this device was revoked"),
            Refusal::OtherCertificate => (
                "certificate-not-enrolled",
                "this device is enrolled with another certificate",
            ),
            Refusal::Lapsed => ("certificate-lapsed", "the certificate has ended"),
        };
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }
}

impl From<ReportError> for Problem {
    fn from(error: ReportError) -> Self {
        let status = match &error {
            ReportError::TooLong(_) => StatusCode::PAYLOAD_TOO_LARGE,
            ReportError::Envelope(_) | ReportError::Form(_) | ReportError::Bound(_) => {
                StatusCode::BAD_REQUEST
            }
            ReportError::Unsigned => StatusCode::FORBIDDEN,
        };
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
        let detail = format!("{error}{}", cause.unwrap_or_default());
        Self::new(status, error.code(), detail)
    }
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Busy => {
                Self::unavailable("busy", "more waits to be written down than can be now", 5)
            }
            _ => Self::unavailable("audit-unavailable", "nothing can be written down now", 60),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                Self::unavailable("busy", "more reports wait than can be written now", 5)
            }
            _ => Self::unavailable("store-unavailable", "reports cannot be written now", 60),
        }
    }
}
