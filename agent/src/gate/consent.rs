//! What people say about an update: agreement to it, and putting it off.
//!
//! One small file in the agent's own folder, replaced as one act:
//!
//! ```json
//! {"format":1,"agreed":{"update":"<digest>","by":"uid 1000","at":"2026-11-24T03:00:00Z"},
//!  "postponed":{"update":"<digest>","by":"uid 1000","at":"…","until":"…"},
//!  "used":{"security":1},"wrong_pins":2,"locked_until":"…"}
//! ```
//!
//! - Agreement is bound to the digest of the update that was shown: another update finds none.
//! - Every postponement counts against the budget of its class, durably, before it holds; the
//!   count goes back when an update of that class is committed, and by nothing that a server sends.
//! - A PIN is counted as wrong, durably, before it is looked at: cutting the power gives no tries.
//! - A file that cannot be read is agreement to nothing, and every budget used up.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::Class;
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use super::command::run;
use super::pin::PinHash;
use super::{Answer, Gate, Question};
use crate::ports::{Clock, Storage, replace};
use crate::system::CommandLine;

/// Bytes of the file that are read at most.
const RECORD_LEN_MAX: u64 = 16 << 10;
/// Wrong PINs in a row after which none is looked at for a while.
pub const WRONG_PINS_MAX: u32 = 5;
/// For how long, in seconds.
pub const PIN_LOCK_SECS: u32 = 900;

/// How agreement is given, where it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsentConfig {
    /// The PIN that has to be told.
    pub pin: Option<PinHash>,
    /// A command that exits with 0 when the device's own button is pressed.
    pub button: Option<CommandLine>,
    /// For how long that may run.
    pub timeout: Duration,
}

/// How often an update of each class may be put off, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostponeConfig {
    /// Of class security.
    pub security: u32,
    /// Of class functional.
    pub functional: u32,
    /// Of both.
    pub both: u32,
    /// The longest that one postponement may last.
    pub longest: Duration,
}

impl PostponeConfig {
    /// The budget of a class.
    pub const fn budget(&self, class: Class) -> u32 {
        match class {
            Class::Security => self.security,
            Class::Functional => self.functional,
            Class::Both => self.both,
        }
    }
}

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Record {
    format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agreed: Option<Agreed>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    postponed: Option<Postponed>,
    /// Postponements since the last commit, by class.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    used: BTreeMap<String, u32>,
    #[serde(default)]
    wrong_pins: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locked_until: Option<UtcTime>,
}

/// An agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// To this update.
    pub update: Digest,
    /// By whom, as the local interface knows them.
    pub by: String,
    /// When, where the clock told.
    pub at: Option<UtcTime>,
}

/// A postponement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Postponed {
    /// Of this update.
    pub update: Digest,
    /// By whom.
    pub by: String,
    /// When.
    pub at: UtcTime,
    /// Until when.
    pub until: UtcTime,
}

/// Why a person's word is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    /// No update stands to be agreed to or put off.
    #[error("no update is under way")]
    NoUpdate,
    /// The word is about another update.
    #[error("the update under way is {found}, not {asked}; it may have changed since it was shown")]
    OtherUpdate {
        /// Which was meant.
        asked: String,
        /// Which is there.
        found: String,
    },
    /// A PIN is configured and none was told.
    #[error("a PIN is needed")]
    PinNeeded,
    /// It was told wrong.
    #[error("the PIN is wrong; {left} tries are left")]
    PinWrong {
        /// How many.
        left: u32,
    },
    /// It was told wrong too often.
    #[error("the PIN was wrong too often; none is looked at until {until}")]
    PinLocked {
        /// When it is over.
        until: UtcTime,
    },
    /// The button was not pressed.
    #[error("the button was not pressed: {0}")]
    Button(String),
    /// The budget is used up.
    #[error("it was put off {used} times already, expected at most {budget} for class {class}")]
    BudgetUsed {
        /// The class.
        class: &'static str,
        /// How often.
        used: u32,
        /// The budget.
        budget: u32,
    },
    /// For longer than allowed.
    #[error("{secs} seconds are too long, expected from 1 to {longest}")]
    TooLong {
        /// Asked for.
        secs: u64,
        /// Allowed.
        longest: u64,
    },
    /// Postponements and locks are kept in wall time.
    #[error("the clock is not sane")]
    NoClock,
    /// The file.
    #[error("\"{path}\" cannot be kept")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ConsentError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoUpdate => "no-update",
            Self::OtherUpdate { .. } => "other-update",
            Self::PinNeeded => "pin-needed",
            Self::PinWrong { .. } => "pin-wrong",
            Self::PinLocked { .. } => "pin-locked",
            Self::Button(_) => "button",
            Self::BudgetUsed { .. } => "budget-used",
            Self::TooLong { .. } => "too-long",
            Self::NoClock => "no-clock",
            Self::Io { .. } => "consent-io",
        }
    }
}

