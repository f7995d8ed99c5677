//! Coming in and going out: `/api/v1/login`, `logout`, `whoami`, `password`, `accept`, `activate`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use zeroize::Zeroizing;

use super::extract::{Words, bad, json};
use super::who::Who;
use super::words::{Accept, Activate, LoggedIn, Login, Myself, NewPassword, RecoveryCodes, Seed};
use super::{Door, words};
use crate::accounts::{AccountError, AccountName, Second};
use crate::audit::{Act, Outcome, Record};
use crate::http::problem::Problem;

type Answer = Result<Response, Problem>;

/// A name that cannot be is as wrong as one that is not.
fn named(text: &str) -> Result<AccountName, Problem> {
    AccountName::parse(text).map_err(|_| AccountError::Wrong.into())
}

/// Begin a session.
#[utoipa::path(post, path = "/api/v1/login", request_body = Login, tag = "sessions",
    responses((status = 200, body = LoggedIn), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn login(State(door): State<Arc<Door>>, Words(login): Words<Login>) -> Answer {
    let account = named(&login.account)?;
    let second = match (login.code, login.recovery) {
        (Some(code), None) => Second::Code(code),
        (None, Some(code)) => Second::Recovery(code),
        _ => return Err(bad("either a code or a recovery code")),
    };
    let now = door.now();
    let entered = door
        .accounts
        .login(&account, Zeroizing::new(login.password), &second, now)
        .await;
    let by = format!("account:{account}");
    let record = Record::new(Act::Login, by).about("account", &account);
    let record = match second {
        Second::Code(_) => record,
        Second::Recovery(_) => record.with("by", "recovery-code"),
    };
    match entered {
        Ok(entered) => {
            // Where the log cannot be written nobody comes in.
            door.shared.audit.record(record, now).await?;
            Ok(json(&LoggedIn {
                session: entered.id.to_string(),
                until: entered.until.to_string(),
                account: account.to_string(),
                recovery_left: entered.account.recovery_left(),
                roles: entered.account.roles,
            }))
        }
        Err(error) => {
            // Names that there are not, and attempts while an account rests, would fill the log.
            let known = matches!(error, AccountError::Wrong) && {
                door.accounts.find(&account).await?.is_some()
            };
            if known {
                let record = record.outcome(Outcome::Refused);
                door.shared.audit.record(record, now).await?;
            }
            Err(error.into())
        }
    }
}

/// End the session.
#[utoipa::path(post, path = "/api/v1/logout", tag = "sessions",
    responses((status = 200, body = Myself), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn logout(State(door): State<Arc<Door>>, who: Who) -> Answer {
    if let Some(session) = &who.session {
        door.accounts.logout(session).await?;
        let record = Record::new(Act::Logout, &*who.name);
        door.shared.audit.record(record, door.now()).await?;
    }
    Ok(json(&myself(&who)))
}

fn myself(who: &Who) -> Myself {
    Myself {
        name: who.name.clone(),
        roles: who.roles.clone(),
        site: who.site.clone(),
    }
}

/// Who asks.
#[utoipa::path(get, path = "/api/v1/whoami", tag = "sessions",
    responses((status = 200, body = Myself), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn whoami(who: Who) -> Answer {
    Ok(json(&myself(&who)))
}

/// Change one's own password; all of one's sessions end.
#[utoipa::path(post, path = "/api/v1/password", request_body = NewPassword, tag = "sessions",
    responses((status = 200, body = Myself), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn password(
    State(door): State<Arc<Door>>,
    who: Who,
    Words(words): Words<NewPassword>,
) -> Answer {
    let account = who.person()?;
    let (old, new) = (Zeroizing::new(words.old), Zeroizing::new(words.new));
    let record = Record::new(Act::AccountSecret, &*who.name).about("account", account);
    let changing = door
        .accounts
        .set_password(account, (old, words.code.as_str()), new, door.now());
    let audit = &door.shared.audit;
    audit
        .around(record, || door.now(), changing, Result::is_ok)
        .await??;
    Ok(json(&myself(&who)))
}

/// Take up an invitation: choose a password, and get the seed of the second factor.
#[utoipa::path(post, path = "/api/v1/accept", request_body = Accept, tag = "sessions",
    responses((status = 200, body = Seed), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn accept(State(door): State<Arc<Door>>, Words(words): Words<Accept>) -> Answer {
    let account = named(&words.account)?;
    let password = Zeroizing::new(words.password);
    let accepted = door
        .accounts
        .accept(&account, &words.invitation, password, door.now())
        .await?;
    Ok(json(&Seed {
        secret: accepted.secret.to_string(),
        address: accepted.address.to_string(),
    }))
}

/// The first code: the account is in use from then on.
#[utoipa::path(post, path = "/api/v1/activate", request_body = Activate, tag = "sessions",
    responses((status = 200, body = RecoveryCodes), (status = "default", body = words::Problem,
        content_type = "application/problem+json")))]
pub(super) async fn activate(
    State(door): State<Arc<Door>>,
    Words(words): Words<Activate>,
) -> Answer {
    let account = named(&words.account)?;
    let now = door.now();
    let codes = door
        .accounts
        .activate(&account, &words.invitation, &words.code, now)
        .await?;
    let by = format!("account:{account}");
    let record = Record::new(Act::AccountActivate, by).about("account", &account);
    door.shared.audit.record(record, now).await?;
    let codes = codes.iter().map(|code| code.to_string()).collect();
    Ok(json(&RecoveryCodes { codes }))
}
