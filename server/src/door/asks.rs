//! The way from a request to the questions that the server's own socket answers as well: nothing
//! is decided twice.

use ampoule_protocol::digest::Digest;
use hyper::StatusCode;
use serde_json::Value;

use super::Door;
use super::extract::bad;
use super::who::Who;
use crate::accounts::AccountError;
use crate::admin::{self, Ask, RolloutAsk, Told};
use crate::audit::{Outcome, Record};
use crate::http::problem::Problem;

/// Asks in the name of `who`.
pub(super) async fn ask(door: &Door, ask: &Ask, who: &Who) -> Result<Told, Problem> {
    match admin::recorded(&door.shared, ask, &who.name).await {
        Told::Unknown => Err(Problem::not_found()),
        Told::Failed { what } => Err(Problem::new(StatusCode::CONFLICT, "refused", what)),
        Told::Unavailable { what } => Err(Problem::unavailable("unavailable", &what, 60)),
        told => Ok(told),
    }
}

/// Asks about rollouts; the answer is for programs.
pub(super) async fn about(door: &Door, about: RolloutAsk, who: &Who) -> Result<Value, Problem> {
    match ask(door, &Ask::Rollout(about), who).await? {
        Told::Rollout { value, .. } => Ok(value),
        _ => Err(Problem::not_found()),
    }
}

/// Uses up a code of the person who asks for what `record` names; a wrong one is written down.
pub(super) async fn confirm(
    door: &Door,
    who: &Who,
    code: &str,
    record: Record,
) -> Result<(), Problem> {
    let account = who.person()?;
    let confirmed = door.accounts.confirm(account, code, door.now()).await;
    if let Err(error @ AccountError::Code) = confirmed {
        let record = record.outcome(Outcome::Refused).with("why", "code");
        door.shared.audit.record(record, door.now()).await?;
        return Err(error.into());
    }
    Ok(confirmed?)
}

/// What the person has seen must be what there is.
pub(super) fn is_seen(seen: &str, found: &Digest) -> Result<(), Problem> {
    let seen = Digest::parse(seen).map_err(|_| bad("a digest is written as 64 hex digits"))?;
    if seen == *found {
        return Ok(());
    }
    let detail = format!(
        "this is about {}, and there is {}",
        seen.short(),
        found.short()
    );
    Err(Problem::new(StatusCode::CONFLICT, "other-digest", detail))
}
