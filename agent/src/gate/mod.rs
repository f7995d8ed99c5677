//! Whether the device may be interrupted now: its own decision, and nobody else's.
//!
//! ```text
//!   configuration ─► gates ┐
//!                          ├─► ask(question) ─► answers ─► decide ─► Open | Closed
//!   Plan ─► Question ──────┘
//! ```
//!
//! Each [`Gate`] is made from the device's own configuration, once, and answers a [`Question`]. A
//! question is all of an update that a gate gets to see, and each of its members can close a gate
//! and open none: see there. [`decide`] is pure; every gate has to say yes.
//!
//! Invariants:
//! - No gate holds a byte that came from a server or in a bundle.
//! - Whatever cannot be known is no: a provider that is late, dead, slow or speaks nonsense, a
//!   clock that is not sane.
//! - Every wait and every answer of a provider has a bound.

pub(crate) mod command;
mod consent;
mod interlock;
mod pin;
mod power;
mod window;

use std::rc::Rc;
use std::time::Duration;

use ampoule_protocol::device::Check;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::Class;
use ampoule_protocol::time::UtcTime;

pub use command::Commands;
pub(crate) use command::feed;
pub use consent::{
    Agreed, Consent, ConsentConfig, ConsentError, Consents, PIN_LOCK_SECS, PostponeConfig,
    Postponed, Postponement, WRONG_PINS_MAX,
};
pub use interlock::{Interlock, InterlockConfig, Provider};
pub use pin::PinHash;
pub use power::{Mains, Meter, Power, PowerConfig};
pub use window::{Window, Windows, WindowsConfig, is_zone_name};

use crate::config::GatesConfig;
use crate::machine::Plan;
use crate::ports::Clock;
use crate::system::SystemClock;

/// Characters of a reason; it may quote what a provider said.
const REASON_LEN_MAX: usize = 200;

/// One gate.
pub trait Gate {
    /// What it is called in status, receipts and messages.
    fn name(&self) -> &str;

    /// Whether the device may be interrupted now, as far as this gate can tell. Answers within
    /// the time-out of its provider.
    fn ask(&mut self, question: &Question) -> Answer;

    /// An update of this class was committed. A cut before this call loses it, so a gate may grow
    /// more generous by it and must be right without it.
    fn committed(&mut self, _class: Class) {}
}

/// All that a gate gets to know of an update.
///
/// Its members come out of signed metadata, so they are made for weakening nothing: a gate may take
/// each of them as a reason for no, and none as a reason for yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Which update: everything that people are told of it, and every byte it would run. Agreement
    /// is bound to it, so another update finds none.
    pub update: Digest,
    /// Why it was made: chooses among the device's own budgets for putting it off.
    pub class: Class,
    /// For how long it says that the device will be out of service: counts only where it is more
    /// than the device was told to expect.
    pub downtime: Duration,
}

impl Question {
    /// About this update.
    pub fn of(plan: &Plan) -> Self {
        Self {
            update: plan.identity(),
            class: plan.class,
            downtime: Duration::from_secs(plan.notice.downtime_secs.into()),
        }
    }
}

/// What a gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may be interrupted.
    Yes,
    /// It may not.
    No {
        /// Why.
        reason: String,
        /// When that may be over, where the gate can tell; for people.
        until: Option<UtcTime>,
    },
    /// Nobody can tell, which is no.
    Unknown {
        /// What is in the way.
        reason: String,
    },
}

impl Answer {
    /// No, for this reason.
    pub fn no(reason: impl Into<String>) -> Self {
        Self::No {
            reason: reason.into(),
            until: None,
        }
    }

    /// No, for this reason, until then.
    pub fn no_until(reason: impl Into<String>, until: UtcTime) -> Self {
        Self::No {
            reason: reason.into(),
            until: Some(until),
        }
    }

