//! Answers requests; knows nothing of sockets.

use std::rc::Rc;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::time::UtcTime;
use serde::Deserialize;
use serde_json::{Value, json};

use super::HISTORY_MAX;
use crate::config::GatesConfig;
use crate::gate::{Asked, ConsentError, Consents, Question};
use crate::machine::Plan;

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rights {
    /// Nothing.
    Nothing,
    /// Ask how things are, and be told what happens.
    Read,
    /// That, and agree, withdraw and put off.
    Act,
}

/// Who speaks, as the kernel knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// For records.
    pub name: String,
    /// What they may do.
    pub rights: Rights,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// How things are.
    Status {},
    /// Updates that ended.
    History {
        /// How many of the newest.
        #[serde(default)]
        last: Option<usize>,
    },
    /// Agree to an update.
    Consent {
        /// Which: the digest in the status.
        update: String,
        /// Where one is configured.
        #[serde(default)]
        pin: Option<String>,
    },
    /// Take an agreement back.
    Withdraw {},
    /// Put an update off.
    Postpone {
        /// Which.
        update: String,
        /// For how long.
        secs: u64,
    },
    /// Be told what happens.
    Subscribe {},
}

impl Request {
    const fn needs(&self) -> Rights {
        match self {
            Self::Status {} | Self::History { .. } | Self::Subscribe {} => Rights::Read,
            Self::Consent { .. } | Self::Withdraw {} | Self::Postpone { .. } => Rights::Act,
        }
    }

    /// Whether the gates may answer otherwise after it.
    pub const fn is_act(&self) -> bool {
        matches!(self.needs(), Rights::Act)
    }
}

/// What the desk looks up.
pub trait Records {
    /// How things are, as `status --json` prints it.
    ///
    /// # Errors
    /// In words.
    fn status(&self) -> Result<Value, String>;
    /// The newest updates that ended, oldest first.
    ///
    /// # Errors
    /// In words.
    fn history(&self, last: usize) -> Result<Value, String>;
    /// The update under way.
    ///
    /// # Errors
    /// In words.
    fn plan(&self) -> Result<Option<Plan>, String>;
}

/// A request that is not taken.
struct Refusal {
    code: &'static str,
    text: String,
}

impl From<ConsentError> for Refusal {
    fn from(error: ConsentError) -> Self {
        Self {
            code: error.code(),
            text: error.to_string(),
        }
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self {
            code: "not-readable",
            text,
        }
    }
}

/// Answers requests.
pub struct Desk {
    records: Rc<dyn Records>,
    gates: GatesConfig,
    consents: Consents,
}

impl Desk {
    /// Over these records.
    pub fn new(records: Rc<dyn Records>, gates: GatesConfig, consents: Consents) -> Self {
        Self {
            records,
            gates,
            consents,
        }
    }

    /// Answers a line. The request is given back where it was one.
    pub fn answer_line(
        &self,
        line: &[u8],
        caller: &Caller,
        asked: &[Asked],
    ) -> (Value, Option<Request>) {
        match serde_json::from_slice::<Request>(line) {
            Ok(request) => (self.answer(&request, caller, asked), Some(request)),
            Err(error) => {
                let refusal = Refusal {
                    code: "malformed",
                    text: format!("the line is no request: {error}"),
                };
                (refused(&refusal), None)
            }
        }
    }

    /// Answers a request. `asked` is what the gates said when they were last asked.
    pub fn answer(&self, request: &Request, caller: &Caller, asked: &[Asked]) -> Value {
        if caller.rights < request.needs() {
            return refused(&Refusal {
                code: "not-allowed",
                text: format!("{} may not do this", caller.name),
            });
        }
        match self.act(request, caller, asked) {
            Ok(value) => json!({ "ok": value }),
            Err(refusal) => refused(&refusal),
        }
    }

    fn act(&self, request: &Request, caller: &Caller, asked: &[Asked]) -> Result<Value, Refusal> {
        match request {
            Request::Status {} => self.status(asked),
            Request::History { last } => {
                let last = last.unwrap_or(HISTORY_MAX).min(HISTORY_MAX);
                Ok(self.records.history(last)?)
            }
            Request::Consent { update, pin } => {
                let plan = self.plan_of(update)?;
                let Some(config) = &self.gates.consent else {
                    return Err(Refusal {
                        code: "not-needed",
                        text: "this device asks for no agreement".to_owned(),
                    });
                };
                let (update, by) = (plan.identity(), &caller.name);
                self.consents.agree(config, update, pin.as_deref(), by)?;
                Ok(json!({}))
            }
            Request::Withdraw {} => {
                self.consents.withdraw()?;
                Ok(json!({}))
            }
            Request::Postpone { update, secs } => {
                let question = Question::of(&self.plan_of(update)?);
                let (config, by) = (&self.gates.postpone, &caller.name);
                let until = self.consents.postpone(config, &question, *secs, by)?;
                Ok(json!({ "until": until }))
            }
            Request::Subscribe {} => Ok(json!({})),
        }
    }

    /// The update under way, if it is the one that is meant.
    fn plan_of(&self, asked: &str) -> Result<Plan, Refusal> {
        let plan = self.records.plan()?.ok_or(ConsentError::NoUpdate)?;
        let found = plan.identity();
        if Digest::parse(asked).is_ok_and(|asked| asked == found) {
            return Ok(plan);
        }
        Err(ConsentError::OtherUpdate {
            asked: crate::gate::quoted(asked.as_bytes()),
            found: found.to_string(),
        }
        .into())
    }

    fn status(&self, asked: &[Asked]) -> Result<Value, Refusal> {
        let mut status = self.records.status()?;
        status["gates"] = gates(asked);
        status["consent"] = self.consent_status()?;
        Ok(status)
    }

    fn consent_status(&self) -> Result<Value, Refusal> {
        let Some(plan) = self.records.plan()? else {
            return Ok(Value::Null);
        };
        let (update, postpone) = (plan.identity(), &self.gates.postpone);
        let config = self.gates.consent.as_ref();
        let used = self.consents.used(plan.class)?;
        Ok(json!({
            "needed": config.is_some(),
            "pin": config.is_some_and(|config| config.pin.is_some()),
            "button": config.is_some_and(|config| config.button.is_some()),
            "agreed": self.consents.agreed(update)?,
            "postponed_until": self.consents.postponed(update, postpone.longest)?,
            "postponements_left": postpone.budget(plan.class).saturating_sub(used),
            "postpone_secs_max": postpone.longest.as_secs(),
        }))
    }
}

/// What the gates said, as JSON.
pub(super) fn gates(asked: &[Asked]) -> Value {
    let one = |asked: &Asked| {
        let until: Option<UtcTime> = match &asked.answer {
            crate::gate::Answer::No { until, .. } => *until,
            crate::gate::Answer::Yes | crate::gate::Answer::Unknown { .. } => None,
        };
        json!({
            "gate": asked.gate,
            "answer": asked.answer.as_str(),
            "reason": asked.answer.reason(),
            "until": until,
        })
    };
    asked.iter().map(one).collect()
}

fn refused(refusal: &Refusal) -> Value {
    json!({ "error": { "code": refusal.code, "text": refusal.text } })
}
