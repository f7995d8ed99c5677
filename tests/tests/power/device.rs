//! A device on a simulated disk: the real driver, journal, store, boot control and installers; a
//! loader that boots it again and again; a server out of memory.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ampoule_agent::boot::{FileBoot, load};
use ampoule_agent::driver::{Device, Driver, DriverError, Rest, Waits, Watch};
use ampoule_agent::install::{Options, Place};
use ampoule_agent::journal::Journal;
use ampoule_agent::machine::{Fault, Health as Verdict, State};
use ampoule_agent::net::{Backoff, NetError};
use ampoule_agent::ports::{Clock, Fetch, Health, Network, Ports, Restart, Restarted, Storage};
use ampoule_agent::receipt::Reporter;
use ampoule_protocol::device::Acknowledged;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{ComponentName, DeviceId, HardwareId, ProductName};
use ampoule_protocol::release::Install;
use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;
use ampoule_tests::sim::{DAWN, Tree};

use crate::disk::SimDisk;

/// Boots until a device must have come to rest.
const BOOTS_MAX: usize = 40;
/// Ticks within one process.
const TICKS_MAX: usize = 60;

/// What the server has, and whether the new image is healthy.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) tree: Rc<Tree>,
    pub(crate) healthy: bool,
}

/// The component of these tests.
pub(crate) fn place() -> Place {
    Place {
        component: ComponentName::parse("rootfs").expect("a name"),
        install: Install::Slot,
        slots: [PathBuf::from("/dev/a"), PathBuf::from("/dev/b")],
        visible: PathBuf::new(),
        boot_file: PathBuf::from("/boot/boot.json"),
        options: Options::default(),
    }
}

/// A disk as it leaves the factory: slot a holds `image`, slot b is empty.
pub(crate) fn factory(image: &[u8]) -> SimDisk {
    let disk = SimDisk::default();
    disk.plant("/dev/a", image);
    disk.plant("/dev/b", &[]);
    disk.plant("/boot/loader", b"");
    disk.plant("/data/made", b"");
    disk
}

