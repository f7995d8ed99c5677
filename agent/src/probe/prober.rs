//! Carries a probe out: the pure [`step`] joined with storage, boot control, gates and restart.

use std::io;
use std::path::Path;
use std::rc::Rc;

use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::name::ComponentName;
use ampoule_protocol::release::Class;

use super::copy::{can_be_copied, copy};
use super::record::{Evidence, Record, Records, Stage};
use super::step::{Next, Verdict, step};
use crate::boot::BootError;
use crate::gate::{self, Decision, Gate, Question};
use crate::install::{InstallError, Place, digest_of};
use crate::journal::{Journal, JournalError};
use crate::machine::{Phase, Slot};
use crate::ports::{Access, BootControl, Clock, Restart, Restarted, Storage};

/// All that a probe works with.
pub struct Prober<'a> {
    /// Files and slots.
    pub storage: Rc<dyn Storage>,
    /// The boot loader's settings.
    pub boot: &'a mut dyn BootControl,
    /// The components.
    pub places: &'a [Place],
    /// The agent's own folder.
    pub data_dir: &'a Path,
    /// For the time of what was found.
    pub clock: &'a dyn Clock,
    /// Whether the device may be restarted; agreement to an update is not asked for, since there
    /// is none.
    pub gates: &'a mut [Box<dyn Gate>],
    /// How the device is restarted.
    pub restart: &'a mut dyn Restart,
}

/// What a start of the probe came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Went {
    /// No probe is under way.
    Nothing,
    /// The device restarts, or is to be restarted; the next start goes on.
    Restart(Restarted),
    /// It is over. A device that runs the trial's slot restarts once more.
    Ended(Evidence, Option<Restarted>),
}

