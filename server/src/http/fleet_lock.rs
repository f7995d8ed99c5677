//! `/fleetlock/v1/…`: a device asks before it leaves service for reasons of its own, and says when it
//! is back. The words are FleetLock's (the protocol document of coreos/zincati), so that agents of
//! the field can ask as they are; refusals are FleetLock's too, `{"kind", "value"}`.
//!
//! ```text
//!   POST v1/pre-reboot     200 it holds a permit | 409 its ward has none left
//!   POST v1/steady-state   200 it holds none
//! ```
//!
//! Both may be asked again and again. The holder is the device of the certificate: what it calls
//! itself is written down, and nothing depends on it.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::body::Body;
use super::problem::Problem;
use super::reports::{json, let_pass, read};
use crate::fleet::Device;
use crate::rollout::lock::{LockAsk, NotLocked};
use crate::rollouts::TickError;
use crate::rollouts::locks::LockError;
use crate::serve::Shared;

/// Where it lies.
pub(super) const BASE: &str = "/fleetlock/v1/";
/// A request without it was perhaps led here by mistake.
const HEADER: &str = "fleet-lock-protocol";
/// Bytes of what a device calls itself, and of its group.
const NAME_LEN_MAX: usize = 128;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    PreReboot,
    SteadyState,
}

impl Ask {
    /// By the path behind [`BASE`].
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "pre-reboot" => Some(Self::PreReboot),
            "steady-state" => Some(Self::SteadyState),
            _ => None,
        }
    }
}

#[derive(Deserialize)]
struct Words {
    client_params: Client,
}

#[derive(Deserialize)]
struct Client {
    id: String,
    group: String,
}

/// A refusal.
#[derive(Debug, Serialize)]
struct Refused {
    #[serde(skip)]
    status: StatusCode,
    kind: &'static str,
    value: String,
}

impl Refused {
    fn new(status: StatusCode, kind: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        Self {
            status,
            kind,
            value,
        }
    }
}

/// Answers one request of a device that was admitted.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    device: &Arc<Device>,
    ask: Ask,
    request: Request<Incoming>,
) -> Result<Response<Body>, Problem> {
    let is_meant = request
        .headers()
        .get(HEADER)
        .is_some_and(|value| value == "true");
    let mut body = request.into_body();
    let answered = if is_meant {
        let body = read(shared, body).await?;
        match parse(&body) {
            Ok(client) => carry_out(shared, device, ask, client).await,
            Err(refused) => Err(refused),
        }
    } else {
        let_pass(shared, &mut body).await;
        let value = "the header \"fleet-lock-protocol: true\" is missing";
        Err(Refused::new(
            StatusCode::BAD_REQUEST,
            "missing_header",
            value,
        ))
    };
    match answered {
        Ok(()) => Ok(Response::new(Body::empty())),
        Err(refused) => Ok(response(&refused)),
    }
}

fn parse(body: &[u8]) -> Result<Client, Refused> {
    let bad = |value: String| Refused::new(StatusCode::BAD_REQUEST, "bad_request", value);
    let words: Words = serde_json::from_slice(body)
        .map_err(|error| bad(format!("the body is not FleetLock's: {error}")))?;
    let Client { id, group } = words.client_params;
    if !(1..=NAME_LEN_MAX).contains(&id.len()) || id.chars().any(char::is_control) {
        let value = "\"id\" is not 1 to 128 bytes of text without control characters";
        return Err(bad(value.into()));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    if !(1..=NAME_LEN_MAX).contains(&group.len()) || !group.bytes().all(fits) {
        let value = "\"group\" is not 1 to 128 letters, digits, dots and hyphens";
        return Err(bad(value.into()));
    }
    Ok(Client { id, group })
}

async fn carry_out(
    shared: &Shared,
    device: &Device,
    ask: Ask,
    client: Client,
) -> Result<(), Refused> {
    let Some(director) = &shared.config.director else {
        let value = "the server has no [director], so nobody counts permits here";
        return Err(Refused::new(StatusCode::NOT_FOUND, "no_director", value));
    };
    let row = device.row();
    let who = (row.number, &row.device);
    match ask {
        Ask::PreReboot => {
            let secs = u32::try_from(director.lock.as_secs()).unwrap_or(u32::MAX);
            let Client { id, group } = client;
            let ask = LockAsk { id, group, secs };
            let locking = shared
                .rollouts
                .lock(&shared.writer, who, &ask, shared.now());
            Ok(locking.await?)
        }
        Ask::SteadyState => {
            let unlocking = shared.rollouts.unlock(&shared.writer, who, shared.now());
            Ok(unlocking.await?)
        }
    }
}

impl From<LockError> for Refused {
    fn from(error: LockError) -> Self {
        let (status, kind) = match &error {
            LockError::Not(NotLocked::Full(_)) => {
                (StatusCode::CONFLICT, "failed_lock_semaphore_full")
            }
            LockError::Not(NotLocked::Group { .. }) => (StatusCode::FORBIDDEN, "unknown_group"),
            LockError::Not(NotLocked::Unknown) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not_known_yet")
            }
            LockError::Store(_) | LockError::Audit(_) => return unavailable(),
        };
        Self::new(status, kind, error.to_string())
    }
}

impl From<TickError> for Refused {
    fn from(_: TickError) -> Self {
        unavailable()
    }
}

/// The server's own looks meet the same fault and log it; a device can only ask again.
fn unavailable() -> Refused {
    let value = "permits cannot be written down now; ask again";
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", value)
}

fn response(refused: &Refused) -> Response<Body> {
    let mut response = json(refused);
    *response.status_mut() = refused.status;
    response
}
