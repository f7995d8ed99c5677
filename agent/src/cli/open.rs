//! Puts the real ports together from the configuration.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::name::ComponentName;

use crate::boot::{BootError, FileBoot, RecoveryBoot, WorldBoot};
use crate::config::{Config, ConfigError};
use crate::disk::Disk;
use crate::driver::{Device, Driver, DriverError, LookError, Waits, Watch};
use crate::enrol::EnrolmentError;
use crate::gate::{self, Consents, Gate};
use crate::journal::JournalError;
use crate::key::DeviceKey;
use crate::machine::Fault;
use crate::module::Programs;
use crate::net::{BundleError, BundleFile, Identity, IdentityError};
use crate::ports::{BootControl, Clock, Network, Ports, Storage};
use crate::probe::{ProbeError, Proven, Records};
use crate::receipt::Reporter;
use crate::seal::NetworkHalf;
use crate::state::StateStore;
use crate::stop::Stop;
use crate::system::{HealthCommands, RestartCommand, SystemClock};

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("\"{path}\" cannot be read")]
    Read { path: PathBuf, source: io::Error },
    #[error("\"{path}\" cannot be written")]
    Write { path: PathBuf, source: io::Error },
    #[error("\"{path}\" is not what a server gives back for receipts")]
    NotUnderstood {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error(transparent)]
    Enrolment(#[from] EnrolmentError),
    #[error("{0}")]
    Enroll(String),
    #[error("another ampoule-agent is at work in \"{0}\"")]
    Busy(PathBuf),
    #[error("\"{path}\" cannot be locked")]
    Lock { path: PathBuf, source: io::Error },
    #[error("the floor in \"{folder}\" is left as it is")]
    Floor {
        folder: PathBuf,
        source: JournalError,
    },
    #[error(transparent)]
    Driver(#[from] DriverError),
    #[error(transparent)]
    Look(#[from] LookError),
    #[error(transparent)]
    Boot(#[from] BootError),
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error("the boot loader cannot be probed")]
    Probe(#[from] ProbeError),
    #[error("{}", .0.text)]
    Fault(Fault),
    #[error("this is not the configuration of a recovery image")]
    NoRecovery,
    #[error("output failed")]
    Output(#[from] io::Error),
}

impl CliError {
    fn coded(&self) -> Option<&dyn Coded> {
        match self {
            Self::Config(error) => Some(error),
            Self::Driver(error) => Some(error),
            Self::Look(error) => Some(error),
            Self::Boot(error) => Some(error),
            Self::Bundle(error) => Some(error),
            Self::Probe(error) => Some(error),
            _ => None,
        }
    }

    /// The stable code.
    pub(super) fn code(&self) -> &str {
        match self {
            Self::Identity(_) => "identity",
            Self::NotUnderstood { .. } => "acknowledgement-malformed",
            Self::Read { .. } | Self::Write { .. } | Self::Output(_) | Self::Lock { .. } => "io",
            Self::Busy(_) => "busy",
            Self::NoRecovery => "no-recovery-image",
            Self::Enrolment(_) | Self::Enroll(_) => "not-enrolled",
            Self::Floor { .. } => "floor-known",
            Self::Fault(fault) => &fault.code,
            _ => self.coded().map_or("unknown", Coded::code),
        }
    }

    /// Whose fault it is.
    pub(super) fn guilty(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.guilty.as_str(),
            _ => self
                .coded()
                .map_or(Guilty::Operator, Coded::guilty)
                .as_str(),
        }
    }

    /// The one good next step.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::NoRecovery => Some(
                "\"recovery.image = true\" says so, in a configuration that no slot holds"
                    .to_owned(),
            ),
            Self::Busy(_) => Some("stop the daemon, or ask it with \"status\"".to_owned()),
            Self::Identity(_) => {
                Some("\"ampoule-agent enroll\" asks the server for a certificate".to_owned())
            }
            _ => self.coded().and_then(Coded::hint),
        }
    }
}

/// A lock on the agent's folder, while it stands.
pub(super) struct Lock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

/// How long a lock is waited for: who was killed while it started a program leaves it for a moment to that
/// one, until it has become another program.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Only one agent works in a folder at a time.
pub(super) fn lock(folder: &Path) -> Result<Lock, CliError> {
    let path = folder.join("lock");
    let fail = |source| CliError::Lock {
        path: path.clone(),
        source,
    };
    std::fs::create_dir_all(folder).map_err(fail)?;
    let file = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(fail)?;
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Lock(file)),
            Err(TryLockError::Error(source)) => return Err(fail(source)),
            Err(TryLockError::WouldBlock) if start.elapsed() > LOCK_PATIENCE => {
                return Err(CliError::Busy(folder.to_owned()));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_INTERVAL),
        }
    }
}

/// Boot control of every component, as it stands.
pub(super) fn boot_control(config: &Config, storage: &Rc<dyn Storage>) -> WorldBoot {
    let files = FileBoot::new(Rc::clone(storage), config.places.iter());
    WorldBoot::new(storage, files, config.worlds.iter().cloned())
}

