//! A device whose network, clock, health and disk do as they are told.

use std::cell::RefCell;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ampoule_agent::boot::{FileBoot, RecoveryBoot, World as BootWorld, WorldBoot, load_all};
use ampoule_agent::driver::{Device, Driver, Rest, Waits, Watch};
use ampoule_agent::gate::{Answer, Gate, Question};
use ampoule_agent::install::{Options, Place};
use ampoule_agent::machine::{BootViews, Fault, Health as Verdict, State};
use ampoule_agent::module::{ModuleError, Modules, Order, Programs};
use ampoule_agent::net::{Backoff, NetError};
use ampoule_agent::ports::{
    BootControl, Clock, Fetch, Health, Network, Ports, Restart, Restarted, Storage,
};
use ampoule_agent::receipt::Reporter;
use ampoule_agent::state::{StateConfig, StateStore};
use ampoule_protocol::device::{Acknowledged, Check};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::Install;
use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;

use crate::bent::Bent;
use crate::repo::{Repo, Tree};

/// What a test bends.
pub(crate) struct Bends {
    pub(crate) tree: Tree,
    /// Requests for targets: path and offset.
    pub(crate) asked: Vec<(String, u64)>,
    /// Ends the next body of a path with this ending after so many bytes.
    pub(crate) cut: Option<(&'static str, u64)>,
    /// What every request fails with.
    pub(crate) refuses: Option<u64>,
    pub(crate) healthy: bool,
    pub(crate) receipts: Vec<serde_json::Value>,
    /// Every wait of the process.
    pub(crate) slept: Vec<Duration>,
    /// The process is asked to end after so many waits.
    pub(crate) stops_after: Option<usize>,
    /// Bytes that the disk has left.
    pub(crate) room: Option<u64>,
    /// Bytes that the disk takes before it is full.
    pub(crate) takes: Option<u64>,
    pub(crate) notes: Vec<String>,
    /// Operations so far that change the disk.
    pub(crate) operations: u64,
    /// After so many more the power fails.
    pub(crate) power: Option<u64>,
}

impl Bends {
    /// Counts an operation that is about to change the disk.
    pub(crate) fn change(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.power {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

pub(crate) type Shared = Rc<RefCell<Bends>>;

/// A device in a folder.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) repo: Repo,
    pub(crate) places: Vec<Place>,
    pub(crate) region: Option<String>,
    pub(crate) whole_bytes_max: Option<u64>,
    pub(crate) state: Option<StateConfig>,
    /// Whether the recovery image runs.
    pub(crate) is_recovery: bool,
    /// The boot loader of the first component, where it has one of its own.
    pub(crate) loader: Option<BootWorld>,
    pub(crate) bends: Shared,
}

impl World {
    /// With one slot, whose first place holds `image`.
    pub(crate) fn new(image: &[u8]) -> Self {
        let world = Self::of(&[("rootfs", Install::Slot)]);
        std::fs::write(
            world.places[0].slot_path(ampoule_agent::machine::Slot::A),
            image,
        )
        .expect("writes");
        world
    }

    /// With these components.
    pub(crate) fn of(components: &[(&str, Install)]) -> Self {
        // In memory where there is such a place: these tests cut lives, not media.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let folder = folder.expect("a folder");
        let repo = Repo::new();
        let bends = Bends {
            tree: repo.tree.clone(),
            asked: Vec::new(),
            cut: None,
            refuses: None,
            healthy: true,
            receipts: Vec::new(),
            slept: Vec::new(),
            stops_after: None,
            room: None,
            takes: None,
            notes: Vec::new(),
            operations: 0,
            power: None,
        };
        let place = |(name, install): &(&str, Install)| place(folder.path(), name, install);
        Self {
            places: components.iter().map(place).collect(),
            folder,
            repo,
            region: None,
            whole_bytes_max: None,
            state: None,
            is_recovery: false,
            loader: None,
            bends: Rc::new(RefCell::new(bends)),
        }
    }

    /// What was published is served.
    pub(crate) fn serve(&self) {
        self.bends.borrow_mut().tree.clone_from(&self.repo.tree);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A process of the agent.
    pub(crate) fn driver(&self) -> Driver {
        self.driver_or_dead().expect("the power is on")
    }

    /// The same; none where the power fails first.
    pub(crate) fn driver_or_dead(&self) -> Option<Driver> {
        let storage: Rc<dyn Storage> = Rc::new(Bent(self.bends.clone()));
        let ports = Ports {
            storage: storage.clone(),
            network: Box::new(Server(self.bends.clone())),
            boot: self.boot_control(&storage),
            clock: Box::new(Ticking(self.bends.clone())),
            health: Box::new(Told(self.bends.clone())),
            gates: vec![Box::new(Open)],
            restart: Box::new(NoRestart),
        };
        let for_state = storage_of(&self.bends);
        let device = Device {
            places: self.places.clone(),
            hardware: "pump-mk3".parse().expect("a name"),
            region: self.region.clone(),
            facts: Vec::new(),
            patch_memory_max: 64 << 20,
            whole_bytes_max: self.whole_bytes_max,
            attempts_max: 3,
            reporter: Reporter {
                device: "pump-7".parse().expect("a name"),
                product: "infusion-pump".parse().expect("a name"),
                hardware: "pump-mk3".parse().expect("a name"),
            },
            key: std::sync::Arc::new(Ed25519Key::from_seed(&[5; 32]).expect("a seed")),
            data_dir: self.path("data"),
            root: self.repo.root().to_vec(),
            waits: Waits {
                poll_interval: Duration::from_mins(5),
                backoff: Backoff {
                    first: Duration::from_secs(10),
                    longest: Duration::from_hours(1),
                },
                gates_interval: Duration::from_secs(30),
                health_interval: Duration::from_secs(5),
            },
        };
        let watch = Box::new(Notes(self.bends.clone()));
        match Driver::open(device, ports, watch) {
            Ok(driver) => {
                let programs = Programs::new(&self.path("data"));
                let modules = Box::new(Called(programs, self.bends.clone()));
                let driver = driver.with_modules(modules);
                let Some(config) = &self.state else {
                    return Some(driver);
                };
                Some(driver.with_state(StateStore::new(for_state, config.clone())))
            }
            Err(error) if self.is_off() => {
                self.bends.borrow_mut().notes.push(error.to_string());
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn boot_control(&self, storage: &Rc<dyn Storage>) -> Box<dyn BootControl> {
        let files = FileBoot::new(Rc::clone(storage), self.places.iter());
        if self.is_recovery {
            return Box::new(RecoveryBoot(files));
        }
        let Some(loader) = self.loader.clone() else {
            return Box::new(files);
        };
        let loaders = [(self.places[0].component.clone(), loader)];
        let boot = WorldBoot::new(storage, files, loaders).settle();
        Box::new(boot.expect("settings"))
    }

    /// The boot loader.
    pub(crate) fn boot(&self) {
        let places: Vec<&Place> = self.places.iter().collect();
        let disk = Bent(self.bends.clone());
        let loaded = load_all(&disk, &places, &BootViews::new());
        assert!(
            loaded.is_ok() || self.is_off(),
            "the loader failed with the power on"
        );
    }

    /// Whether the power has failed.
    pub(crate) fn is_off(&self) -> bool {
        self.bends.borrow().power.is_some_and(|left| left == 0)
    }

    /// Boots and ticks until the device rests after one look; gives what it knows then.
    pub(crate) fn settle(&self) -> State {
        let mut has_checked = false;
        for _ in 0..10 {
            self.boot();
            let mut driver = self.driver();
            let mut rest = driver.start().expect("starts");
            for _ in 0..40 {
                rest = match rest {
                    Rest::Idle if has_checked => return driver.state().clone(),
                    Rest::Idle => {
                        has_checked = true;
                        driver.check().expect("checks")
                    }
                    Rest::Wait(_) => driver.tick().expect("ticks"),
                    Rest::RestartDue | Rest::Restarting => break,
                };
            }
        }
        panic!("the device does not come to rest");
    }

    /// The receipts that the server has, newest last.
    pub(crate) fn last_receipt(&self) -> serde_json::Value {
        self.bends.borrow().receipts.last().expect("told").clone()
    }
}

fn storage_of(bends: &Shared) -> Rc<dyn Storage> {
    Rc::new(Bent(bends.clone()))
}

fn place(folder: &Path, name: &str, install: &Install) -> Place {
    let at = |ending: &str| folder.join(format!("{name}{ending}"));
    let (slots, visible) = match install {
        Install::Tree => ([at("/a.tar"), at("/b.tar")], at("/current")),
        _ => ([at(".a"), at(".b")], at("")),
    };
    let mut options = Options::default();
    if let Install::Module(module) = install {
        options.program = folder.join(module.as_str());
        options.timeout = Duration::from_mins(2);
    }
    Place {
        component: name.parse().expect("a name"),
        install: install.clone(),
        slots,
        visible,
        boot_file: at(".boot.json"),
        options,
    }
}

/// Noise that differs with the seed, and is the same again.
pub(crate) fn noise(seed: u32, len: usize) -> Vec<u8> {
    let block = |n: usize| *Digest::of(format!("{seed} {n}").as_bytes()).as_bytes();
    (0..len.div_ceil(32)).flat_map(block).take(len).collect()
}

struct Server(Shared);

impl Server {
    fn refusal(&self) -> Result<(), NetError> {
        match self.0.borrow().refuses {
            Some(secs) => Err(NetError::status(429, None, Some(secs))),
            None => Ok(()),
        }
    }
}

impl Fetch for Server {
    fn fetch(&mut self, name: &str, _max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        self.refusal()?;
        Ok(self
            .0
            .borrow()
            .tree
            .get(&format!("metadata/{name}"))
            .cloned())
    }
}

impl Network for Server {
    fn target(
        &mut self,
        name: &str,
        offset: u64,
        _length: u64,
    ) -> Result<Box<dyn Read + '_>, NetError> {
        self.refusal()?;
        let mut bends = self.0.borrow_mut();
        bends.asked.push((name.to_owned(), offset));
        let file = bends.tree.get(&format!("targets/{name}")).cloned();
        let file = file.ok_or_else(|| NetError::status(404, None, None))?;
        let body = file[usize::try_from(offset).expect("small")..].to_vec();
        let cut = bends.cut.take_if(|(ending, _)| name.ends_with(*ending));
        Ok(match cut {
            Some((_, limit)) => Box::new(io::Cursor::new(body).take(limit).chain(Broken)),
            None => Box::new(io::Cursor::new(body)),
        })
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, NetError> {
        self.refusal()?;
        if path != "receipts" {
            return Ok(br#"{"seq":1}"#.to_vec());
        }
        let envelope: serde_json::Value = serde_json::from_slice(body).expect("JSON");
        self.0
            .borrow_mut()
            .receipts
            .push(envelope["signed"].clone());
        let acknowledged = vec![Digest::of(body)];
        Ok(serde_json::to_vec(&Acknowledged { acknowledged }).expect("plain"))
    }
}

/// A connection that is gone.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

struct Ticking(Shared);

impl Clock for Ticking {
    fn wall(&self) -> Option<UtcTime> {
        UtcTime::parse("2027-01-01T00:00:00Z").ok()
    }
    fn uptime(&self) -> Duration {
        Duration::from_secs(self.0.borrow().slept.len() as u64)
    }
    fn sleep(&self, time: Duration) {
        self.0.borrow_mut().slept.push(time);
    }
    fn is_to_stop(&self) -> bool {
        let bends = self.0.borrow();
        bends
            .stops_after
            .is_some_and(|count| bends.slept.len() >= count)
    }
}

struct Told(Shared);

impl Health for Told {
    fn verdict(&mut self, _trial_time: Duration) -> Verdict {
        if self.0.borrow().healthy {
            Verdict::Good
        } else {
            Verdict::Bad(Fault::device("health-bad", "it is ill"))
        }
    }
    fn answers(&self) -> (Vec<Check>, u64) {
        let check = Check {
            name: "selftest --quick".into(),
            passed: self.0.borrow().healthy,
            detail: String::new(),
        };
        (vec![check], 30)
    }
}

struct Open;

impl Gate for Open {
    fn name(&self) -> &'static str {
        "therapy"
    }
    fn ask(&mut self, _question: &Question) -> Answer {
        Answer::Yes
    }
}

struct NoRestart;

impl Restart for NoRestart {
    fn restart(&mut self) -> io::Result<Restarted> {
        Ok(Restarted::Due)
    }
}

struct Notes(Shared);

impl Watch for Notes {
    fn phase(&mut self, _state: &State) {}
    fn progress(&mut self, _what: &str, _done: u64, _total: u64) {}
    fn note(&mut self, text: &str) {
        self.0.borrow_mut().notes.push(text.to_owned());
    }
}

/// Real modules; the power may fail before a call and after it.
struct Called(Programs, Shared);

impl Called {
    fn around<T>(
        &mut self,
        call: impl FnOnce(&mut Programs) -> Result<T, ModuleError>,
    ) -> Result<T, ModuleError> {
        let off = |_| ModuleError::None;
        self.1.borrow_mut().change().map_err(off)?;
        let result = call(&mut self.0);
        self.1.borrow_mut().change().map_err(off)?;
        result
    }
}

impl Modules for Called {
    fn download(&mut self, order: &Order<'_>) -> Result<(), ModuleError> {
        self.around(|programs| programs.download(order))
    }
    fn ask(&mut self, place: &Place, question: &'static str) -> Result<String, ModuleError> {
        self.around(|programs| programs.ask(place, question))
    }
    fn call(&mut self, place: &Place, state: &'static str) -> Result<(), ModuleError> {
        self.around(|programs| programs.call(place, state))
    }
    fn forget(&mut self, place: &Place) -> Result<(), ModuleError> {
        self.around(|programs| programs.forget(place))
    }
}
