//! Who comes, and whether they may: asked before every request, in one place.
//!
//! A session (`Authorization: Bearer`) names a person; a client certificate names a program, with
//! one role in its URI `urn:ampoule:operator:<role>:<name>`. A request with a session is that
//! person's, whatever certificate its connection has.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::AUTHORIZATION;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Door;
use super::rights::{Need, need};
use super::roles::{Right, Role};
use crate::accounts::AccountName;
use crate::http::problem::Problem;

/// What comes before role and name in a program's certificate.
const URN: &str = "urn:ampoule:operator:";

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Who {
    /// `account:bob` or `certificate:ci-1`, as the audit log has it.
    pub(super) name: String,
    /// The account of a person.
    pub(super) account: Option<AccountName>,
    /// The session's id.
    pub(super) session: Option<String>,
    /// What they may do.
    pub(super) roles: Vec<Role>,
    /// The only site whose devices they see.
    pub(super) site: Option<String>,
}

impl Who {
    /// The account of a person.
    ///
    /// # Errors
    /// It is a program.
    pub(super) fn person(&self) -> Result<&AccountName, Problem> {
        self.account.as_ref().ok_or_else(|| {
            let detail = "this needs a person with a second factor; a certificate has none";
            Problem::new(StatusCode::FORBIDDEN, "needs-person", detail)
        })
    }

    /// The name alone, as it stands in plans.
    pub(super) fn bare(&self) -> &str {
        self.name.split_once(':').map_or("", |(_, name)| name)
    }

    /// The site to which this right is bound; `None` where it is not bound.
    pub(super) fn bound_to(&self, right: Right) -> Option<&str> {
        let free = |role: &Role| *role != Role::Site && role.may(right);
        if self.roles.iter().any(free) {
            return None;
        }
        // Somebody of a site that is not named sees nothing.
        Some(self.site.as_deref().unwrap_or_default())
    }
}

/// The client certificate of a connection.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) not_after: i64,
}

impl Program {
    /// What a verified certificate says; `None` where it names no operator of ours.
    pub(super) fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        let uri = names
            .value
            .general_names
            .iter()
            .find_map(|name| match name {
                GeneralName::URI(uri) => uri.strip_prefix(URN),
                _ => None,
            });
        let (role, name) = uri?.split_once(':')?;
        Some(Self {
            name: AccountName::parse(name).ok()?.to_string(),
            role: Role::parse(role)?,
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// What a request says of whoever sent it.
struct Shown {
    need: Option<Need>,
    session: Option<String>,
    program: Option<Program>,
}

impl Shown {
    fn of(request: &Request) -> Self {
        let route = request.extensions().get::<MatchedPath>();
        let method = request.method().as_str();
        let bearer = request.headers().get(AUTHORIZATION).map(|bearer| {
            let id = bearer.to_str().ok();
            let id = id.and_then(|text| text.strip_prefix("Bearer "));
            // What is no session is the session of nobody.
            id.unwrap_or_default().to_owned()
        });
        Self {
            need: route.and_then(|route| need(method, route.as_str())),
            session: bearer,
            program: request.extensions().get::<Program>().cloned(),
        }
    }
}

/// Lets through who may, with [`Who`] among the request's extensions.
pub(super) async fn guard(
    State(door): State<Arc<Door>>,
    mut request: Request,
    next: Next,
) -> Response {
    let shown = Shown::of(&request);
    match admit(&door, shown).await {
        Ok(who) => {
            if let Some(who) = who {
                request.extensions_mut().insert(who);
            }
            next.run(request).await
        }
        Err(problem) => IntoResponse::into_response(problem),
    }
}

async fn admit(door: &Door, shown: Shown) -> Result<Option<Who>, Problem> {
    let need = shown.need.ok_or_else(Problem::not_found)?;
    if need == Need::Nothing {
        return Ok(None);
    }
    let who = recognise(door, shown).await?;
    if let Need::Right(right) = need
        && !who.roles.iter().any(|role| role.may(right))
    {
        let roles: Vec<&str> = who.roles.iter().map(|role| role.as_str()).collect();
        let detail = format!(
            "the roles of {} ({}) do not include this",
            who.name,
            roles.join(", ")
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, "not-allowed", detail));
    }
    Ok(Some(who))
}

async fn recognise(door: &Door, shown: Shown) -> Result<Who, Problem> {
    if let Some(id) = shown.session {
        let (name, account) = door.accounts.whose(&id, door.now()).await?;
        return Ok(Who {
            name: format!("account:{name}"),
            account: Some(name),
            session: Some(id),
            roles: account.roles,
            site: account.site,
        });
    }
    let program = shown
        .program
        .filter(|program| program.not_after > door.now().unix());
    let program = program.ok_or_else(|| {
        let detail = "log in, or come with a client certificate of an operator";
        Problem::new(StatusCode::UNAUTHORIZED, "nobody", detail)
    })?;
    Ok(Who {
        name: format!("certificate:{}", program.name),
        account: None,
        session: None,
        roles: vec![program.role],
        site: None,
    })
}
