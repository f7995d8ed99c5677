//! Which right each route needs. A route that is not here is answered to nobody.

use super::roles::Right;

/// What a route asks of whoever comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing: it is the way in, or tells nothing.
    Nothing,
    /// To be somebody.
    Anybody,
    /// To have this right.
    Right(Right),
}

/// Method and route, as the OpenAPI document spells them.
pub const NEEDS: &[(&str, &str, Need)] = &[
    ("GET", "/healthz", Need::Nothing),
    ("GET", "/readyz", Need::Nothing),
    ("GET", "/metrics", Need::Right(Right::ReadMetrics)),
    ("GET", "/api/v1/openapi.json", Need::Nothing),
    ("POST", "/api/v1/login", Need::Nothing),
    ("POST", "/api/v1/accept", Need::Nothing),
    ("POST", "/api/v1/activate", Need::Nothing),
    ("POST", "/api/v1/logout", Need::Anybody),
    ("GET", "/api/v1/whoami", Need::Anybody),
    ("POST", "/api/v1/password", Need::Anybody),
    ("GET", "/api/v1/devices", Need::Right(Right::ReadDevices)),
    ("POST", "/api/v1/devices", Need::Right(Right::EnrollDevice)),
    (
        "GET",
        "/api/v1/devices/{device}",
        Need::Right(Right::ReadDevices),
    ),
    (
        "GET",
        "/api/v1/devices/{device}/why",
        Need::Right(Right::ReadDevices),
    ),
    (
        "PUT",
        "/api/v1/devices/{device}/tags",
        Need::Right(Right::TagDevice),
    ),
    (
        "POST",
        "/api/v1/devices/{device}/revoke",
        Need::Right(Right::RevokeDevice),
    ),
    (
        "POST",
        "/api/v1/devices/{device}/decommission",
        Need::Right(Right::RevokeDevice),
    ),
    ("GET", "/api/v1/permits", Need::Right(Right::ReadDevices)),
    ("GET", "/api/v1/rollouts", Need::Right(Right::ReadRollouts)),
    (
        "POST",
        "/api/v1/rollouts",
        Need::Right(Right::CreateRollout),
    ),
    (
        "POST",
        "/api/v1/rollouts/dry-run",
        Need::Right(Right::TryRollout),
    ),
    (
        "GET",
        "/api/v1/rollouts/{rollout}",
        Need::Right(Right::ReadRollouts),
    ),
    (
        "POST",
        "/api/v1/rollouts/{rollout}/approve",
        Need::Right(Right::ApproveRollout),
    ),
    (
        "POST",
        "/api/v1/rollouts/{rollout}/pause",
        Need::Right(Right::PauseRollout),
    ),
    (
        "POST",
        "/api/v1/rollouts/{rollout}/resume",
        Need::Right(Right::ResumeRollout),
    ),
    (
        "POST",
        "/api/v1/rollouts/{rollout}/abort",
        Need::Right(Right::AbortRollout),
    ),
    (
        "POST",
        "/api/v1/rollouts/{rollout}/retry",
        Need::Right(Right::RetryRollout),
    ),
    ("GET", "/api/v1/accounts", Need::Right(Right::ReadAccounts)),
    (
        "POST",
        "/api/v1/accounts",
        Need::Right(Right::CreateAccount),
    ),
    (
        "POST",
        "/api/v1/accounts/{account}/invite",
        Need::Right(Right::CreateAccount),
    ),
    (
        "POST",
        "/api/v1/accounts/{account}/roles",
        Need::Right(Right::ChangeAccount),
    ),
    (
        "POST",
        "/api/v1/accounts/{account}/standing",
        Need::Right(Right::ChangeAccount),
    ),
    (
        "GET",
        "/api/v1/audit/checkpoint",
        Need::Right(Right::ReadAudit),
    ),
    ("GET", "/api/v1/audit/key", Need::Right(Right::ReadAudit)),
    (
        "GET",
        "/api/v1/audit/witnesses",
        Need::Right(Right::ReadAudit),
    ),
    (
        "GET",
        "/api/v1/audit/cosigned/{id}",
        Need::Right(Right::ReadAudit),
    ),
    (
        "POST",
        "/api/v1/audit/cosignatures",
        Need::Right(Right::CosignAudit),
    ),
    (
        "GET",
        "/api/v1/audit/tile/{path}",
        Need::Right(Right::ReadAudit),
    ),
];

/// What this route needs; `None` where it is not answered.
pub fn need(method: &str, route: &str) -> Option<Need> {
    // The router's own spelling of a path that goes on.
    let route = route.replace("{*", "{");
    let known = NEEDS
        .iter()
        .find(|(known, path, _)| *known == method && *path == route);
    known.map(|(_, _, need)| *need)
}
