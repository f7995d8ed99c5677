//! Boots a device again and again until it rests: the loader, then a process of the agent with its
//! real driver, journal, metadata store, boot control, gates and installers.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ampoule_agent::boot::{BootError, FileBoot, Loaded, RecoveryBoot, load_all};
use ampoule_agent::driver::{Device, Driver, DriverError, Repair, Rest, Waits};
use ampoule_agent::gate::{Consent, ConsentConfig, Consents, Gate, Postponement};
use ampoule_agent::install::{Options, Place};
use ampoule_agent::journal::Journal;
use ampoule_agent::machine::{BootViews, Phase, State};
use ampoule_agent::net::Backoff;
use ampoule_agent::ports::{Clock, Ports, Storage};
use ampoule_agent::receipt::Reporter;
use ampoule_agent::state::{StateConfig, StateStore};
use ampoule_protocol::name::{ComponentName, DeviceId, HardwareId, ProductName};
use ampoule_protocol::release::Install;
use ampoule_protocol::sign::Ed25519Key;
use ampoule_protocol::time::UtcTime;

use super::disk::SimDisk;
use super::mistake::Mistake;
use super::modules::SimModules;
use super::ports::{Boot, ClosesOnce, Fixed, NoRestart, Server, Silent, SimClock};
use super::repo::{DEVICE, HARDWARE, PRODUCT, Shelf};
use super::story::which;
use crate::sim::DAWN;

/// The agent's folder.
pub const DATA_DIR: &str = "/data";
/// Where the configured state is.
pub const STATE_DIR: &str = "/state";
/// Boots until a device must have come to rest.
const BOOTS_MAX: usize = 30;
/// Turns of the driver within one process.
const TICKS_MAX: usize = 40;
/// Processes within one boot.
const PROCESSES_MAX: usize = 60;

/// How a trial goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// The new image works.
    Good,
    /// Its health commands fail.
    Bad,
    /// The agent in it never starts.
    Hangs,
}

/// What stands between an update and its activation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gates {
    /// Nothing.
    None,
    /// A gate that closes at the point of no return, once in each process.
    CloseOnce,
    /// A person has to agree, and does as soon as the update waits.
    Consent,
}

/// What is around a device.
#[derive(Clone)]
pub struct World {
    /// What the server, or the bundle, has.
    pub shelf: Shelf,
    /// The device's components.
    pub places: Vec<Place>,
    /// How trials go.
    pub trial: Trial,
    /// Its gates.
    pub gates: Gates,
    /// Pieces of a download after which the system ends the process.
    pub stops_after: Option<usize>,
    /// Whether the server takes no receipts.
    pub is_deaf: bool,
    /// Whether modules ask for a restart.
    pub modules_restart: bool,
    /// Whether the device has a configured state, which follows its version.
    pub has_state: bool,
    /// Days since dawn.
    pub days: i64,
}

impl World {
    /// What a loader chooses; modules install the rest.
    pub fn booted(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| !place.is_module())
    }
}

/// Where a component of this name and kind lives.
pub fn place(component: &str, install: Install) -> Place {
    let visible = match install {
        Install::Tree => format!("/srv/{component}/current"),
        Install::Slot | Install::File | Install::Module(_) => format!("/srv/{component}"),
    };
    Place {
        component: ComponentName::parse(component).expect("a name"),
        install,
        slots: ["a", "b"].map(|slot| PathBuf::from(format!("/dev/{component}-{slot}"))),
        visible: PathBuf::from(visible),
        boot_file: PathBuf::from(format!("/boot/{component}.json")),
        options: Options::default(),
    }
}

/// Plays the boot loader, and guards what runs.
///
/// # Errors
/// Boot settings that cannot be used.
pub fn boot(disk: &SimDisk, world: &World) -> Result<Vec<Loaded>, BootError> {
    let places: Vec<&Place> = world.booted().collect();
    disk.guard(Vec::new());
    let before = disk.fork();
    let loaded = load_all(disk, &places, &BootViews::new())?;
    if disk.mistake() == Some(Mistake::LoaderCountsNothing) {
        for place in &places {
            if let Some(settings) = before.content(&place.boot_file) {
                disk.plant(&place.boot_file, &settings);
            }
        }
    }
    let mut running = Vec::new();
    for (place, choice) in places.into_iter().zip(&loaded) {
        running.push(place.slot_path(choice.slot).to_owned());
        if place.install == Install::Tree {
            running.push(place.tree_path(choice.slot).join("app"));
        }
    }
    disk.guard(running);
    Ok(loaded)
}

