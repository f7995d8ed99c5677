//! The words of the API: what comes in and goes out, each with its schema.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::roles::Role;
use crate::accounts::Standing;

/// A refusal (RFC 9457).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:ampoule:problem:` and the code.
    pub r#type: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// A sentence for people.
    pub detail: String,
    /// Stable, for programs.
    pub code: String,
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Names behind this one.
    pub after: Option<String>,
    /// At most so many: 1 to 1000, 100 where it is not said.
    pub limit: Option<usize>,
}

/// A page of devices.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Devices {
    /// By name.
    pub items: Vec<Device>,
    /// What to say as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// A page of devices that hold permits.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Permits {
    /// By name: the device, the tags by which it is counted, offers and a lock of its own, each with
    /// the time at which it ends.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<serde_json::Value>,
    /// What to say as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// A device in a list.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Device {
    /// Its id.
    pub device: String,
    /// `enrolled` or `revoked`.
    pub standing: String,
    /// SHA-256 of its certificate.
    pub certificate: String,
    /// When that ends.
    pub not_after: String,
    /// When it reported last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seen: Option<String>,
    /// Receipts so far.
    pub receipts: u64,
    /// What operators say of it.
    pub tags: BTreeMap<String, String>,
}

/// All about a device.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct DeviceDetails {
    /// As in a list.
    #[serde(flatten)]
    pub device: Device,
    /// What it runs, as it reported; absent before its first report.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub inventory: Option<Value>,
    /// Its newest receipts, newest first.
    #[schema(value_type = Vec<Object>)]
    pub last_receipts: Vec<Value>,
    /// What happened to it, oldest first.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Value>,
}

/// A device to enrol.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// Its certificate, PEM; the id is in it.
    pub certificate: String,
}

/// What operators say of a device; replaces what was said before.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Tags {
    /// All of its tags.
    pub tags: BTreeMap<String, String>,
}

/// A device to revoke.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// SHA-256 of the certificate that it has, as the person saw it.
    pub certificate: String,
    /// A fresh code of the person's second factor.
    pub code: String,
}

/// Of which rollout.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct OfRollout {
    /// Of this one alone.
    pub rollout: Option<String>,
}

/// What else is told of a rollout.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct More {
    /// Also what it waits for, to whoever may read all devices.
    #[serde(default)]
    pub waits: bool,
}

/// A page of rollouts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Rollouts {
    /// By name.
    #[schema(value_type = Vec<Object>)]
    pub items: Vec<Value>,
    /// What to say as `after` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<String>,
}

/// A plan.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanText {
    /// TOML, as the guide to fleets tells.
    pub plan: String,
}

/// An act on a rollout that cannot be taken back.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// The digest of the plan that the person has read.
    pub plan: String,
    /// A fresh code of the person's second factor.
    pub code: String,
}

/// Somebody who wants to come in.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Who.
    pub account: String,
    /// Their password.
    pub password: String,
    /// A code of their authenticator.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<String>,
    /// Instead of a code: one of their recovery codes, which is used up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recovery: Option<String>,
}

/// A session.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct LoggedIn {
    /// Its id, for `Authorization: Bearer`.
    pub session: String,
    /// When it ends.
    pub until: String,
    /// Who.
    pub account: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// Recovery codes that are left.
    pub recovery_left: usize,
}

/// Who asks.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Myself {
    /// `account:NAME` or `certificate:NAME`.
    pub name: String,
    /// What they may do.
    pub roles: Vec<Role>,
    /// The only site whose devices they see.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site: Option<String>,
}

/// A new password.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The old one.
    pub old: String,
    /// The new one, 12 to 256 bytes.
    pub new: String,
    /// A fresh code.
    pub code: String,
}

/// An invitation that is taken up.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// Whose.
    pub account: String,
    /// What they were given.
    pub invitation: String,
    /// The password that they choose.
    pub password: String,
}

/// What an authenticator is told.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct Seed {
    /// In base32, to type.
    pub secret: String,
    /// As an address, to scan.
    pub address: String,
}

/// The first code of an authenticator.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Activate {
    /// Whose.
    pub account: String,
    /// What they were given.
    pub invitation: String,
    /// The code.
    pub code: String,
}

/// Codes for the day on which the authenticator is lost; shown once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct RecoveryCodes {
    /// Each good once.
    pub codes: Vec<String>,
}

/// All accounts.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Accounts {
    /// By name.
    pub items: Vec<Account>,
}

/// An account.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Account {
    /// Its name.
    pub account: String,
    /// What its owner may do.
    pub roles: Vec<Role>,
    /// The only site whose devices they see.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site: Option<String>,
    /// Whether it is in use.
    pub standing: Standing,
    /// Who made it.
    pub made_by: String,
    /// Changes so far; whoever changes it names the number that they saw.
    pub epoch: u64,
}

/// An account to make.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAccount {
    /// Its name.
    pub account: String,
    /// What its owner may do.
    pub roles: Vec<Role>,
    /// The site, for the role `site`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site: Option<String>,
    /// A fresh code of whoever makes it.
    pub code: String,
}

/// What the owner of a new account is told; shown once.
#[derive(Deserialize, Serialize, ToSchema)]
pub struct Invitation {
    /// Whose.
    pub account: String,
    /// Good once.
    pub invitation: String,
    /// Until then.
    pub until: String,
}

/// An act on an account.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// The number of changes that was seen.
    pub epoch: u64,
    /// A fresh code of whoever asks.
    pub code: String,
}

/// Other roles.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRoles {
    /// What its owner may do from now on.
    pub roles: Vec<Role>,
    /// The site, for the role `site`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub site: Option<String>,
    /// The number of changes that was seen.
    pub epoch: u64,
    /// A fresh code of whoever asks.
    pub code: String,
}

/// Whether an account may be used.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewStanding {
    /// Whether it may.
    pub enabled: bool,
    /// The number of changes that was seen.
    pub epoch: u64,
    /// A fresh code of whoever asks.
    pub code: String,
}

/// How the server is.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: String,
}

/// One second party of the audit log.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Witness {
    /// Its name.
    pub name: String,
    /// Its verifier key.
    pub key: String,
    /// Entries that it has seen; absent where it has seen nothing yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub size: Option<u64>,
    /// When, by its clock; Unix time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub time: Option<u64>,
}

/// The second parties of the audit log.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
pub struct Witnesses {
    /// Each of them.
    pub witnesses: Vec<Witness>,
}
