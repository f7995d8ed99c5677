//! Throwing a draft away, signatures and all.

use std::path::Path;

use ampoule_protocol::metadata::{Payload, RoleType, Targets};
use ampoule_protocol::name::RoleName;
use ampoule_protocol::time::UtcTime;

use crate::durable::{self, Disk};
use crate::error::{OperatorError, SignerError};
use crate::layout::Repository;
use crate::settings::Expiries;
use crate::workspace::Workspace;

/// What became of a draft, by its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discarded {
    /// It is gone; what is published stays.
    Removed(String),
    /// It was the first version, which the tree cannot do without: it is as it was after the
    /// ceremony, signed by nobody, and a product is without releases.
    Reset(String),
}

/// Throws the draft of `name` away; `director.root` is the director's.
pub fn discard(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    now: UtcTime,
) -> Result<Discarded, SignerError> {
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    let (repository, bare) = match name.strip_prefix("director.") {
        Some(bare) => (Repository::Director, bare),
        None => (Repository::Image, name),
    };
    let nothing = || OperatorError::NoDraft {
        what: format!("role \"{name}\""),
    };
    let role = RoleName::parse(bare).map_err(|_| nothing())?;
    let staged = workspace
        .staged
        .get(&(repository, role.clone()))
        .ok_or_else(nothing)?
        .clone();
    let title = staged.request.title();
    let is_first = match repository {
        Repository::Image => workspace
            .published
            .as_ref()
            .is_none_or(|p| p.role(&role).is_none()),
        Repository::Director => workspace.director.is_empty(),
    };
    // Snapshot and timestamp are made anew by every publication.
    let signed = match staged.request.kind() {
        RoleType::Snapshot | RoleType::Timestamp => None,
        RoleType::Targets if role.as_str() != "targets" => {
            let days = workspace.settings.expiry.targets;
            Some(Targets::new(now.plus_secs(Expiries::secs(days))).to_signed())
        }
        RoleType::Root | RoleType::Targets => Some(staged.request.envelope.unverified().clone()),
    };
    match signed.filter(|_| is_first) {
        None => {
            durable::remove(disk, &staged.path)?;
            Ok(Discarded::Removed(title))
        }
        Some(signed) => {
            let request = workspace.request(repository, &role, signed)?;
            workspace.stage(disk, request)?;
            Ok(Discarded::Reset(title))
        }
    }
}
