//! `/api/v1/rollouts`.

use std::sync::Arc;

use ampoule_protocol::digest::Digest;
use axum::extract::{Path, State};
use axum::response::Response;
use hyper::StatusCode;

use super::asks::{about, confirm, is_seen};
use super::extract::{Asked, Words, bad, json};
use super::page::of_rows;
use super::roles::Right;
use super::who::Who;
use super::words::{Confirmed, More, Page, PlanText, Rollouts};
use super::{Door, words};
use crate::admin::RolloutAsk;
use crate::audit::{self, Record};
use crate::http::problem::Problem;
use crate::rollout::chain::{Step, taken_by};
use crate::rollout::{Act, Plan, RolloutId};

type Answer = Result<Response, Problem>;

fn id(text: &str) -> Result<RolloutId, Problem> {
    RolloutId::parse(text).map_err(|_| Problem::not_found())
}

fn two_steps(who: &Who, taken: Step, wanted: Step) -> Problem {
    let detail = format!(
        "{} {} this rollout and cannot {} it too: nobody takes two steps of one chain",
        who.name,
        taken.done(),
        wanted.word()
    );
    Problem::new(StatusCode::FORBIDDEN, "two-steps", detail)
}

/// The digest of a rollout's plan, and whether `who` may take this step of its chain.
fn may_step(door: &Door, who: &Who, name: &RolloutId, step: Step) -> Result<Digest, Problem> {
    let state = door.shared.rollouts.state();
    let rollout = state.book().rollout(name).ok_or_else(Problem::not_found)?;
    if let Some(taken) = taken_by(rollout, who.bare(), step) {
        return Err(two_steps(who, taken, step));
    }
    Ok(rollout.plan.digest())
}

fn exists(door: &Door, name: &RolloutId) -> Result<(), Problem> {
    let state = door.shared.rollouts.state();
    state
        .book()
        .rollout(name)
        .map(drop)
        .ok_or_else(Problem::not_found)
}

/// Rollouts, by name.
#[utoipa::path(get, path = "/api/v1/rollouts", params(Page), tag = "rollouts",
    responses((status = 200, body = Rollouts), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    who: Who,
    Asked(page): Asked<Page>,
) -> Answer {
    let all = about(&door, RolloutAsk::List, &who).await?;
    let (items, next) = of_rows(all, page, "name", |_| true)?;
    Ok(json(&Rollouts { items, next }))
}

/// One rollout.
#[utoipa::path(get, path = "/api/v1/rollouts/{rollout}", params(("rollout" = String, Path), More),
    tag = "rollouts",
    responses((status = 200, body = Object), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn show(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
    Asked(more): Asked<More>,
) -> Answer {
    let name = id(&name)?;
    exists(&door, &name)?;
    // A device is named in it, of whatever site.
    let waits = more.waits && who.bound_to(Right::ReadDevices).is_none();
    let ask = RolloutAsk::Show { name, waits };
    Ok(json(&about(&door, ask, &who).await?))
}

fn plan(text: &str) -> Result<Plan, Problem> {
    Plan::parse(text)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "bad-plan", error.to_string()))
}

/// Make a rollout from a plan; its author is whoever asks.
#[utoipa::path(post, path = "/api/v1/rollouts", request_body = PlanText, tag = "rollouts",
    responses((status = 200, body = Object), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn create(
    State(door): State<Arc<Door>>,
    who: Who,
    Words(text): Words<PlanText>,
) -> Answer {
    let plan = plan(&text.plan)?;
    if plan.author != who.bare() {
        let detail = format!(
            "the plan names {:?} as its author, and you are {}",
            plan.author, who.name
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, "other-author", detail));
    }
    if plan.approvals == 0 {
        let detail = "the plan asks for no approval: then its author would start it as well";
        return Err(Problem::new(StatusCode::FORBIDDEN, "no-approval", detail));
    }
    let ask = RolloutAsk::Create {
        plan: text.plan,
        dry_run: false,
    };
    Ok(json(&about(&door, ask, &who).await?))
}

/// Say what a plan would do to the recorded fleet, and change nothing.
#[utoipa::path(post, path = "/api/v1/rollouts/dry-run", request_body = PlanText, tag = "rollouts",
    responses((status = 200, body = Object), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn dry_run(
    State(door): State<Arc<Door>>,
    who: Who,
    Words(text): Words<PlanText>,
) -> Answer {
    plan(&text.plan)?;
    let ask = RolloutAsk::Create {
        plan: text.plan,
        dry_run: true,
    };
    Ok(json(&about(&door, ask, &who).await?))
}

async fn act(door: &Door, who: &Who, name: RolloutId, act: Act) -> Answer {
    Ok(json(
        &about(door, RolloutAsk::Act { name, act }, who).await?,
    ))
}

/// An act that needs a fresh code and the digest of the plan that was read.
async fn confirmed(
    door: &Door,
    who: &Who,
    (name, step): (&str, Step),
    words: &Confirmed,
) -> Result<(RolloutId, Digest), Problem> {
    let name = id(name)?;
    let digest = may_step(door, who, &name, step)?;
    is_seen(&words.plan, &digest)?;
    let kind = match step {
        Step::Approve => audit::Act::RolloutApprove,
        Step::Resume => audit::Act::RolloutResume,
        Step::Retry => audit::Act::RolloutRetry,
        Step::Make => return Err(bad("a plan is made, not confirmed")),
    };
    let record = Record::new(kind, &*who.name)
        .about("rollout", &name)
        .digest(digest);
    confirm(door, who, &words.code, record).await?;
    Ok((name, digest))
}

/// Approve the plan that was read.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout}/approve", params(("rollout" = String, Path)),
    request_body = Confirmed, tag = "rollouts",
    responses((status = 200, body = Object), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn approve(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
    Words(words): Words<Confirmed>,
) -> Answer {
    let (name, plan) = confirmed(&door, &who, (name.as_str(), Step::Approve), &words).await?;
    let by = who.bare().to_owned();
    act(&door, &who, name, Act::Approve { by, plan }).await
}

/// Stop it from spreading; offers stand.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout}/pause", params(("rollout" = String, Path)),
    tag = "rollouts",
    responses((status = 200, body = Object), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn pause(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
) -> Answer {
    let name = id(&name)?;
    exists(&door, &name)?;
    act(&door, &who, name, Act::Pause).await
}

/// End it; offers that were not begun are taken back.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout}/abort", params(("rollout" = String, Path)),
    tag = "rollouts",
    responses((status = 200, body = Object), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn abort(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
) -> Answer {
    let name = id(&name)?;
    exists(&door, &name)?;
    act(&door, &who, name, Act::Abort).await
}

/// Let a paused or halted one go on.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout}/resume", params(("rollout" = String, Path)),
    request_body = Confirmed, tag = "rollouts",
    responses((status = 200, body = Object), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn resume(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
    Words(words): Words<Confirmed>,
) -> Answer {
    let (name, _) = confirmed(&door, &who, (name.as_str(), Step::Resume), &words).await?;
    act(&door, &who, name, Act::Resume).await
}

/// Offer the release once more to devices that failed.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout}/retry", params(("rollout" = String, Path)),
    request_body = Confirmed, tag = "rollouts",
    responses((status = 200, body = Object), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn retry(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
    Words(words): Words<Confirmed>,
) -> Answer {
    let (name, _) = confirmed(&door, &who, (name.as_str(), Step::Retry), &words).await?;
    act(&door, &who, name, Act::Retry).await
}