/// What people said, as it is kept.
#[derive(Clone)]
pub struct Consents {
    storage: Rc<dyn Storage>,
    clock: Rc<dyn Clock>,
    path: PathBuf,
}

impl Consents {
    /// In this folder.
    pub fn new(storage: Rc<dyn Storage>, clock: Rc<dyn Clock>, folder: &Path) -> Self {
        Self {
            storage,
            clock,
            path: folder.join("consent.json"),
        }
    }

    /// The record; `Err` where it cannot be read, which is agreement to nothing.
    fn read(&self) -> Result<Record, ConsentError> {
        let bytes = self.storage.read(&self.path, RECORD_LEN_MAX);
        let Some(bytes) = bytes.map_err(|source| self.io(source))? else {
            return Ok(Record::default());
        };
        serde_json::from_slice(&bytes).map_err(|error| self.io(error.into()))
    }

    fn write(&self, record: &Record) -> Result<(), ConsentError> {
        let record = Record {
            format: 1,
            ..record.clone()
        };
        let bytes = serde_json::to_vec(&record).map_err(|error| self.io(error.into()))?;
        replace(self.storage.as_ref(), &self.path, &bytes).map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> ConsentError {
        ConsentError::Io {
            path: self.path.clone(),
            source,
        }
    }

    /// The agreement to this update, if there is one.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn agreed(&self, update: Digest) -> Result<Option<Agreed>, ConsentError> {
        let agreed = self.read()?.agreed;
        Ok(agreed.filter(|agreed| agreed.update == update))
    }

    /// Until when this update is put off, if it is.
    ///
    /// A clock that was set back must not hold an update for ever: no postponement lasts longer
    /// than `longest` from any moment on.
    ///
    /// # Errors
    /// A file that cannot be read or written; a clock that is not sane.
    pub fn postponed(
        &self,
        update: Digest,
        longest: Duration,
    ) -> Result<Option<UtcTime>, ConsentError> {
        let mut record = self.read()?;
        let Some(postponed) = &mut record.postponed else {
            return Ok(None);
        };
        if postponed.update != update {
            return Ok(None);
        }
        let now = self.clock.wall().ok_or(ConsentError::NoClock)?;
        let bound = plus(now, longest);
        if postponed.until > bound {
            postponed.until = bound;
            let until = bound;
            self.write(&record)?;
            return Ok(Some(until));
        }
        Ok(Some(postponed.until).filter(|until| now < *until))
    }

