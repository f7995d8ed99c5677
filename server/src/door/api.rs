//! The routes, and the OpenAPI document, which is made of them: a route that is not in the
//! document is not routed.

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use axum::{Router, extract::State};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::extract::json;
use super::who::Who;
use super::words::Health;
use super::{BODY_LEN_MAX, Door, accounts, audit, devices, rollouts, session, who, words};
use crate::http::problem::Problem;
use crate::to_its_end::to_its_end;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ampoule operators' API",
        description = "Every refusal is application/problem+json with a stable code.",
        license(name = "MIT OR Apache-2.0")
    ),
    components(schemas(words::Problem)),
    modifiers(&Bearer),
    security(("session" = []))
)]
struct Document;

/// How a person shows their session.
struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("session", SecurityScheme::Http(scheme));
    }
}

fn described() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(openapi))
        .routes(routes!(session::login))
        .routes(routes!(session::logout))
        .routes(routes!(session::whoami))
        .routes(routes!(session::password))
        .routes(routes!(session::accept))
        .routes(routes!(session::activate))
        .routes(routes!(devices::list, devices::enroll))
        .routes(routes!(devices::show))
        .routes(routes!(devices::why))
        .routes(routes!(devices::tag))
        .routes(routes!(devices::revoke))
        .routes(routes!(devices::decommission))
        .routes(routes!(devices::permits))
        .routes(routes!(rollouts::list, rollouts::create))
        .routes(routes!(rollouts::dry_run))
        .routes(routes!(rollouts::show))
        .routes(routes!(rollouts::approve))
        .routes(routes!(rollouts::pause))
        .routes(routes!(rollouts::resume))
        .routes(routes!(rollouts::abort))
        .routes(routes!(rollouts::retry))
        .routes(routes!(accounts::list, accounts::create))
        .routes(routes!(accounts::invite))
        .routes(routes!(accounts::roles))
        .routes(routes!(accounts::standing))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(audit::key))
        .routes(routes!(audit::witnesses))
        .routes(routes!(audit::cosigned))
        .routes(routes!(audit::cosign))
}

/// The OpenAPI document, JSON.
pub fn document() -> String {
    let mut document = described().into_openapi();
    // A path that goes on is not known to OpenAPI; the router has it under another spelling.
    let tile: OpenApiRouter<Arc<Door>> = OpenApiRouter::new().routes(routes!(audit::tile));
    document.merge(tile.into_openapi());
    let text = document.to_pretty_json().expect("a document is plain data");
    format!("{text}\n")
}

/// The routes, each behind the guard.
pub(super) fn router(door: Arc<Door>) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .route(
            "/api/v1/audit/tile/{*path}",
            axum::routing::get(audit::tile),
        )
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .route_layer(from_fn_with_state(door.clone(), who::guard))
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .layer(from_fn(|request, next: Next| to_its_end(next.run(request))))
        .with_state(door)
}

async fn nothing() -> Problem {
    Problem::not_found()
}

async fn other_method() -> Problem {
    Problem::method("another method")
}

/// Whether the server runs.
#[utoipa::path(get, path = "/healthz", tag = "server", security(()),
    responses((status = 200, body = Health)))]
async fn healthz() -> Response {
    json(&Health {
        status: "ok".into(),
    })
}

/// Whether it can do what it is asked: the audit log takes entries.
#[utoipa::path(get, path = "/readyz", tag = "server", security(()),
    responses((status = 200, body = Health), (status = 503, body = words::Problem,
        content_type = "application/problem+json")))]
async fn readyz(State(door): State<Arc<Door>>) -> Result<Response, Problem> {
    if door.shared.audit.is_broken() {
        let detail = "the audit log takes no entries";
        return Err(Problem::unavailable("audit-unavailable", detail, 60));
    }
    Ok(json(&Health {
        status: "ok".into(),
    }))
}

/// What the server counts, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "server",
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = words::Problem, content_type = "application/problem+json")))]
async fn metrics(State(door): State<Arc<Door>>, _: Who) -> Result<Response, Problem> {
    // Every row is looked at: not on the thread that answers the others.
    let read = move || crate::metrics::text(&door.shared);
    let unreadable = |_| Problem::unavailable("metrics-unavailable", "they cannot be read now", 5);
    let page = tokio::task::spawn_blocking(read)
        .await
        .map_err(unreadable)?;
    let mut response = Response::new(axum::body::Body::from(page));
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "server", security(()),
    responses((status = 200, body = Object)))]
async fn openapi() -> Response {
    let text = document();
    let words: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    json(&words)
}