/// Lives until the device rests after one look at the server, or the power fails.
///
/// # Errors
/// What the agent itself cannot go on from; the system would start it again.
pub fn live(disk: &SimDisk, world: &World) -> Result<(), DriverError> {
    let mut has_checked = false;
    for _ in 0..BOOTS_MAX {
        let loaded = match boot(disk, world) {
            Ok(loaded) => loaded,
            Err(_) if disk.is_off() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let is_trial = loaded.iter().any(|choice| choice.attempts_left.is_some());
        if is_trial && world.trial == Trial::Hangs {
            // The watchdog restarts it.
            continue;
        }
        match run_agent(disk, world, &mut has_checked) {
            _ if disk.is_off() => return Ok(()),
            Ok(Rest::Idle) if has_checked => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(error),
        }
    }
    disk.sin("it does not come to rest".to_owned());
    Ok(())
}

/// Lives as [`live`] does, on a device with a recovery image: what the loader chooses and cannot start
/// leads there.
///
/// # Errors
/// As [`live`].
pub fn live_with_recovery(disk: &SimDisk, world: &World) -> Result<(), DriverError> {
    for _ in 0..BOOTS_MAX {
        let loaded = match boot(disk, world) {
            Ok(loaded) => loaded,
            Err(_) if disk.is_off() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let starts = |(place, choice): (&Place, &Loaded)| {
            let bytes = disk.content(&choice.path).unwrap_or_default();
            which(place.component.as_str(), &place.install, &bytes).is_some()
        };
        if world.booted().zip(&loaded).all(starts) {
            return live(disk, world);
        }
        let mut driver = driver_in(disk, world, true)?;
        let (_, mut repair) = driver.recover()?;
        while let Repair::Refilled(Rest::Wait(_)) = repair
            && !disk.is_off()
        {
            repair = Repair::Refilled(driver.tick()?);
        }
        if disk.is_off() {
            return Ok(());
        }
    }
    disk.sin("the recovery image does not bring it back".to_owned());
    Ok(())
}

/// One boot: processes of the agent, until it rests or a restart is due.
fn run_agent(disk: &SimDisk, world: &World, has_checked: &mut bool) -> Result<Rest, DriverError> {
    for _ in 0..PROCESSES_MAX {
        let mut driver = driver(disk, world)?;
        let mut rest = driver.start()?;
        for _ in 0..TICKS_MAX {
            if disk.is_off() {
                return Ok(rest);
            }
            if matches!(driver.state().phase, Phase::Filling(_)) && driver.is_to_stop() {
                break;
            }
            rest = match rest {
                Rest::Idle if *has_checked => return Ok(rest),
                Rest::Idle => {
                    *has_checked = true;
                    driver.check()?
                }
                Rest::Wait(_) => {
                    agree(disk, world, driver.state());
                    driver.tick()?
                }
                Rest::RestartDue | Rest::Restarting => return Ok(rest),
            };
        }
    }
    disk.sin("the agent does not come to rest".to_owned());
    Ok(Rest::Idle)
}

/// The person in front of the device.
fn agree(disk: &SimDisk, world: &World, state: &State) {
    if world.gates != Gates::Consent || !state.phase.is_waiting() {
        return;
    }
    let config = ConsentConfig {
        pin: None,
        button: None,
        timeout: Duration::ZERO,
    };
    if let Some(plan) = state.phase.plan() {
        // Where the disk fails, the person is told and agrees another time.
        let _ = consents(disk, world).agree(&config, plan.identity(), None, "uid 0");
    }
}

fn consents(disk: &SimDisk, world: &World) -> Consents {
    let clock: Rc<dyn Clock> = Rc::new(SimClock::new(now(world), None));
    Consents::new(Rc::new(disk.clone()), clock, Path::new(DATA_DIR))
}

fn now(world: &World) -> UtcTime {
    let dawn = UtcTime::parse(DAWN).expect("a time");
    dawn.plus_secs(world.days * 86_400)
}

/// What the journal says.
pub fn state(disk: &SimDisk) -> State {
    let state = Journal::peek(disk, Path::new(DATA_DIR)).ok().flatten();
    state.unwrap_or_default()
}

/// One process of the agent.
///
/// # Errors
/// See [`DriverError`].
pub fn driver(disk: &SimDisk, world: &World) -> Result<Driver, DriverError> {
    driver_in(disk, world, false)
}

/// The same; in the recovery image, where that is what runs.
fn driver_in(disk: &SimDisk, world: &World, is_recovery: bool) -> Result<Driver, DriverError> {
    if disk.mistake() == Some(Mistake::ForgetsAll) {
        for file in disk.files() {
            if file.starts_with(DATA_DIR) {
                disk.lose(file);
            }
        }
    }
    let storage: Rc<dyn Storage> = Rc::new(disk.clone());
    let open = Rc::new(Cell::new(true));
    let boot = Boot {
        files: FileBoot::new(storage.clone(), world.places.iter()),
        disk: disk.clone(),
    };
    let ports = Ports {
        storage,
        network: Box::new(Server {
            shelf: world.shelf.clone(),
            is_deaf: world.is_deaf,
        }),
        boot: if is_recovery {
            Box::new(RecoveryBoot(boot))
        } else {
            Box::new(boot)
        },
        clock: Box::new(SimClock::new(now(world), world.stops_after)),
        health: Box::new(Fixed(world.trial == Trial::Good)),
        gates: gates(disk, world, &open),
        restart: Box::new(NoRestart {
            disk: disk.clone(),
            open,
        }),
    };
    let modules = SimModules {
        disk: disk.clone(),
        restarts: world.modules_restart,
    };
    let driver = Driver::open(device(world), ports, Box::new(Silent))?;
    let driver = driver.with_modules(Box::new(modules));
    if !world.has_state {
        return Ok(driver);
    }
    let config = StateConfig {
        dir: PathBuf::from(STATE_DIR),
        migrate: Vec::new(),
        timeout: Duration::ZERO,
    };
    Ok(driver.with_state(StateStore::new(Rc::new(disk.clone()), config)))
}

fn gates(disk: &SimDisk, world: &World, open: &Rc<Cell<bool>>) -> Vec<Box<dyn Gate>> {
    match world.gates {
        Gates::None => Vec::new(),
        Gates::CloseOnce => vec![Box::new(ClosesOnce {
            asked: 0,
            is_deaf: disk.mistake() == Some(Mistake::GatesAskedOnce),
            open: open.clone(),
        })],
        Gates::Consent => vec![
            Box::new(Consent(consents(disk, world))),
            Box::new(Postponement {
                consents: consents(disk, world),
                longest: Duration::from_hours(24),
            }),
        ],
    }
}

fn device(world: &World) -> Device {
    let hardware = HardwareId::parse(HARDWARE).expect("a name");
    Device {
        places: world.places.clone(),
        hardware: hardware.clone(),
        region: Some("EU".to_owned()),
        facts: Vec::new(),
        patch_memory_max: 64 << 20,
        whole_bytes_max: None,
        attempts_max: 3,
        reporter: Reporter {
            device: DeviceId::parse(DEVICE).expect("a name"),
            product: ProductName::parse(PRODUCT).expect("a name"),
            hardware,
        },
        key: std::sync::Arc::new(Ed25519Key::from_seed(&[5; 32]).expect("a seed")),
        data_dir: PathBuf::from(DATA_DIR),
        root: world.shelf.tree["metadata/1.root.json"].clone(),
        waits: Waits {
            poll_interval: Duration::from_mins(5),
            backoff: Backoff {
                first: Duration::ZERO,
                longest: Duration::ZERO,
            },
            gates_interval: Duration::ZERO,
            health_interval: Duration::ZERO,
        },
    }
}
