//! The configuration: one TOML file, checked whole, with all faults named by line.

mod boot;
mod gates;
mod in_place;
mod key;
mod local;
mod read;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::fault::Faults;
use ampoule_protocol::name::{ComponentName, HardwareId, ProductName};

use crate::boot::World;
use crate::install::Place;
use crate::local::LocalConfig;
use crate::net::{Backoff, LinkHost, Pace};
use crate::state::StateConfig;
use crate::system::CommandLine;

pub use gates::GatesConfig;
pub use in_place::in_place;
pub use key::hook;
pub use read::load;

/// What a device is told about itself; nothing received can change it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The agent's own folder.
    pub data_dir: PathBuf,
    /// What this device is.
    pub product: ProductName,
    /// Its hardware.
    pub hardware: HardwareId,
    /// Where it is, for releases that are cleared for some regions only.
    pub region: Option<String>,
    /// Facts that releases may require, such as the version of the boot loader.
    pub facts: Vec<(String, String)>,
    /// The root that it was made with.
    pub root: PathBuf,
    /// The director's root that it was made with; absent on a device that lives alone.
    pub director_root: Option<PathBuf>,
    /// The server.
    pub server: Server,
    /// How it gets its first certificate; absent where somebody brings it.
    pub enrolment: Option<Enrolment>,
    /// Between two checks.
    pub poll_interval: Duration,
    /// After a fault.
    pub backoff: Backoff,
    /// Memory that a patch may take.
    pub patch_memory_max: u64,
    /// The components, by name.
    pub places: Vec<Place>,
    /// The boot loaders of those that have no boot file.
    pub worlds: Vec<(ComponentName, World)>,
    /// The verdict on a trial.
    pub health: HealthConfig,
    /// The gates.
    pub gates: GatesConfig,
    /// The local interface.
    pub local: LocalConfig,
    /// How a new image is started.
    pub restart: Option<CommandLine>,
    /// Whether this is the configuration of a recovery image: neither slot runs.
    pub is_recovery: bool,
    /// The configured state that follows the version, where there is one.
    pub state: Option<StateConfig>,
}

/// The server.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    /// `https://host:port`.
    pub url: String,
    /// Who may vouch for it.
    pub ca: PathBuf,
    /// The device's certificate.
    pub certificate: PathBuf,
    /// The device's key, or the description of the command that has it ([`crate::key`]).
    pub key: PathBuf,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one read may take.
    pub stall_timeout: Duration,
    /// How fast is fast enough.
    pub pace: Pace,
    /// Bytes that may come each second; `None` for as many as there are.
    pub bytes_per_sec_max: Option<u64>,
    /// The longest artifact that is fetched whole over this link; `None` for any. A longer one comes
    /// by a delta or not at all.
    pub whole_bytes_max: Option<u64>,
    /// Where else targets may come from, by a link that the server gives; absent where no link is
    /// followed.
    pub links: Option<Links>,
}

/// Where links may lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// To these hosts; 1 to 8.
    pub hosts: Vec<LinkHost>,
    /// Who may vouch for them.
    pub ca: PathBuf,
}

/// How the device gets its first certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    /// `https://host:port` of the server's enrolment listener.
    pub url: String,
    /// What it shows.
    pub by: EnrolBy,
}

/// What a device shows that has no certificate of its fleet yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnrolBy {
    /// A one-time token, in a file.
    Token(PathBuf),
    /// What its manufacturer gave it.
    Birth {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// The verdict on a trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthConfig {
    /// What is run; all must exit with 0.
    pub commands: Vec<CommandLine>,
    /// For how long each may run.
    pub timeout: Duration,
    /// Between two runs.
    pub interval: Duration,
    /// How long good must last.
    pub bake_time: Duration,
    /// For how long after the start a failure is no verdict yet.
    pub settle_time: Duration,
    /// After this, silence is a bad verdict.
    pub silence_max: Duration,
    /// Boots that a trial gets.
    pub attempts_max: u32,
}

/// A configuration that cannot be used, with all its faults; each is a cause of its own.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ConfigError(#[from] pub Faults);

impl Coded for ConfigError {
    fn code(&self) -> &'static str {
        "configuration"
    }

    fn guilty(&self) -> Guilty {
        Guilty::Operator
    }
}
