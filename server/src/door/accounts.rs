//! `/api/v1/accounts`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use hyper::StatusCode;

use super::asks::confirm;
use super::extract::{Words, bad, json};
use super::who::Who;
use super::words::{Account, Accounts, Invitation, Invite, NewAccount, NewRoles, NewStanding};
use super::{Door, words};
use crate::accounts::{self, AccountName};
use crate::audit::{Act, Record};
use crate::http::problem::Problem;

type Answer = Result<Response, Problem>;

fn shown(name: &str, account: &accounts::Account) -> Account {
    Account {
        account: name.to_owned(),
        roles: account.roles.clone(),
        site: account.site.clone(),
        standing: account.standing,
        made_by: account.made_by.clone(),
        epoch: account.epoch,
    }
}

fn invited(name: &AccountName, invitation: &accounts::Invitation) -> Response {
    json(&Invitation {
        account: name.to_string(),
        invitation: invitation.secret.to_string(),
        until: invitation.until.to_string(),
    })
}

/// All accounts.
#[utoipa::path(get, path = "/api/v1/accounts", tag = "accounts",
    responses((status = 200, body = Accounts), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn list(State(door): State<Arc<Door>>, _: Who) -> Answer {
    let all = door.accounts.list().await?;
    let items = all
        .iter()
        .map(|(name, account)| shown(name, account))
        .collect();
    Ok(json(&Accounts { items }))
}

/// Make an account; its owner takes it into use with the invitation.
#[utoipa::path(post, path = "/api/v1/accounts", request_body = NewAccount, tag = "accounts",
    responses((status = 200, body = Invitation), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn create(
    State(door): State<Arc<Door>>,
    who: Who,
    Words(new): Words<NewAccount>,
) -> Answer {
    let name = AccountName::parse(&new.account).map_err(|error| bad(&error.to_string()))?;
    let record = Record::new(Act::AccountCreate, &*who.name)
        .about("account", &name)
        .with("roles", &new.roles)
        .with("site", &new.site);
    confirm(&door, &who, &new.code, record.clone()).await?;
    let site = new.site.as_deref();
    let making = door
        .accounts
        .create(&name, (&new.roles[..], site), &who.name, door.now());
    let audit = &door.shared.audit;
    let made = audit
        .around(record, || door.now(), making, Result::is_ok)
        .await??;
    Ok(invited(&name, &made))
}

/// The account that somebody changes: another one than their own, and as they have seen it.
async fn to_change(
    door: &Door,
    who: &Who,
    name: &str,
    epoch: u64,
) -> Result<(AccountName, accounts::Account), Problem> {
    let name = AccountName::parse(name).map_err(|_| Problem::not_found())?;
    let found = door
        .accounts
        .find(&name)
        .await?
        .ok_or_else(Problem::not_found)?;
    if who.account.as_ref() == Some(&name) {
        let detail = "nobody changes what their own account may do";
        return Err(Problem::new(StatusCode::FORBIDDEN, "own-account", detail));
    }
    if found.epoch != epoch {
        let detail = format!("this is about change {epoch}, and there is {}", found.epoch);
        return Err(Problem::new(StatusCode::CONFLICT, "other-epoch", detail));
    }
    Ok((name, found))
}

/// Take password and second factor from an account, and invite its owner anew.
#[utoipa::path(post, path = "/api/v1/accounts/{account}/invite",
    params(("account" = String, Path)), request_body = Invite, tag = "accounts",
    responses((status = 200, body = Invitation), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn invite(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
    Words(words): Words<Invite>,
) -> Answer {
    let (name, _) = to_change(&door, &who, &name, words.epoch).await?;
    let record = Record::new(Act::AccountSecret, &*who.name).about("account", &name);
    confirm(&door, &who, &words.code, record.clone()).await?;
    let inviting = door.accounts.invite(&name, door.now());
    let audit = &door.shared.audit;
    let made = audit
        .around(record, || door.now(), inviting, Result::is_ok)
        .await??;
    Ok(invited(&name, &made))
}

/// Change what an account's owner may do; their sessions end.
#[utoipa::path(post, path = "/api/v1/accounts/{account}/roles",
    params(("account" = String, Path)), request_body = NewRoles, tag = "accounts",
    responses((status = 200, body = Account), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn roles(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
    Words(words): Words<NewRoles>,
) -> Answer {
    let (name, before) = to_change(&door, &who, &name, words.epoch).await?;
    let record = Record::new(Act::AccountRoles, &*who.name)
        .about("account", &name)
        .with("before", &before.roles)
        .with("roles", &words.roles)
        .with("site", &words.site);
    confirm(&door, &who, &words.code, record.clone()).await?;
    let site = words.site.as_deref();
    let changing = door.accounts.set_roles(&name, &words.roles, site);
    let audit = &door.shared.audit;
    audit
        .around(record, || door.now(), changing, Result::is_ok)
        .await??;
    now_is(&door, &name).await
}

/// Disable an account, or let it be used again; its sessions end.
#[utoipa::path(post, path = "/api/v1/accounts/{account}/standing",
    params(("account" = String, Path)), request_body = NewStanding, tag = "accounts",
    responses((status = 200, body = Account), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn standing(
    State(door): State<Arc<Door>>,
    who: Who,
    Path(name): Path<String>,
    Words(words): Words<NewStanding>,
) -> Answer {
    let (name, before) = to_change(&door, &who, &name, words.epoch).await?;
    let record = Record::new(Act::AccountStanding, &*who.name)
        .about("account", &name)
        .with("before", before.standing)
        .with("enabled", words.enabled);
    confirm(&door, &who, &words.code, record.clone()).await?;
    let changing = door.accounts.set_enabled(&name, words.enabled);
    let audit = &door.shared.audit;
    audit
        .around(record, || door.now(), changing, Result::is_ok)
        .await??;
    now_is(&door, &name).await
}

async fn now_is(door: &Door, name: &AccountName) -> Answer {
    let account = door
        .accounts
        .find(name)
        .await?
        .ok_or_else(Problem::not_found)?;
    Ok(json(&shown(name.as_str(), &account)))
}