    /// Unknown, for this reason.
    pub fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown {
            reason: reason.into(),
        }
    }

    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No { .. } => "no",
            Self::Unknown { .. } => "unknown",
        }
    }

    /// Why it is not yes.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Yes => None,
            Self::No { reason, .. } | Self::Unknown { reason } => Some(reason),
        }
    }
}

/// Every gate of a device, from its configuration alone.
pub fn all(config: &GatesConfig, consents: &Consents) -> Vec<Box<dyn Gate>> {
    let mut gates: Vec<Box<dyn Gate>> = Vec::new();
    let clock: Rc<dyn Clock> = Rc::new(SystemClock::default());
    for interlock in &config.interlocks {
        gates.push(Box::new(Interlock::new(interlock.clone(), clock.clone())));
    }
    if let Some(power) = &config.power {
        gates.push(Box::new(Power::new(power.clone())));
    }
    if let Some(windows) = &config.windows {
        gates.push(Box::new(Windows::new(windows.clone(), clock)));
    }
    for command in &config.commands {
        gates.push(Box::new(Commands::new(command.clone(), config.timeout)));
    }
    if config.consent.is_some() {
        gates.push(Box::new(Consent(consents.clone())));
    }
    gates.push(Box::new(Postponement {
        consents: consents.clone(),
        longest: config.postpone.longest,
    }));
    gates
}

/// A gate's answer, with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Who.
    pub gate: String,
    /// What it said.
    pub answer: Answer,
}

/// What the answers come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Every gate said yes.
    Open,
    /// These did not: name and reason.
    Closed(Vec<String>),
}

/// Asks every gate, also after one said no: a screen shows all that is missing.
pub fn ask_all(gates: &mut [Box<dyn Gate>], question: &Question) -> Vec<Asked> {
    let ask = |gate: &mut Box<dyn Gate>| Asked {
        answer: gate.ask(question),
        gate: gate.name().to_owned(),
    };
    gates.iter_mut().map(ask).collect()
}

/// Yes is yes from all; no gates at all are open.
pub fn decide(asked: &[Asked]) -> Decision {
    let closed = asked.iter().filter_map(|asked| {
        let reason = asked.answer.reason()?;
        Some(format!("{}: {reason}", asked.gate))
    });
    let closed: Vec<String> = closed.collect();
    if closed.is_empty() {
        Decision::Open
    } else {
        Decision::Closed(closed)
    }
}

/// The answers as a receipt tells them.
pub fn checks(asked: &[Asked]) -> Vec<Check> {
    let check = |asked: &Asked| Check {
        name: asked.gate.clone(),
        passed: asked.answer == Answer::Yes,
        detail: asked.answer.reason().unwrap_or_default().to_owned(),
    };
    asked.iter().map(check).collect()
}

/// What a provider said, fit for a line on a terminal: bounded, and without control characters.
pub(crate) fn quoted(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut text: String = said
        .trim()
        .chars()
        .take(REASON_LEN_MAX)
        .map(plain)
        .collect();
    if said.trim().chars().count() > REASON_LEN_MAX {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(answer: Answer) -> Asked {
        Asked {
            gate: "therapy".to_owned(),
            answer,
        }
    }

    /// Meant to catch: `decide` that looks at `No` alone lets `Unknown` through.
    #[test]
    fn only_yes_is_yes() {
        let closed = |answer| decide(&[asked(Answer::Yes), asked(answer)]) != Decision::Open;
        assert!(!closed(Answer::Yes));
        assert!(closed(Answer::no("infusing")));
        assert!(closed(Answer::unknown("no answer")));
        assert_eq!(decide(&[]), Decision::Open);
        assert_eq!(
            decide(&[asked(Answer::no("infusing")), asked(Answer::Yes)]),
            Decision::Closed(vec!["therapy: infusing".to_owned()])
        );
    }

    #[test]
    fn what_a_provider_says_is_bounded_and_plain() {
        assert_eq!(quoted(b" a\x1b[2Jb\n"), "a [2Jb");
        assert_eq!(quoted(&[b'x'; 5000]).chars().count(), REASON_LEN_MAX + 1);
    }
}