/// A probe that cannot be begun or gone on with.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A component that the configuration does not name.
    #[error("component \"{0}\" is not in the configuration")]
    Unknown(String),
    /// Its slots are not bytes that could be copied.
    #[error("component \"{0}\" is not installed into slots or a file, and cannot be probed")]
    NotCopied(String),
    /// An update is under way.
    #[error("an update is under way ({0})")]
    Busy(&'static str),
    /// The device is not at rest.
    #[error("slot \"{running}\" runs, the default is \"{default}\", and {armed} armed")]
    Unrest {
        /// What runs.
        running: Slot,
        /// What is chosen.
        default: Slot,
        /// What is armed.
        armed: String,
    },
    /// The device may not be restarted now.
    #[error("the device may not be restarted now: {0}")]
    Closed(String),
    /// The other slot cannot be filled.
    #[error(transparent)]
    Copy(#[from] InstallError),
    /// The boot loader's settings.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The journal, which forgets what was in the other slot.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The restart command.
    #[error("the restart failed")]
    Restart(#[source] io::Error),
    /// The record of the probe.
    #[error("the record of the probe cannot be kept")]
    Record(#[from] io::Error),
}

impl Coded for ProbeError {
    fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "probe-unknown",
            Self::NotCopied(_) => "probe-not-copied",
            Self::Busy(_) => "probe-busy",
            Self::Unrest { .. } => "probe-unrest",
            Self::Closed(_) => "probe-closed",
            Self::Copy(error) => error.code(),
            Self::Boot(error) => error.code(),
            Self::Journal(_) | Self::Restart(_) | Self::Record(_) => "probe-io",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Unknown(_) | Self::NotCopied(_) | Self::Busy(_) | Self::Closed(_) => {
                Guilty::Operator
            }
            Self::Copy(error) => error.guilty(),
            Self::Boot(error) => error.guilty(),
            Self::Unrest { .. } | Self::Journal(_) | Self::Restart(_) | Self::Record(_) => {
                Guilty::Device
            }
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Busy(_) => {
                Some("a probe is for a device at rest; wait for the update".to_owned())
            }
            Self::Unrest { .. } => Some("restart the device once, and look again".to_owned()),
            _ => None,
        }
    }
}

impl Prober<'_> {
    /// Begins a probe of this component's boot loader, or goes on with the one that is under way.
    ///
    /// # Errors
    /// See [`ProbeError`]; nothing was changed then, or the next start goes on.
    pub fn begin(&mut self, component: &ComponentName) -> Result<Went, ProbeError> {
        if self.records().under_way()?.is_some() {
            return self.go_on();
        }
        let state = Journal::peek(self.storage.as_ref(), self.data_dir)?.unwrap_or_default();
        if !matches!(state.phase, Phase::Idle | Phase::Checking) {
            return Err(ProbeError::Busy(state.phase.as_str()));
        }
        let place = self
            .place(component)
            .ok_or_else(|| ProbeError::Unknown(component.to_string()))?;
        if !can_be_copied(place) {
            return Err(ProbeError::NotCopied(component.to_string()));
        }
        let view = self.boot.view(component)?;
        let is_armed = view.armed.is_some_and(|(_, left)| left > 0);
        if view.running != view.default || is_armed {
            return Err(ProbeError::Unrest {
                running: view.running,
                default: view.default,
                armed: if is_armed { "one is" } else { "none is" }.to_owned(),
            });
        }
        self.ask_gates(component).map_err(ProbeError::Closed)?;
        let mut record = Record::new(component.clone(), view.default, self.now());
        self.records().keep(&record)?;
        self.copy_and_arm(&mut record)
    }

    /// Goes on with the probe that is under way, after a start.
    ///
    /// # Errors
    /// See [`ProbeError`]; the next start tries again.
    pub fn go_on(&mut self) -> Result<Went, ProbeError> {
        let Some(mut record) = self.records().under_way()? else {
            return Ok(Went::Nothing);
        };
        if self.place(&record.component).is_none() {
            // The configuration changed meanwhile.
            self.records().end(None)?;
            return Ok(Went::Nothing);
        }
        let view = self.boot.view(&record.component)?;
        match step(&mut record, view) {
            Next::Conclude(verdict) => self.conclude(record, verdict),
            Next::Copy => match self.ask_gates(&record.component) {
                Ok(()) => self.copy_and_arm(&mut record),
                Err(closed) => self.conclude(record, interrupted(&closed)),
            },
            Next::Restart => match self.ask_gates(&record.component) {
                Ok(()) => self.restart(&mut record),
                Err(closed) => self.conclude(record, interrupted(&closed)),
            },
        }
    }

    fn copy_and_arm(&mut self, record: &mut Record) -> Result<Went, ProbeError> {
        let component = record.component.clone();
        let place = self
            .place(&component)
            .ok_or_else(|| ProbeError::Unknown(component.to_string()))?;
        let length = self.forget_other_slot(&component, record.default)?;
        let image = copy(self.storage.as_ref(), place, record.default, length)?;
        record.stage = Stage::Armed;
        self.records().keep(record)?;
        self.boot.arm(&image, record.attempts)?;
        let view = self.boot.view(&component)?;
        if let Some((_, left)) = view.armed
            && (1..record.attempts).contains(&left)
        {
            // As many as this loader can count to.
            record.attempts = left;
        }
        self.restart(record)
    }

    /// The other slot is about to hold something else than the journal says. Gives the length of
    /// what runs, where the journal knows it.
    fn forget_other_slot(
        &self,
        component: &ComponentName,
        running: Slot,
    ) -> Result<Option<u64>, ProbeError> {
        let (mut journal, mut state) = Journal::open(Rc::clone(&self.storage), self.data_dir)?;
        let slots = state.facts.slots.entry(component.clone()).or_default();
        let image = slots.get(&running).cloned();
        slots.remove(&running.other());
        journal.write(&state)?;
        // A record that is not true of the medium is worth nothing here.
        let place = self.place(component);
        let is_true = place.zip(image.as_ref()).is_some_and(|(place, image)| {
            let file = self.storage.open(place.slot_path(running), Access::Read);
            let found = file.and_then(|file| digest_of(file.as_ref(), image.length, &mut |_| {}));
            found.is_ok_and(|found| found == image.sha256)
        });
        Ok(image.filter(|_| is_true).map(|image| image.length))
    }

    fn restart(&mut self, record: &mut Record) -> Result<Went, ProbeError> {
        record.restarts = record.restarts.saturating_add(1);
        self.records().keep(record)?;
        Ok(Went::Restart(
            self.restart.restart().map_err(ProbeError::Restart)?,
        ))
    }

    /// The verdict is durable before anything is taken back: what is seen afterwards says less.
    fn conclude(&mut self, mut record: Record, verdict: Verdict) -> Result<Went, ProbeError> {
        record.stage = Stage::Ending {
            passed: verdict.passed,
            detail: verdict.detail.clone(),
        };
        self.records().keep(&record)?;
        self.boot.disarm(&record.component)?;
        let evidence = Evidence {
            component: record.component.clone(),
            passed: verdict.passed,
            detail: verdict.detail,
            restarts: record.restarts,
            time: self.now(),
        };
        self.records().end(Some(evidence.clone()))?;
        let view = self.boot.view(&record.component)?;
        let restarted = if view.running == record.default {
            None
        } else {
            Some(self.restart.restart().map_err(ProbeError::Restart)?)
        };
        Ok(Went::Ended(evidence, restarted))
    }

    fn ask_gates(&mut self, component: &ComponentName) -> Result<(), String> {
        let question = Question {
            update: ampoule_protocol::digest::Digest::of(component.as_str().as_bytes()),
            class: Class::Functional,
            downtime: std::time::Duration::ZERO,
        };
        match gate::decide(&gate::ask_all(self.gates, &question)) {
            Decision::Open => Ok(()),
            Decision::Closed(closed) => Err(closed.join(", ")),
        }
    }

    fn place(&self, component: &ComponentName) -> Option<&Place> {
        self.places
            .iter()
            .find(|place| place.component == *component)
    }

    fn records(&self) -> Records {
        Records::new(Rc::clone(&self.storage), self.data_dir)
    }

    fn now(&self) -> ampoule_protocol::time::UtcTime {
        self.clock.wall().unwrap_or(crate::trust::BUILD_TIME)
    }
}

fn interrupted(closed: &str) -> Verdict {
    Verdict {
        passed: false,
        detail: format!("interrupted, since the device may not be restarted: {closed}"),
    }
}
