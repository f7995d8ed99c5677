//! One device: the agent's own driver on a disk in memory, and what happens to it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ampoule_agent::boot::{FileBoot, load_all};
use ampoule_agent::driver::{Device as Made, Driver, DriverError, Rest, Waits, Watch};
use ampoule_agent::gate::{Answer, Gate, Question};
use ampoule_agent::install::Place;
use ampoule_agent::journal::Journal;
use ampoule_agent::machine::{BootViews, Fault, Health as Verdict, Phase, State};
use ampoule_agent::net::Backoff;
use ampoule_agent::ports::{Clock, Health, Ports, Restart, Restarted};
use ampoule_agent::receipt::Reporter;
use ampoule_agent::trust::BUILD_TIME;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{DeviceId, HardwareId, ProductName};
use ampoule_protocol::release::Install;
use ampoule_protocol::sign::{Ed25519Key, Sign as _};
use ampoule_protocol::time::UtcTime;

use super::disk::{Common, Disk};
use super::network::{Line, Net};
use super::world::{Sky, name_of};
use super::{Mistake, Release};
use crate::power::life::{DATA_DIR, place};
use crate::power::repo::{HARDWARE, PRODUCT};
use crate::random::Random;

/// From a restart to the agent.
const BOOT_SECS: i64 = 60;
/// From a power cut to the agent.
const DARK_SECS: i64 = 180;
/// How long a new image must be well.
const BAKE: Duration = Duration::from_mins(10);
/// Between two questions to health commands.
const HEALTH_INTERVAL: Duration = Duration::from_mins(4);
/// Between two questions to the gate, which says no every third time.
const GATES_INTERVAL: Duration = Duration::from_mins(7);
const GATE_CLOSES: usize = 3;
/// One in so many daemons that are at rest is started anew.
const STARTED_ANEW: usize = 8;
/// A cut comes within so many operations of its disk.
const CUT_WITHIN: usize = 80;

/// See the module's head.
pub(super) struct Device {
    pub(super) id: DeviceId,
    pub(super) number: u32,
    disk: Disk,
    place: Place,
    random: Random,
    clock: Skew,
    hostile_until: i64,
    memory: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    /// The process, while there is something to do.
    driver: Option<Driver>,
    booted_at: i64,
    must_boot: bool,
    /// The version that runs.
    pub(super) running: u8,
    pub(super) is_dead: bool,
    /// Seconds that an update has waited for gates, and after how many the director is asked again.
    waited: i64,
    patience: i64,
}

/// A wall clock that is off until somebody sets it.
#[derive(Debug, Clone, Copy)]
struct Skew {
    secs: i64,
    until: i64,
    has_none: bool,
}

/// What a waking came to.
pub(super) struct Woken {
    /// When it wakes again; never, where it is dead.
    pub(super) next: Option<i64>,
    /// What its journal says now.
    pub(super) state: State,
    /// Whether it is out of service.
    pub(super) is_away: bool,
}

impl Device {
    pub(super) fn new(sky: &Sky, number: u32, common: &Rc<Common>, factory: &[u8]) -> Self {
        let mut random = Random::new(sky.seed ^ (u64::from(number) << 20) ^ 0xa5a5);
        let disk = Disk::new(common.clone());
        let place = place("rootfs", Install::Slot);
        disk.plant(&place.slots[0], factory.to_vec());
        disk.plant(&place.slots[1], Vec::new());
        let hours = |random: &mut Random| 3600 * i64::try_from(random.below(6)).unwrap_or(0);
        let is = |random: &mut Random, one_in: usize| one_in > 0 && random.one_in(one_in);
        let now = sky.now.get();
        let is_off = is(&mut random, sky.weather.off_clocks);
        let clock = Skew {
            secs: hours(&mut random) * if random.one_in(2) { 8 } else { -8 },
            until: if is_off {
                now + hours(&mut random)
            } else {
                now
            },
            has_none: is_off && random.one_in(2),
        };
        let is_hostile = is(&mut random, sky.weather.hostile);
        let hostile_until = if is_hostile {
            now + 2 * hours(&mut random)
        } else {
            now
        };
        Self {
            id: name_of(number),
            number,
            disk,
            place,
            random,
            clock,
            hostile_until,
            memory: Rc::default(),
            driver: None,
            booted_at: now,
            must_boot: true,
            running: 0,
            is_dead: false,
            waited: 0,
            patience: 0,
        }
    }

