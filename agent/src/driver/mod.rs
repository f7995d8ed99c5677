//! The loop that joins the pure machine and the ports.
//!
//! One contract: each step's state is durable in the journal before any of its actions is
//! performed. Nothing else in the agent changes the state.

mod act;
mod daemon;
mod fleet;
mod look;
mod modules;
mod recover;
mod send;
mod signed;
mod state;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::name::HardwareId;
use ampoule_protocol::repo::RepoError;
use ampoule_protocol::time::UtcTime;

pub use daemon::End;
pub use look::{Found, LookError};
pub use recover::{Finding, Holds, Repair};

use crate::boot::BootError;
use crate::gate::Asked;
use crate::history::History;
use crate::install::{Place, VerifiedImage};
use crate::journal::{Journal, JournalError};
use crate::key::DeviceKey;
use crate::machine::{self, BootViews, Event, Fault, Phase, State};
use crate::module::Modules;
use crate::net::{Backoff, jitter};
use crate::ports::{Ports, Restarted};
use crate::receipt::Reporter;
use crate::state::StateStore;
use crate::trust::{MetadataStore, StoreError, update_start};

/// The code of a receipt about boot settings that were out of order.
const BOOT_SETTINGS_MENDED: &str = "boot-settings-mended";

/// What a driver is made for.
pub struct Device {
    /// Its components.
    pub places: Vec<Place>,
    /// Its hardware.
    pub hardware: HardwareId,
    /// Where it is.
    pub region: Option<String>,
    /// Facts that releases may require.
    pub facts: Vec<(String, String)>,
    /// Memory that a patch may take.
    pub patch_memory_max: u64,
    /// The longest artifact that is fetched whole; `None` for any.
    pub whole_bytes_max: Option<u64>,
    /// Boots that a trial gets.
    pub attempts_max: u32,
    /// Who reports.
    pub reporter: Reporter,
    /// Its own key.
    pub key: DeviceKey,
    /// The agent's own folder.
    pub data_dir: PathBuf,
    /// The root that it was made with.
    pub root: Vec<u8>,
    /// How long it waits for what.
    pub waits: Waits,
}

/// How long the driver waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Between two checks.
    pub poll_interval: Duration,
    /// After faults.
    pub backoff: Backoff,
    /// Between two questions to the gates.
    pub gates_interval: Duration,
    /// Between two runs of the health commands.
    pub health_interval: Duration,
}

/// Told what happens, for people.
pub trait Watch {
    /// The machine came to another phase.
    fn phase(&mut self, state: &State);
    /// Bytes done of an image that is filled or verified.
    fn progress(&mut self, what: &str, done: u64, total: u64);
    /// The gates were asked.
    fn gates(&mut self, _asked: &[Asked]) {}
    /// Something that changes nothing and is worth a line.
    fn note(&mut self, text: &str);
}