/// What people said of updates, as it is kept.
pub(super) fn consents(config: &Config) -> Consents {
    let clock = Rc::new(SystemClock::default());
    Consents::new(Rc::new(Disk), clock, &config.data_dir)
}

/// Every gate, and the one that waits for the boot loaders to be proven.
fn gates(config: &Config, storage: &Rc<dyn Storage>) -> Vec<Box<dyn Gate>> {
    let mut gates = gate::all(&config.gates, &consents(config));
    if config.gates.boot_probe {
        let components = probed(config).cloned().collect();
        let records = Records::new(Rc::clone(storage), &config.data_dir);
        gates.push(Box::new(Proven::new(records, components)));
    }
    gates
}

/// The components whose boot loaders can be probed: those with a loader of their own, or where
/// there is none, the first.
pub(super) fn probed(config: &Config) -> impl Iterator<Item = &ComponentName> {
    let of_worlds = config.worlds.iter().map(|(component, _)| component);
    let of_files = config.places.first().map(|place| &place.component);
    of_worlds.chain(of_files.filter(|_| config.worlds.is_empty()))
}

/// When the half of the agent that speaks to the server is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// At once: this process seals itself, and starts none afterwards.
    Now,
    /// With the first question, if there is one.
    Later,
}

/// The server, or the bundle that was carried here in its place.
fn network(
    config: &Config,
    key: &DeviceKey,
    bundle: Option<&Path>,
    when: Half,
) -> Result<Box<dyn Network>, CliError> {
    if let Some(path) = bundle {
        return Ok(Box::new(BundleFile::open(path)?));
    }
    let mut half = NetworkHalf::new(&config.server, key.clone())?;
    if when == Half::Now {
        match half.start() {
            Ok(gaps) if gaps.is_empty() => {}
            Ok(gaps) => eprintln!("  network half: {gaps}"),
            // It is started again with the first question, and failing then is a fault of the
            // network.
            Err(error) => eprintln!("  network half: {error}"),
        }
    }
    Ok(Box::new(half))
}

/// The driver over the real ports; over `bundle` where there is one.
pub(super) fn driver(
    config: &Config,
    bundle: Option<&Path>,
    watch: Box<dyn Watch>,
    when: Half,
) -> Result<Driver, CliError> {
    driver_with(config, bundle, watch, when, |clock| Box::new(clock))
}

/// The same, with something that serves while it waits.
pub(super) fn driver_with(
    config: &Config,
    bundle: Option<&Path>,
    watch: Box<dyn Watch>,
    when: Half,
    clock: impl FnOnce(SystemClock) -> Box<dyn Clock>,
) -> Result<Driver, CliError> {
    let stop = Stop::on_signals()?;
    let server = &config.server;
    let identity = Identity::load(&server.certificate, &server.key, &server.ca)?;
    let network = network(config, &identity.key, bundle, when)?;
    let root = std::fs::read(&config.root).map_err(|source| CliError::Read {
        path: config.root.clone(),
        source,
    })?;
    let storage: Rc<dyn Storage> = Rc::new(Disk);
    let boot = boot_control(config, &storage);
    let boot: Box<dyn BootControl> = if config.is_recovery {
        Box::new(RecoveryBoot(boot))
    } else {
        Box::new(boot.settle()?)
    };
    let ports = Ports {
        storage: storage.clone(),
        network,
        boot,
        clock: clock(SystemClock::stopped_by(stop)),
        health: Box::new(HealthCommands {
            commands: config.health.commands.clone(),
            timeout: config.health.timeout,
            bake_time: config.health.bake_time,
            settle_time: config.health.settle_time,
            silence_max: config.health.silence_max,
            answers: Vec::new(),
        }),
        gates: gates(config, &storage),
        restart: Box::new(RestartCommand(config.restart.clone())),
    };
    let device = Device {
        places: config.places.clone(),
        hardware: config.hardware.clone(),
        region: config.region.clone(),
        facts: config.facts.clone(),
        patch_memory_max: config.patch_memory_max,
        whole_bytes_max: config.server.whole_bytes_max,
        attempts_max: config.health.attempts_max,
        reporter: Reporter {
            device: identity.device,
            product: config.product.clone(),
            hardware: config.hardware.clone(),
        },
        key: identity.key,
        data_dir: config.data_dir.clone(),
        root,
        waits: Waits {
            poll_interval: config.poll_interval,
            backoff: config.backoff,
            gates_interval: config.gates.interval,
            health_interval: config.health.interval,
        },
    };
    let modules = Programs::new(&config.data_dir);
    let driver = Driver::open(device, ports, watch)?.with_modules(Box::new(modules));
    let driver = match &config.state {
        None => driver,
        Some(state) => driver.with_state(StateStore::new(Rc::new(Disk), state.clone())),
    };
    match &config.director_root {
        None => Ok(driver),
        Some(path) => {
            let root = std::fs::read(path).map_err(|source| CliError::Read {
                path: path.clone(),
                source,
            })?;
            Ok(driver.in_fleet(&root)?)
        }
    }
}