    /// When it is switched on for the first time.
    pub(super) fn first(&mut self, within: u32) -> i64 {
        i64::try_from(self.random.below(within.max(1) as usize)).unwrap_or(0)
    }

    /// Does what is due.
    pub(super) fn wake(&mut self, sky: &Rc<Sky>) -> Woken {
        let now = sky.now.get();
        let cuts = sky.weather.cuts;
        if cuts > 0 && self.random.one_in(cuts) {
            self.disk.power(Some(1 + self.random.below(CUT_WITHIN)));
        }
        let lived = self.live(sky);
        let next = if self.disk.is_off() {
            sky.observer.borrow_mut().cuts += 1;
            self.driver = None;
            self.must_boot = true;
            Some(now + DARK_SECS)
        } else {
            match lived {
                Ok(next) => next,
                Err(error) => {
                    let what = format!("{} cannot go on: {error}", self.id);
                    sky.observer.borrow_mut().sin(what);
                    None
                }
            }
        };
        self.disk.power(None);
        let state = self.state();
        let is_away = match state.phase {
            Phase::Idle
            | Phase::Checking
            | Phase::Filling(_)
            | Phase::Verifying(_)
            | Phase::Staged(_)
            | Phase::Waiting(_) => false,
            Phase::Arming(ref arming) => arming.armed && self.must_boot,
            Phase::Activating(_) | Phase::Trial(_) | Phase::Committing(_) | Phase::Reverting(_) => {
                true
            }
        };
        Woken {
            next,
            state,
            is_away,
        }
    }

    fn state(&self) -> State {
        match &self.driver {
            Some(driver) => driver.state().clone(),
            None => Journal::peek(&self.disk, Path::new(DATA_DIR))
                .ok()
                .flatten()
                .unwrap_or_default(),
        }
    }

    fn live(&mut self, sky: &Rc<Sky>) -> Result<Option<i64>, DriverError> {
        let now = sky.now.get();
        if self.must_boot {
            self.boot(sky)?;
            if self.is_dead {
                return Ok(None);
            }
        }
        let (mut driver, mut rest) = if let Some(mut driver) = self.driver.take() {
            if driver.state().phase.is_waiting() && self.waited >= self.patience {
                self.waited = 0;
                driver.check()?;
            }
            let rest = driver.tick()?;
            (driver, rest)
        } else {
            let mut driver = self.open(sky)?;
            let rest = driver.start()?;
            (driver, rest)
        };
        if rest == Rest::Idle {
            rest = driver.check()?;
            self.waited = 0;
        }
        let poll = i64::try_from(driver.until_next_check().as_secs()).unwrap_or(i64::MAX);
        self.patience = poll;
        Ok(Some(match rest {
            Rest::Idle => {
                // Nothing is under way: the process may as well be another one next time.
                if !self.random.one_in(STARTED_ANEW) {
                    self.driver = Some(driver);
                }
                now + poll.max(1)
            }
            Rest::Wait(time) => {
                let secs = i64::try_from(time.as_secs()).unwrap_or(i64::MAX).max(1);
                self.waited += secs;
                self.driver = Some(driver);
                now + secs
            }
            Rest::RestartDue | Rest::Restarting => {
                self.must_boot = true;
                now + BOOT_SECS
            }
        }))
    }

    /// Plays the boot loader, and whatever the image does that it starts.
    fn boot(&mut self, sky: &Rc<Sky>) -> Result<(), DriverError> {
        let loaded = load_all(&self.disk, &[&self.place], &BootViews::new())?;
        self.must_boot = false;
        self.booted_at = sky.now.get();
        let slot = loaded
            .first()
            .map(|loaded| loaded.path.clone())
            .unwrap_or_default();
        let content = self.disk.content(&slot).unwrap_or_default();
        if let Some(version) = sky.version_of(&content) {
            self.running = version;
        } else {
            let what = format!("{} boots an image that nobody signed", self.id);
            sky.observer.borrow_mut().sin(what);
        }
        self.is_dead = self.running == Release::Deadly.version() && self.falls(sky);
        Ok(())
    }

    /// Whether a bad release is bad for this device.
    fn falls(&self, sky: &Sky) -> bool {
        let of = format!("{} {} {}", sky.seed, self.number, self.running);
        Digest::of(of.as_bytes()).as_bytes()[0].is_multiple_of(2)
    }

