//! What an entry says: who did what to which thing, and how it ended. One JSON object.
//!
//! ```json
//! {"format":1,"index":41,"at":"2026-11-28T13:00:00Z","act":"rollout-approve","by":"account:bob",
//!  "about":"rollout:r7","digest":"9c01…","outcome":"done"}
//! ```
//!
//! No secret, no session, no code and no password is ever in an entry.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Bytes of an entry of ours; more detail is left out and its digest stands in its place.
pub const LEN_MAX: usize = 16 << 10;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// 1.
    pub format: u8,
    /// Its place in the log, from 0.
    pub index: u64,
    /// When, by the server's clock.
    pub at: UtcTime,
    /// What was done.
    #[serde(flatten)]
    pub what: Record,
}

/// An entry that has no place yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was done.
    pub act: Act,
    /// By whom: `account:NAME`, `certificate:NAME`, `device:ID`, `local` (who may open the server's
    /// own socket) or `server`.
    pub by: String,
    /// To what: `rollout:NAME`, `device:ID`, `account:NAME`, `tree`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub about: Option<String>,
    /// The digest of what it was about, where it has one: a plan, a receipt, a certificate.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// How it ended.
    pub outcome: Outcome,
    /// More of it.
    #[serde(skip_serializing_if = "Map::is_empty", default)]
    pub detail: Map<String, Value>,
}

/// Kinds of entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// The server began to write.
    Start,
    /// A new publication was seen in the tree.
    Publish,
    /// A device was enrolled, or given another certificate.
    Enroll,
    /// A one-time token was made, with which a device enrols itself.
    EnrolToken,
    /// A device that asked may have its certificate.
    EnrolApprove,
    /// It may not.
    EnrolDeny,
    /// A device's certificate was renewed.
    Renew,
    /// A device was revoked.
    Revoke,
    /// A device was taken out of use, for ever.
    Decommission,
    /// What operators say of a device.
    Tag,
    /// A device's receipt: how an update ended, and which gates decided.
    Receipt,
    /// A device may leave service for an update; the permit.
    Offer,
    /// It may no more, or need not.
    OfferEnd,
    /// A device took a permit for itself, or prolonged it.
    Lock,
    /// It gave the permit back, or its time ran out.
    LockEnd,
    /// A rollout was made.
    RolloutCreate,
    /// Its plan was approved.
    RolloutApprove,
    /// It was paused.
    RolloutPause,
    /// It goes on.
    RolloutResume,
    /// It was ended.
    RolloutAbort,
    /// Devices that failed get another attempt.
    RolloutRetry,
    /// It went on to another stage or step by itself.
    RolloutStage,
    /// Somebody logged in.
    Login,
    /// Somebody logged out, or a session was ended.
    Logout,
    /// An account was made or invited again.
    AccountCreate,
    /// An account's owner took it into use.
    AccountActivate,
    /// An account's roles were changed.
    AccountRoles,
    /// An account was disabled or enabled.
    AccountStanding,
    /// A password or second factor was changed.
    AccountSecret,
}

/// How an act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is about to be done. Where no other entry follows, the server was cut off in between.
    Intended,
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

impl Record {
    /// Done, by whom.
    pub fn new(act: Act, by: impl Into<String>) -> Self {
        Self {
            act,
            by: by.into(),
            about: None,
            digest: None,
            outcome: Outcome::Done,
            detail: Map::new(),
        }
    }

    /// To what.
    pub fn about(mut self, kind: &str, name: impl std::fmt::Display) -> Self {
        self.about = Some(format!("{kind}:{name}"));
        self
    }

    /// Of which digest.
    pub fn digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// How it ended.
    pub fn outcome(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// More of it.
    pub fn with(mut self, name: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        self.detail.insert(name.to_owned(), value);
        self
    }

    /// The bytes of the entry at `index`.
    pub fn to_bytes(&self, index: u64, at: UtcTime) -> Vec<u8> {
        let bytes = |what: Self| {
            let entry = Entry {
                format: 1,
                index,
                at,
                what,
            };
            serde_json::to_vec(&entry).expect("an entry is plain data")
        };
        let whole = bytes(self.clone());
        if whole.len() <= LEN_MAX {
            return whole;
        }
        let mut short = self.clone();
        let detail = serde_json::to_vec(&short.detail).unwrap_or_default();
        short.detail = Map::from_iter([
            ("left_out_bytes".to_owned(), detail.len().into()),
            (
                "left_out".to_owned(),
                Digest::of(&detail).to_string().into(),
            ),
        ]);
        let bounded = |text: &mut String| {
            let end = (0..=text.len().min(256))
                .rev()
                .find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or(0));
        };
        bounded(&mut short.by);
        short.about.as_mut().map(bounded);
        bytes(short)
    }
}

/// The place that an entry says it has; `None` where it is not one of ours.
pub fn index(bytes: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Placed {
        format: u8,
        index: u64,
    }
    let placed: Placed = serde_json::from_slice(bytes).ok()?;
    (placed.format == 1).then_some(placed.index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_as_it_was_written_and_is_bounded() {
        let record = Record::new(Act::RolloutApprove, "account:bob")
            .about("rollout", "r1")
            .digest(Digest::of(b"plan"));
        let bytes = record.to_bytes(41, UtcTime::EPOCH);
        let entry: Entry = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((entry.index, index(&bytes)), (41, Some(41)));
        assert_eq!(entry.what, record);
        let long = record.with("text", "x".repeat(40_000));
        let bytes = long.to_bytes(0, UtcTime::EPOCH);
        assert!(bytes.len() <= LEN_MAX);
        let entry: Entry = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(entry.what.detail["left_out_bytes"], 40_011);
    }
}
