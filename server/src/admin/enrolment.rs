//! Questions about enrolment: tokens, and devices that wait for a person's word.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::hex;
use ampoule_protocol::name::DeviceId;
use serde::{Deserialize, Serialize};

use super::Told;
use crate::audit::{Act, Record};
use crate::est::ledger::{self, Asked, Page, Token, Word};
use crate::http::problem::Problem;
use crate::serve::Shared;
use crate::store::records::Expected;

/// Random bytes of a token.
const TOKEN_LEN: usize = 16;
/// Hex digits that name a key: those that a table shows.
const KEY_LEN_MIN: usize = 12;

/// A question about enrolment.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum EnrolmentAsk {
    /// Make a one-time token; one that was made before for the same device ends.
    Token {
        /// For whom.
        device: DeviceId,
        /// How long it can be used, in seconds.
        valid_secs: u32,
    },
    /// Who waits for a person's word, and what was said.
    Requests,
    /// Say it.
    Word {
        /// To whom.
        device: DeviceId,
        /// The key that the device asks for, by the beginning of its digest as `requests` shows
        /// it: a word is about what was read, not about what asks next.
        key: String,
        /// Whether it may.
        approve: bool,
    },
}

/// A token, as only whoever asked for it sees it.
#[derive(Debug, Serialize, Deserialize)]
pub struct MadeToken {
    /// For whom.
    pub device: DeviceId,
    /// The password of that device, once.
    pub token: String,
    /// Unix time of its last second.
    pub ends_at: i64,
}

/// What the audit log says of it.
pub(super) fn record_of(ask: &EnrolmentAsk, by: &str) -> Option<Record> {
    match ask {
        EnrolmentAsk::Token { device, valid_secs } => {
            let record = Record::new(Act::EnrolToken, by).about("device", device);
            Some(record.with("valid_secs", valid_secs))
        }
        EnrolmentAsk::Word {
            device,
            key,
            approve,
        } => {
            let act = if *approve {
                Act::EnrolApprove
            } else {
                Act::EnrolDeny
            };
            let record = Record::new(act, by).about("device", device);
            Some(record.with("key", key))
        }
        EnrolmentAsk::Requests => None,
    }
}

/// Answers through the running server.
pub(super) async fn answer(shared: &Shared, ask: &EnrolmentAsk) -> Told {
    let failed = |what: String| Told::Failed { what };
    if shared.est.is_none() {
        return failed(
            "this server enrols nobody by itself: [est] is not in its configuration".into(),
        );
    }
    let answered = match ask {
        EnrolmentAsk::Token { device, valid_secs } => token(shared, device, *valid_secs).await,
        EnrolmentAsk::Requests => requests(shared),
        EnrolmentAsk::Word {
            device,
            key,
            approve,
        } => word(shared, device, key, *approve).await,
    };
    answered.unwrap_or_else(|problem| failed(problem.detail().to_owned()))
}

async fn token(shared: &Shared, device: &DeviceId, valid_secs: u32) -> Result<Told, Problem> {
    let mut bytes = [0; TOKEN_LEN];
    getrandom::fill(&mut bytes)
        .map_err(|_| Problem::unavailable("no-randomness", "the system gives no randomness", 60))?;
    let text = hex::encode(&bytes);
    let token = Token {
        hash: Digest::of(text.as_bytes()),
        ends_at: shared.now().unix().saturating_add(valid_secs.into()),
        key: None,
    };
    let key = ledger::of_device(device);
    let record = ledger::change(Page::Tokens, key, Expected::Any, Some(&token));
    ledger::write_or_retry(shared, vec![record]).await?;
    Ok(Told::Token(MadeToken {
        device: device.clone(),
        token: text,
        ends_at: token.ends_at,
    }))
}

fn requests(shared: &Shared) -> Result<Told, Problem> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = ledger::list::<Asked>(&*shared.store, Page::Requests, after.as_ref())?;
        after = page.last().map(|(key, _)| key.clone());
        all.extend(page.into_iter().map(|(_, seen)| seen.value));
        if after.is_none() {
            break;
        }
    }
    all.sort_by_key(|asked| (asked.word as u8, asked.at));
    Ok(Told::Enrolments { asked: all })
}

async fn word(
    shared: &Shared,
    device: &DeviceId,
    wanted: &str,
    approve: bool,
) -> Result<Told, Problem> {
    let key = ledger::of_device(device);
    let Some(seen) = ledger::read::<Asked>(&*shared.store, Page::Requests, &key)? else {
        return Ok(Told::Unknown);
    };
    let found = seen.value.key.to_string();
    if wanted.len() < KEY_LEN_MIN || !found.starts_with(wanted) {
        let what = format!(
            "{device} asks for key {}, not {wanted}",
            seen.value.key.short()
        );
        return Ok(Told::Failed { what });
    }
    let asked = Asked {
        word: if approve {
            Word::Approved
        } else {
            Word::Denied
        },
        ..seen.value
    };
    let expected = Expected::Version(seen.version);
    let record = ledger::change(Page::Requests, key, expected, Some(&asked));
    ledger::write_or_retry(shared, vec![record]).await?;
    Ok(Told::Enrolments { asked: vec![asked] })
}
