//! What comes in a request, and how answers go out: JSON with bounds, and problems.

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::who::Who;
use super::{BODY_LEN_MAX, Door};
use crate::audit::note::NOTE_LEN_MAX;
use crate::http::problem::Problem;

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (parts, body) = Problem::into_response(self).into_parts();
        Response::from_parts(parts, axum::body::Body::new(body))
    }
}

impl FromRequestParts<Arc<Door>> for Who {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Door>) -> Result<Self, Problem> {
        let who = parts.extensions.get::<Self>().cloned();
        who.ok_or_else(Problem::not_found)
    }
}

/// A body of JSON.
pub(super) struct Words<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Door>> for Words<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Arc<Door>) -> Result<Self, Problem> {
        let body = body(request, door, BODY_LEN_MAX).await?;
        read(&body).map(Self)
    }
}

/// A body that is a signed note.
pub(super) struct Noted(pub(super) Bytes);

impl FromRequest<Arc<Door>> for Noted {
    type Rejection = Problem;

    async fn from_request(request: Request, door: &Arc<Door>) -> Result<Self, Problem> {
        body(request, door, NOTE_LEN_MAX).await.map(Self)
    }
}

/// The whole body, as long as it is short enough and comes in time.
async fn body(request: Request, door: &Door, len_max: usize) -> Result<Bytes, Problem> {
    let limits = &door.shared.config.limits;
    let body = Limited::new(request.into_body(), len_max).collect();
    match tokio::time::timeout(limits.body_timeout, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::too_large(len_max)),
        Ok(Err(_)) => Err(bad("the body ended before it was whole")),
        Err(_) => {
            let detail = "the body did not come in time";
            Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-slow",
                detail,
            ))
        }
    }
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| bad(&format!("the body is not as it should be: {error}")))
}

pub(super) fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request", detail)
}

/// The part of an address behind the question mark.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Door>> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Door>) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri);
        query
            .map(|Query(query)| Self(query))
            .map_err(|error| bad(&format!("the question is not as it should be: {error}")))
    }
}

/// An answer in JSON.
pub(super) fn json<T: Serialize>(words: &T) -> Response {
    let text = serde_json::to_vec(words).unwrap_or_default();
    let mut response = Response::new(axum::body::Body::from(text));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
