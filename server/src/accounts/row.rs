//! What the store has of an account and of a session.

use ampoule_protocol::digest::Digest;
use serde::{Deserialize, Serialize};

use super::password::Hashed;
use crate::door::roles::Role;

/// Wrong attempts before an account rests.
const FAILURES_MAX: u32 = 5;
/// How long it rests then; twice as long each further time.
const REST_SECS: i64 = 60;
/// How long it rests at most: somebody who does not have the password must not shut its owner out
/// for a day.
const REST_SECS_MAX: i64 = 3600;

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// What its owner may do.
    pub roles: Vec<Role>,
    /// The site of a person of one site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,
    /// Whether it is in use.
    pub standing: Standing,
    /// Who made it.
    pub made_by: String,
    /// Unix time of that.
    pub made_at: i64,
    /// Sessions of an older number are over.
    pub epoch: u64,
    /// The hash of the invitation, and the Unix time until which it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) invitation: Option<(Digest, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<Hashed>,
    /// The seed of the second factor, sealed, base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seed: Option<String>,
    /// The last step whose code was used.
    #[serde(default)]
    pub(super) used_step: u64,
    /// Hashes of recovery codes that were not used.
    #[serde(default)]
    pub(super) recovery: Vec<Digest>,
    /// Attempts since the last good one.
    #[serde(default)]
    pub(super) failures: u32,
    /// Unix time until which nothing is tried.
    #[serde(default)]
    pub(super) rests_until: i64,
}

/// Whether an account is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its owner has not chosen a password yet.
    Invited,
    /// It is.
    Active,
    /// It is not any more.
    Disabled,
}

impl Account {
    /// The seconds until something may be tried again.
    pub(super) fn rests(&self, now: i64) -> Option<i64> {
        (self.rests_until > now).then(|| self.rests_until - now)
    }

    /// Counts an attempt that was not seen to be good yet.
    pub(super) fn attempt(&mut self, now: i64) {
        self.failures = self.failures.saturating_add(1);
        if let Some(more) = self.failures.checked_sub(FAILURES_MAX) {
            let secs = REST_SECS.saturating_mul(1 << more.min(16));
            self.rests_until = now.saturating_add(secs.min(REST_SECS_MAX));
        }
    }

    /// It was good.
    pub(super) fn was_good(&mut self) {
        self.failures = 0;
        self.rests_until = 0;
    }

    /// Codes that still recover it.
    pub fn recovery_left(&self) -> usize {
        self.recovery.len()
    }
}

/// A session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub account: super::AccountName,
    /// The account's epoch when it began.
    pub epoch: u64,
    /// Unix time of its end.
    pub until: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_rests_longer_each_time_and_never_long() {
        let mut account: Account = serde_json::from_value(serde_json::json!({
            "roles": [], "standing": "active", "made_by": "local", "made_at": 0, "epoch": 0
        }))
        .unwrap();
        let rests = (0..20).map(|_| {
            account.attempt(0);
            account.rests(0)
        });
        let rests: Vec<_> = rests.collect();
        assert_eq!(
            rests[..7],
            [None, None, None, None, Some(60), Some(120), Some(240)]
        );
        assert_eq!(rests[19], Some(3600));
        account.was_good();
        assert_eq!(account.rests(0), None);
    }
}
