//! A whole fleet and its server in one process, over time that goes as fast as it can.
//!
//! ```text
//!   devices: the agent's own driver, machine, trust store, boot files and installers
//!      |          on a disk in memory that loses power, with a clock that is off
//!      v
//!   network: loses requests and answers; behind some of it sits a hostile proxy
//!      v
//!   server: the real rollouts, director, fleet table, writer and store (sled), which dies and
//!           comes back from what was durable
//!   observer: sees all of it at once, and says what must never be
//! ```
//!
//! One run takes a fleet through four releases: a good one, one that makes devices ill, one that
//! kills devices without a word, and a good one again. The second and the third must halt.
//!
//! Everything comes from the seed, in one thread and one order: the same options give the same run.
//!
//! What is not here: TLS and sockets ([`load`] is about those), the audit log, several
//! servers, disks that tear writes (`power` visits those), and the server's own disk losing power
//! (its kill suites do).

mod device;
mod disk;
pub mod load;
mod network;
mod observer;
mod outcome;
pub mod process;
mod server;
mod world;

pub use outcome::{Campaign, Outcome};
pub use world::run;

/// A fleet of more devices is large.
const LARGE: u32 = 10_000;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Devices.
    pub devices: u32,
    /// Where all chance comes from.
    pub seed: u64,
    /// Seconds between two polls of a device.
    pub poll_secs: u32,
    /// Seconds between two looks of the server at its fleet; a real one looks each second.
    pub look_secs: i64,
    /// Releases, in their order.
    pub campaigns: Vec<Release>,
    /// How bad the world is.
    pub weather: Weather,
    /// What somebody did wrong, to see that it is found.
    pub mistake: Option<Mistake>,
}

/// What a release does to devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Nothing bad.
    Good,
    /// Half of the devices fall ill; their health commands say so.
    Sick,
    /// Half of the devices never say anything again.
    Deadly,
    /// Nothing bad, and it comes last.
    Last,
}

impl Release {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Good, Self::Sick, Self::Deadly, Self::Last];

    /// The name of its rollout.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Sick => "sick",
            Self::Deadly => "deadly",
            Self::Last => "last",
        }
    }

    /// The version of its images.
    pub(crate) const fn version(self) -> u8 {
        match self {
            Self::Good => 1,
            Self::Sick => 2,
            Self::Deadly => 3,
            Self::Last => 4,
        }
    }

    /// Whether its rollout must halt.
    pub const fn must_halt(self) -> bool {
        matches!(self, Self::Sick | Self::Deadly)
    }
}

/// How often things go wrong, once in so many; 0 is never.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// Requests that are lost, or whose answers are.
    pub loss: usize,
    /// Bodies of downloads that break off.
    pub broken: usize,
    /// Wakings of a device within which its power fails.
    pub cuts: usize,
    /// Devices behind a hostile proxy, for the first hours.
    pub hostile: usize,
    /// Devices whose clock is off by hours, for the first hours.
    pub off_clocks: usize,
    /// Looks of the server before which it dies.
    pub deaths: usize,
}

impl Weather {
    /// As bad as it is in the field, and then somewhat.
    pub const BAD: Self = Self {
        loss: 20,
        broken: 20,
        cuts: 60,
        hostile: 20,
        off_clocks: 20,
        deaths: 150,
    };
    /// Nothing goes wrong but what releases do.
    pub const CALM: Self = Self {
        loss: 0,
        broken: 0,
        cuts: 0,
        hostile: 0,
        off_clocks: 0,
        deaths: 0,
    };
}

/// A mistake that is planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Devices take what the image repository has, and do not ask whether the director agrees.
    ActsAlone,
    /// Whoever took an offer counts as done.
    SilenceIsConsent,
    /// A server that dies forgets which offers were open.
    PermitsLostAtDeath,
    /// Receipts are acknowledged before the disk has them.
    AcknowledgesTooEarly,
}

impl Mistake {
    /// All of them, by name.
    pub const ALL: [(&'static str, Self); 4] = [
        ("acts-alone", Self::ActsAlone),
        ("silence-is-consent", Self::SilenceIsConsent),
        ("permits-lost-at-death", Self::PermitsLostAtDeath),
        ("acknowledges-too-early", Self::AcknowledgesTooEarly),
    ];
}

impl Options {
    /// So many devices in bad weather, which poll each hour; a large fleet each four hours, while its
    /// server looks each ten minutes.
    pub fn new(devices: u32, seed: u64) -> Self {
        let is_large = devices > LARGE;
        Self {
            devices,
            seed,
            poll_secs: if is_large { 4 * 3600 } else { 3600 },
            look_secs: if is_large { 600 } else { 60 },
            campaigns: Release::ALL.to_vec(),
            weather: Weather::BAD,
            mistake: None,
        }
    }

    /// The command that runs the same again.
    pub fn replay(&self) -> String {
        let Self {
            devices,
            seed,
            poll_secs,
            look_secs,
            ..
        } = self;
        format!(
            "cargo xtask fleet-sim --devices {devices} --seed {seed} --poll {poll_secs} --look {look_secs}"
        )
    }
}