    /// How often updates of a class were put off since one was committed.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn used(&self, class: Class) -> Result<u32, ConsentError> {
        Ok(self.read()?.used.get(class.as_str()).copied().unwrap_or(0))
    }

    /// Agrees to an update. The PIN, where one is configured, then the button.
    ///
    /// # Errors
    /// See [`ConsentError`].
    pub fn agree(
        &self,
        config: &ConsentConfig,
        update: Digest,
        pin: Option<&str>,
        by: &str,
    ) -> Result<(), ConsentError> {
        self.check_pin(config, pin)?;
        if let Some(button) = &config.button {
            let ended = run(button, config.timeout).map_err(ConsentError::Button)?;
            if ended.code != Some(0) {
                return Err(ConsentError::Button("the command said no".to_owned()));
            }
        }
        let mut record = self.read()?;
        record.agreed = Some(Agreed {
            update,
            by: by.to_owned(),
            at: self.clock.wall(),
        });
        self.write(&record)
    }

    /// Takes an agreement back.
    ///
    /// # Errors
    /// A file that cannot be kept.
    pub fn withdraw(&self) -> Result<(), ConsentError> {
        let mut record = self.read()?;
        record.agreed = None;
        self.write(&record)
    }

    fn check_pin(&self, config: &ConsentConfig, pin: Option<&str>) -> Result<(), ConsentError> {
        let Some(hash) = &config.pin else {
            return Ok(());
        };
        let pin = pin.ok_or(ConsentError::PinNeeded)?;
        let mut record = self.read()?;
        self.check_lock(&mut record)?;
        // Counted before it is looked at: a cut in between costs a try and gives none.
        record.wrong_pins = record.wrong_pins.saturating_add(1);
        let is_last = record.wrong_pins >= WRONG_PINS_MAX;
        if is_last {
            let now = self.clock.wall().ok_or(ConsentError::NoClock)?;
            record.locked_until = Some(now.plus_secs(PIN_LOCK_SECS.into()));
        }
        self.write(&record)?;
        if !hash.is_of(pin) {
            let left = WRONG_PINS_MAX.saturating_sub(record.wrong_pins);
            return Err(ConsentError::PinWrong { left });
        }
        record.wrong_pins = 0;
        record.locked_until = None;
        self.write(&record)
    }

    /// A lock that is over gives new tries. A clock that was set back does not lock for ever, and
    /// one that is not sane keeps the lock.
    fn check_lock(&self, record: &mut Record) -> Result<(), ConsentError> {
        let Some(until) = record.locked_until else {
            return Ok(());
        };
        let now = self.clock.wall().ok_or(ConsentError::NoClock)?;
        let bound = now.plus_secs(PIN_LOCK_SECS.into());
        if until > bound {
            record.locked_until = Some(bound);
            self.write(record)?;
        }
        if now < until {
            return Err(ConsentError::PinLocked {
                until: until.min(bound),
            });
        }
        record.locked_until = None;
        record.wrong_pins = 0;
        Ok(())
    }

    /// Puts an update off; until when.
    ///
    /// # Errors
    /// See [`ConsentError`].
    pub fn postpone(
        &self,
        config: &PostponeConfig,
        question: &Question,
        secs: u64,
        by: &str,
    ) -> Result<UtcTime, ConsentError> {
        let longest = config.longest.as_secs();
        if !(1..=longest).contains(&secs) {
            return Err(ConsentError::TooLong { secs, longest });
        }
        let now = self.clock.wall().ok_or(ConsentError::NoClock)?;
        let mut record = self.read()?;
        let class = question.class.as_str();
        let budget = config.budget(question.class);
        let used = record.used.entry(class.to_owned()).or_default();
        if *used >= budget {
            let used = *used;
            return Err(ConsentError::BudgetUsed {
                class,
                used,
                budget,
            });
        }
        *used += 1;
        let until = plus(now, Duration::from_secs(secs));
        record.postponed = Some(Postponed {
            update: question.update,
            by: by.to_owned(),
            at: now,
            until,
        });
        self.write(&record)?;
        Ok(until)
    }

    /// An update of this class was committed: its budget is whole again, and what was said of it
    /// is done with.
    ///
    /// # Errors
    /// A file that cannot be kept.
    pub fn committed(&self, class: Class) -> Result<(), ConsentError> {
        let before = self.read()?;
        let mut record = before.clone();
        record.used.remove(class.as_str());
        record.agreed = None;
        record.postponed = None;
        if record == before {
            return Ok(());
        }
        self.write(&record)
    }
}

fn plus(time: UtcTime, more: Duration) -> UtcTime {
    time.plus_secs(i64::try_from(more.as_secs()).unwrap_or(i64::MAX))
}

/// The gate of agreement.
pub struct Consent(pub Consents);

impl Gate for Consent {
    fn name(&self) -> &'static str {
        "consent"
    }

    fn ask(&mut self, question: &Question) -> Answer {
        match self.0.agreed(question.update) {
            Ok(Some(_)) => Answer::Yes,
            Ok(None) => Answer::no("nobody has agreed to this update"),
            Err(error) => Answer::unknown(error.to_string()),
        }
    }
}

/// The gate of postponement.
pub struct Postponement {
    /// What people said.
    pub consents: Consents,
    /// The longest that one may last.
    pub longest: Duration,
}

impl Gate for Postponement {
    fn name(&self) -> &'static str {
        "postponed"
    }

    fn ask(&mut self, question: &Question) -> Answer {
        match self.consents.postponed(question.update, self.longest) {
            Ok(None) => Answer::Yes,
            Ok(Some(until)) => Answer::no_until(format!("put off until {until}"), until),
            Err(error) => Answer::unknown(error.to_string()),
        }
    }

    /// Where this cannot be written, the budget stays as it was used.
    fn committed(&mut self, class: Class) {
        let _ = self.consents.committed(class);
    }
}

#[cfg(test)]
mod tests;