/// Lives until the device rests after one look at the server, or the power fails.
///
/// Each boot runs the loader, then one process of the agent.
pub(crate) fn live(disk: &SimDisk, world: &World) -> Result<(), DriverError> {
    let mut has_checked = false;
    for _ in 0..BOOTS_MAX {
        if load(disk, &place()).is_err() {
            assert!(disk.is_off(), "the loader failed with the power on");
            return Ok(());
        }
        match run_agent(disk, world, &mut has_checked) {
            _ if disk.is_off() => return Ok(()),
            Ok(Rest::Idle) if has_checked => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    panic!("the device does not come to rest: {:?}", state(disk));
}

fn run_agent(disk: &SimDisk, world: &World, has_checked: &mut bool) -> Result<Rest, DriverError> {
    let mut driver = driver(disk, world)?;
    let mut rest = driver.start()?;
    for _ in 0..TICKS_MAX {
        if disk.is_off() {
            return Ok(rest);
        }
        rest = match rest {
            Rest::Idle if *has_checked => return Ok(rest),
            Rest::Idle => {
                *has_checked = true;
                driver.check()?
            }
            Rest::Wait(_) => driver.tick()?,
            Rest::RestartDue | Rest::Restarting => return Ok(rest),
        };
    }
    panic!("the agent does not come to rest: {:?}", driver.state());
}

/// What the journal says.
pub(crate) fn state(disk: &SimDisk) -> State {
    let state = Journal::peek(disk, Path::new("/data")).expect("powered");
    state.unwrap_or_default()
}

fn driver(disk: &SimDisk, world: &World) -> Result<Driver, DriverError> {
    let storage: Rc<dyn Storage> = Rc::new(disk.clone());
    let place = place();
    let now = Rc::new(Cell::new(Duration::ZERO));
    let ports = Ports {
        storage: storage.clone(),
        network: Box::new(Server(world.tree.clone())),
        boot: Box::new(FileBoot::new(storage, std::iter::once(&place))),
        clock: Box::new(SimClock(now)),
        health: Box::new(Fixed(world.healthy)),
        gates: Vec::new(),
        restart: Box::new(NoRestart),
    };
    let device = Device {
        places: vec![place],
        hardware: HardwareId::parse("pump-mk3").expect("a name"),
        region: Some("EU".to_owned()),
        facts: Vec::new(),
        patch_memory_max: 64 << 20,
        whole_bytes_max: None,
        attempts_max: 3,
        reporter: Reporter {
            device: DeviceId::parse("pump-1").expect("a name"),
            product: ProductName::parse("infusion-pump").expect("a name"),
            hardware: HardwareId::parse("pump-mk3").expect("a name"),
        },
        key: Box::new(Ed25519Key::from_seed(&[5; 32]).expect("a seed")),
        data_dir: PathBuf::from("/data"),
        root: world.tree["metadata/1.root.json"].clone(),
        waits: Waits {
            poll_interval: Duration::from_mins(5),
            backoff: Backoff {
                first: Duration::ZERO,
                longest: Duration::ZERO,
            },
            gates_interval: Duration::ZERO,
            health_interval: Duration::ZERO,
        },
    };
    Driver::open(device, ports, Box::new(Silent))
}

struct Server(Rc<Tree>);

impl Fetch for Server {
    fn fetch(&mut self, name: &str, _max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        Ok(self.0.get(&format!("metadata/{name}")).cloned())
    }
}

impl Network for Server {
    fn target(
        &mut self,
        name: &str,
        offset: u64,
        _length: u64,
    ) -> Result<Box<dyn Read + '_>, NetError> {
        let file = self.0.get(&format!("targets/{name}"));
        let file = file.ok_or_else(|| NetError::status(404, None, None))?;
        let offset = usize::try_from(offset).expect("small");
        Ok(Box::new(&file[offset..]))
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, NetError> {
        let acknowledged = vec![Digest::of(body)];
        Ok(match path {
            "receipts" => serde_json::to_vec(&Acknowledged { acknowledged }).expect("plain"),
            _ => br#"{"seq":1}"#.to_vec(),
        })
    }
}

struct SimClock(Rc<Cell<Duration>>);

impl Clock for SimClock {
    fn wall(&self) -> Option<UtcTime> {
        UtcTime::parse(DAWN).ok()
    }
    fn uptime(&self) -> Duration {
        self.0.set(self.0.get() + Duration::from_secs(1));
        self.0.get()
    }
    fn sleep(&self, _time: Duration) {}
}

struct Fixed(bool);

impl Health for Fixed {
    fn verdict(&mut self, _trial_time: Duration) -> Verdict {
        if self.0 {
            Verdict::Good
        } else {
            Verdict::Bad(Fault::device("health-bad", "it is ill"))
        }
    }
}

struct NoRestart;

impl Restart for NoRestart {
    fn restart(&mut self) -> std::io::Result<Restarted> {
        Ok(Restarted::Due)
    }
}

struct Silent;

impl Watch for Silent {
    fn phase(&mut self, _state: &State) {}
    fn progress(&mut self, _what: &str, _done: u64, _total: u64) {}
    fn note(&mut self, _text: &str) {}
}

/// Metadata versions that the device's store holds, by file name.
pub(crate) fn metadata_versions(disk: &SimDisk) -> BTreeMap<&'static str, u64> {
    let mut versions = BTreeMap::new();
    for name in [
        "root.json",
        "timestamp.json",
        "snapshot.json",
        "targets.json",
    ] {
        let bytes = disk.content(&Path::new("/data/metadata").join(name));
        let value =
            bytes.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let version = value.and_then(|value| value["signed"]["version"].as_u64());
        versions.insert(name, version.unwrap_or(0));
    }
    versions
}