/// What the agent itself cannot go on from; everything else is an event.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The journal: nothing may be acted on.
    #[error("failed to keep the journal in \"{folder}\"")]
    Journal {
        /// Where it is.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Both journals and the floor file.
    #[error("the journal in \"{folder}\" is lost, and the rollback floor with it")]
    FloorLost {
        /// Where they were.
        folder: PathBuf,
    },
    /// The boot settings cannot be read: nobody knows which slot runs.
    #[error("the boot settings do not say what runs")]
    Boot(#[from] BootError),
    /// The metadata store cannot be opened.
    #[error("the metadata store cannot be used")]
    Store(#[from] StoreError),
    /// The device's own key does not sign.
    #[error("a receipt cannot be signed")]
    Key(#[from] RepoError),
}

impl Coded for DriverError {
    fn code(&self) -> &'static str {
        match self {
            Self::Journal { .. } => "journal-io",
            Self::FloorLost { .. } => "floor-lost",
            Self::Boot(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Key(error) => error.code(),
        }
    }

    fn guilty(&self) -> Guilty {
        Guilty::Device
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Journal { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space there; nothing is lost".to_owned())
            }
            Self::FloorLost { .. } => Some(
                "on the device, \"ampoule-agent set-floor N\" with the rollback index of what runs"
                    .to_owned(),
            ),
            Self::Journal { .. } | Self::Boot(_) | Self::Store(_) | Self::Key(_) => None,
        }
    }
}

impl DriverError {
    fn of_journal(error: JournalError, folder: &Path) -> Self {
        let folder = folder.to_owned();
        match error {
            JournalError::Io(source) => Self::Journal { folder, source },
            JournalError::FloorLost => Self::FloorLost { folder },
            JournalError::FloorKnown(_) => Self::Journal {
                folder,
                source: io::Error::other(error),
            },
        }
    }
}

/// Where the driver came to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// No update is under way.
    Idle,
    /// Something waits: call [`Driver::tick`] after this time.
    Wait(Duration),
    /// The device is to be restarted by somebody else.
    RestartDue,
    /// The device restarts.
    Restarting,
}

/// The driver of one device.
pub struct Driver {
    device: Device,
    ports: Ports,
    watch: Box<dyn Watch>,
    store: MetadataStore,
    journal: Journal,
    history: History,
    state: State,
    proofs: Vec<VerifiedImage>,
    restarted: Option<Restarted>,
    /// When the trial began in this boot, in uptime.
    trial_since: Option<Duration>,
    /// What the server asked for, in seconds.
    server_interval: Option<Duration>,
    /// For a device in a fleet.
    fleet: Option<fleet::Fleet>,
    /// For a device with components of update modules.
    modules: Option<Box<dyn Modules>>,
    /// For a device whose state follows its version.
    store_of_state: Option<StateStore>,
}

impl Driver {
    /// Opens the journal and the metadata store; touches nothing else.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn open(device: Device, ports: Ports, watch: Box<dyn Watch>) -> Result<Self, DriverError> {
        let folder = &device.data_dir;
        let (journal, mut state) = Journal::open(ports.storage.clone(), folder)
            .map_err(|error| DriverError::of_journal(error, folder))?;
        let store = MetadataStore::open(ports.storage.clone(), &folder.join("metadata"))?;
        store.init(&device.root)?;
        let history = History::new(ports.storage.clone(), folder);
        if journal.was_lost() {
            // Receipts go on counting, so that none is taken for a repeat.
            let last = history.all().unwrap_or_default().pop();
            state.facts.report_seq = last.map_or(0, |report| report.seq);
            state.facts.last_fault = Some(Fault::device(
                "journal-lost",
                "neither journal could be read; what was under way is given up, the floor is kept",
            ));
        }
        Ok(Self {
            device,
            ports,
            watch,
            store,
            journal,
            history,
            state,
            proofs: Vec::new(),
            restarted: None,
            trial_since: None,
            server_interval: None,
            fleet: None,
            modules: None,
            store_of_state: None,
        })
    }

    /// What the machine knows.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Goes on from where the last process stopped.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn start(&mut self) -> Result<Rest, DriverError> {
        if self.journal.was_lost() && self.state.phase == Phase::Idle {
            // Nobody knows what was armed, and why.
            self.disarm_all()?;
        }
        // Programs may be starting beside us: what they look at comes first.
        self.settle_state()?;
        self.tell_noticed()?;
        let views = self.views()?;
        self.feed(Event::Started(views))
    }

    /// Queues a receipt of boot settings that were out of order; once, while nothing else is told.
    fn tell_noticed(&mut self) -> Result<(), DriverError> {
        let noticed = self.ports.boot.noticed();
        let last = self.state.facts.last_fault.as_ref();
        if noticed.is_empty() || last.is_some_and(|fault| fault.code == BOOT_SETTINGS_MENDED) {
            return Ok(());
        }
        let fault = Fault::device(BOOT_SETTINGS_MENDED, &noticed.join("; "));
        self.watch.note(&fault.text);
        self.step(Event::Lost(Vec::new(), fault))?;
        Ok(())
    }

    /// Looks for an update now.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn check(&mut self) -> Result<Rest, DriverError> {
        self.feed(Event::CheckDue)
    }

    /// Tries again what waits.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn tick(&mut self) -> Result<Rest, DriverError> {
        self.feed(Event::Tick)
    }

    /// Waits, on the clock port.
    pub fn sleep(&self, time: Duration) {
        self.ports.clock.sleep(time);
    }

    /// Whether the process is to end at the next good place.
    pub fn is_to_stop(&self) -> bool {
        self.ports.clock.is_to_stop()
    }

    /// How long to wait in Idle before the next check: the interval and its spread, or the
    /// back-off after faults, and never less than the server asked for.
    pub fn until_next_check(&self) -> Duration {
        let facts = &self.state.facts;
        let device = self.device.reporter.device.as_str();
        let waits = &self.device.waits;
        let round = self.state.facts.inventory_seq;
        let wait = match facts.failed_checks {
            0 => {
                let interval = self.server_interval.unwrap_or(waits.poll_interval);
                interval * 9 / 10 + jitter(device, round, interval / 5)
            }
            count => waits.backoff.wait(device, count),
        };
        wait.max(self.asked_to_wait())
    }

    fn asked_to_wait(&self) -> Duration {
        let fault = self.state.facts.last_fault.as_ref();
        Duration::from_secs(fault.and_then(|fault| fault.retry_after_secs).unwrap_or(0))
    }

    fn feed(&mut self, event: Event) -> Result<Rest, DriverError> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.step(event)?;
            for action in actions {
                events.extend(self.perform(action)?);
            }
        }
        Ok(self.rest())
    }

    /// One step of the machine, durable before it returns.
    fn step(&mut self, event: Event) -> Result<Vec<machine::Action>, DriverError> {
        let event = self.still_offered(event);
        let now = self.now();
        let last_seq = self.state.facts.report_seq;
        let phase = self.state.phase.as_str();
        let (state, actions) = machine::step(self.state.clone(), event, now);
        let written = self.journal.write(&state);
        written.map_err(|source| DriverError::Journal {
            folder: self.device.data_dir.clone(),
            source,
        })?;
        let outbox = std::mem::replace(&mut self.state, state).facts.outbox;
        self.forget_signed(&outbox);
        if self.state.phase.as_str() != phase {
            self.watch.phase(&self.state);
        }
        if !matches!(self.state.phase, Phase::Trial(_)) {
            self.trial_since = None;
        }
        let news = self
            .state
            .facts
            .outbox
            .iter()
            .filter(|report| report.seq > last_seq);
        for report in news {
            if let Err(error) = self.history.add(report) {
                self.watch
                    .note(&format!("failed to write the history: {error}"));
            }
        }
        Ok(actions)
    }

    fn rest(&self) -> Rest {
        match self.restarted {
            Some(Restarted::Due) => return Rest::RestartDue,
            Some(Restarted::UnderWay) => return Rest::Restarting,
            None => {}
        }
        let waits = &self.device.waits;
        let device = self.device.reporter.device.as_str();
        match &self.state.phase {
            Phase::Idle => Rest::Idle,
            Phase::Trial(_) => Rest::Wait(waits.health_interval),
            Phase::Filling(filling) => {
                let wait = waits.backoff.wait(device, filling.tries);
                Rest::Wait(wait.max(self.asked_to_wait()))
            }
            Phase::Checking
            | Phase::Verifying(_)
            | Phase::Staged(_)
            | Phase::Waiting(_)
            | Phase::Arming(_)
            | Phase::Activating(_)
            | Phase::Committing(_)
            | Phase::Reverting(_) => Rest::Wait(waits.gates_interval),
        }
    }

    fn now(&self) -> UtcTime {
        update_start(self.ports.clock.wall(), &self.store).time()
    }

    fn views(&self) -> Result<BootViews, BootError> {
        let mut views = BootViews::new();
        for place in &self.device.places {
            views.insert(
                place.component.clone(),
                self.ports.boot.view(&place.component)?,
            );
        }
        Ok(views)
    }
}