    fn open(&mut self, sky: &Rc<Sky>) -> Result<Driver, DriverError> {
        let seed = Digest::of(self.id.as_str().as_bytes());
        let key = Ed25519Key::from_seed(seed.as_bytes()).expect("a digest is a seed");
        let line = Line {
            device: self.id.clone(),
            number: self.number,
            key: key.public_key().clone(),
            hostile_until: self.hostile_until,
            memory: self.memory.clone(),
        };
        let storage = Rc::new(self.disk.clone());
        let is_sick = self.running == Release::Sick.version() && self.falls(sky);
        let ports = Ports {
            storage: storage.clone(),
            network: Box::new(Net::new(sky.clone(), line, Random::new(self.random.next()))),
            boot: Box::new(FileBoot::new(storage, std::iter::once(&self.place))),
            clock: Box::new(Hands {
                sky: sky.clone(),
                skew: self.clock,
                booted_at: self.booted_at,
            }),
            health: Box::new(Fated(is_sick)),
            gates: vec![Box::new(Therapy(RefCell::new(Random::new(
                self.random.next(),
            ))))],
            restart: Box::new(Due),
        };
        let made = self.made(sky, key);
        let driver = Driver::open(made, ports, Box::new(Silent))?;
        if sky.mistake == Some(Mistake::ActsAlone) {
            return Ok(driver);
        }
        driver.in_fleet(&sky.director_root)
    }

    fn made(&self, sky: &Sky, key: Ed25519Key) -> Made {
        let hardware = HardwareId::parse(HARDWARE).expect("a name");
        Made {
            places: vec![self.place.clone()],
            hardware: hardware.clone(),
            region: Some("EU".to_owned()),
            facts: Vec::new(),
            patch_memory_max: 64 << 20,
            whole_bytes_max: None,
            attempts_max: 3,
            reporter: Reporter {
                device: self.id.clone(),
                product: ProductName::parse(PRODUCT).expect("a name"),
                hardware,
            },
            key: std::sync::Arc::new(key),
            data_dir: PathBuf::from(DATA_DIR),
            root: sky.shelf.tree["metadata/1.root.json"].clone(),
            waits: Waits {
                poll_interval: Duration::from_secs(sky.poll_secs.into()),
                backoff: Backoff {
                    first: Duration::from_mins(1),
                    longest: Duration::from_secs(sky.poll_secs.into()),
                },
                gates_interval: GATES_INTERVAL,
                health_interval: HEALTH_INTERVAL,
            },
        }
    }
}

struct Hands {
    sky: Rc<Sky>,
    skew: Skew,
    booted_at: i64,
}

impl Clock for Hands {
    fn wall(&self) -> Option<UtcTime> {
        let now = self.sky.now.get();
        if now >= self.skew.until {
            return Some(UtcTime::from_unix(now));
        }
        let wall = UtcTime::from_unix(now + self.skew.secs);
        (!self.skew.has_none && wall >= BUILD_TIME).then_some(wall)
    }

    fn uptime(&self) -> Duration {
        let secs = u64::try_from(self.sky.now.get() - self.booted_at);
        Duration::from_secs(secs.unwrap_or(0))
    }

    fn sleep(&self, _time: Duration) {}
}

/// Health commands of an image that is sick here, or well.
struct Fated(bool);

impl Health for Fated {
    fn verdict(&mut self, trial_time: Duration) -> Verdict {
        if self.0 {
            return Verdict::Bad(Fault::device("health-bad", "it is ill"));
        }
        if trial_time < BAKE {
            return Verdict::Undecided;
        }
        Verdict::Good
    }
}

/// A therapy that begins and ends as it likes.
struct Therapy(RefCell<Random>);

impl Gate for Therapy {
    fn name(&self) -> &'static str {
        "therapy"
    }

    fn ask(&mut self, _question: &Question) -> Answer {
        if self.0.borrow_mut().one_in(GATE_CLOSES) {
            Answer::no("a therapy runs")
        } else {
            Answer::Yes
        }
    }
}

struct Due;

impl Restart for Due {
    fn restart(&mut self) -> io::Result<Restarted> {
        Ok(Restarted::Due)
    }
}

struct Silent;

impl Watch for Silent {
    fn phase(&mut self, _state: &State) {}
    fn progress(&mut self, _what: &str, _done: u64, _total: u64) {}
    fn note(&mut self, _text: &str) {}
}
