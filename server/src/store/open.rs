//! Opening the server's folder: the store in it, the roster beside it, and what to do with damage.
//!
//! ```text
//!   state/store/         the engine
//!   state/roster.jsonl   who is enrolled, engine or no engine
//!   state/timestamp.json the newest timestamp that we signed
//!   state/running        there while a server runs; left behind, it was not ended in order
//!   state/high-water     how many groups were committed
//! ```
//!
//! A damaged engine folder is renamed to `store.damaged-N` and reported; a new one is begun and
//! gets its enrolments back from the roster. Inventories come back with the next polls; receipts
//! that were acknowledged stay in the renamed folder.
//!
//! Gap: rollouts, tags and records do not come back by themselves after damage; they too stay
//! there.
//!
//! sled takes a log whose end was lost or zeroed for a shorter one and says nothing, and the journal
//! before it may end early or have a gap. The high-water mark tells ([`Opened::lost`]): what is there is whole groups and stays in use, since it is
//! evidence, and enrolments come back from the roster. What is gone may have halted a rollout, so
//! whoever serves stops all of them before [`Opened::settle`].
//!
//! sled may panic on a damaged folder, and our release binaries end at a panic. After a run that
//! was not ended in order the folder is therefore first opened by a child of ours (`store-probe`,
//! a hidden command), whose end tells.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::high_water::HighWater;
use super::postgres::PostgresStore;
use super::records::{Key, Kind, Record};
use super::roster::Roster;
use super::sled::SledStore;
use super::transfer;
use super::{
    Capacity, DeviceRow, Event, Mark, News, Share, Standing, Store, StoreError, StoredReceipt,
    Turn, Write, Written,
};
use crate::audit::medium::Medium;
use crate::config;
use crate::file::sync_folder_of;
use crate::rollout::RolloutId;

/// A store whose enrolments are in the roster as well.
pub struct Opened {
    engine: Arc<dyn Store>,
    /// Absent where a database keeps the store: its own backups bring it back.
    beside: Option<Beside>,
    /// What the engine had once and has no more.
    pub lost: Option<Lost>,
    /// Where a damaged engine folder was moved, and what was wrong with it.
    pub damaged: Option<(PathBuf, StoreError)>,
}

/// The end of the log is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// Groups that are there.
    pub found: u64,
    /// Groups that were acknowledged.
    pub acknowledged: u64,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            found,
            acknowledged,
        } = self;
        write!(
            f,
            "the store lost its end: {found} of {acknowledged} groups of writes are there"
        )
    }
}

/// What stands beside the embedded engine.
struct Beside {
    sled: Arc<SledStore>,
    roster: Mutex<Roster>,
    high_water: Mutex<HighWater>,
    running: PathBuf,
}

impl Beside {
    fn high_water(&self) -> MutexGuard<'_, HighWater> {
        self.high_water
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// Opens the folder that the configuration names; `probe` is the program to test it with.
    ///
    /// # Errors
    /// It is in use, or the disk failed, or the roster is damaged.
    pub fn open(config: &config::Store, probe: Option<&Path>) -> Result<Self, StoreError> {
        let folder = &config.path;
        std::fs::create_dir_all(folder).map_err(|source| failed("create", folder, source))?;
        sync_folder_of(folder).map_err(|source| failed("sync the folder of", folder, source))?;
        let opened = match &config.engine {
            config::Engine::Sled => Self::open_folder(config, probe)?,
            config::Engine::Postgres(database) => {
                let capacity = Capacity {
                    receipts_max: config.receipts_max,
                    events_max: config.events_max,
                };
                Self {
                    engine: Arc::new(PostgresStore::open((**database).clone(), capacity)?),
                    beside: None,
                    lost: None,
                    damaged: None,
                }
            }
        };
        if transfer::is_partial(&opened)? {
            let what = "it was imported only in part; begin a new one and import again";
            return Err(StoreError::Damaged(what.into()));
        }
        Ok(opened)
    }

    fn open_folder(config: &config::Store, probe: Option<&Path>) -> Result<Self, StoreError> {
        let folder = &config.path;
        let running = folder.join("running");
        let engine_folder = folder.join("store");
        let capacity = Capacity {
            receipts_max: config.receipts_max,
            events_max: config.events_max,
        };
        let roster = Roster::open(&folder.join("roster.jsonl"))?;
        let enrolled = roster.writes()?.len();
        let existed = engine_folder.exists();
        let open = || SledStore::open(&engine_folder, capacity, config.cache_mib);
        let try_open = || {
            if let Some(program) = probe.filter(|_| existed && running.exists()) {
                probe_store(program, &engine_folder, capacity)?;
            }
            let engine = open()?;
            // sled takes a log that was cut short or zeroed for a new one.
            if existed && enrolled > 0 && engine.devices()?.is_empty() {
                return Err(StoreError::Damaged(
                    "it is empty, and devices were enrolled".into(),
                ));
            }
            Ok(engine)
        };
        let (engine, damaged) = match try_open() {
            Ok(engine) => (engine, None),
            Err(error @ StoreError::Damaged(_)) => {
                let aside = move_aside(&engine_folder)?;
                (open()?, Some((aside, error)))
            }
            Err(error) => return Err(error),
        };
        std::fs::write(&running, b"").map_err(|source| failed("write", &running, source))?;
        sync_folder_of(&engine_folder.join("db"))
            .and_then(|()| sync_folder_of(&running))
            .map_err(|source| failed("sync the folder of", &running, source))?;
        let mark = folder.join("high-water");
        let mut high_water =
            HighWater::open(&mark).map_err(|source| failed("open", &mark, source))?;
        let (found, acknowledged) = (engine.commits(), high_water.mark());
        if damaged.is_some() {
            // That is told already, and no rollout is left to stop.
            let fallen = high_water.fall(found);
            fallen.map_err(|source| failed("write", &mark, source))?;
        }
        let lost = (damaged.is_none() && found < acknowledged).then_some(Lost {
            found,
            acknowledged,
        });
        let engine = Arc::new(engine);
        let opened = Self {
            engine: engine.clone(),
            beside: Some(Beside {
                sled: engine,
                roster: Mutex::new(roster),
                high_water: Mutex::new(high_water),
                running,
            }),
            lost,
            damaged,
        };
        opened.catch_up()?;
        Ok(opened)
    }

    /// Brings the engine to what the roster says: after damage, or a cut between the two.
    fn catch_up(&self) -> Result<(), StoreError> {
        let Some(beside) = &self.beside else {
            return Ok(());
        };
        let rows: std::collections::HashMap<_, _> = self
            .engine
            .devices()?
            .into_iter()
            .map(|row| (row.device.clone(), row))
            .collect();
        let roster = beside
            .roster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .writes()?;
        let missing: Vec<_> = roster
            .into_iter()
            .filter(|write| {
                let row = write.device().and_then(|device| rows.get(device));
                !row.is_some_and(|row| agrees(row, write))
            })
            .collect();
        missing
            .chunks(512)
            .try_for_each(|group| self.engine.commit(group).map(drop))
    }

    /// What was lost has been dealt with: from here on the mark counts what is there.
    ///
    /// # Errors
    /// The disk failed.
    pub fn settle(&self) -> Result<(), StoreError> {
        let Some(beside) = &self.beside else {
            return Ok(());
        };
        let commits = beside.sled.commits();
        let fallen = beside.high_water().fall(commits);
        fallen.map_err(StoreError::Sync)
    }

    /// Says that the server ended in order.
    pub fn close(&self) {
        if let Some(beside) = &self.beside {
            // A mark that lags sees less of what may be lost, and nothing that is not.
            let _ = beside.high_water().sync();
            // Left behind, it only costs the next start a probe.
            let _ = std::fs::remove_file(&beside.running);
        }
    }
}

/// Whether the row shows what the write asked for, or something newer.
fn agrees(row: &DeviceRow, write: &Write) -> bool {
    match write {
        Write::Enroll { certificate, .. } => row.certificate == *certificate,
        Write::Revoke { at, .. } => row.standing == Standing::Revoked || row.enrolled_at > *at,
        Write::Inventory { .. }
        | Write::Receipt { .. }
        | Write::Tags { .. }
        | Write::Rollout { .. }
        | Write::Deployment { .. }
        | Write::Records(_)
        | Write::Restore(_) => true,
    }
}

impl Store for Opened {
    fn commit(&self, group: &[Write]) -> Result<Vec<Written>, StoreError> {
        if let Some(beside) = &self.beside {
            let mut roster = beside.roster.lock().unwrap_or_else(PoisonError::into_inner);
            group.iter().try_for_each(|write| roster.add(write))?;
        }
        let written = self.engine.commit(group)?;
        if let Some(beside) = &self.beside {
            let commits = beside.sled.commits();
            let noted = beside.high_water().rise(commits);
            noted.map_err(StoreError::Sync)?;
        }
        Ok(written)
    }

    fn devices(&self) -> Result<Vec<DeviceRow>, StoreError> {
        self.engine.devices()
    }

    fn inventory(&self, device: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.inventory(device)
    }

    fn receipts(&self, device: &DeviceRow) -> Result<Vec<StoredReceipt>, StoreError> {
        self.engine.receipts(device)
    }

    fn events(&self, device: &DeviceRow) -> Result<Vec<Event>, StoreError> {
        self.engine.events(device)
    }

    fn tags(&self, device: &DeviceRow) -> Result<Option<Vec<u8>>, StoreError> {
        self.engine.tags(device)
    }

    fn rollouts(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        self.engine.rollouts()
    }

    fn deployments(&self, rollout: &RolloutId) -> Result<Vec<(u32, Vec<u8>)>, StoreError> {
        self.engine.deployments(rollout)
    }

    fn record(&self, kind: &Kind, key: &Key) -> Result<Option<Record>, StoreError> {
        self.engine.record(kind, key)
    }

    fn records(
        &self,
        kind: &Kind,
        after: Option<&Key>,
        max: usize,
    ) -> Result<Vec<Record>, StoreError> {
        self.engine.records(kind, after, max)
    }

    fn record_kinds(&self) -> Result<Vec<Kind>, StoreError> {
        self.engine.record_kinds()
    }

    fn capacity(&self) -> Result<Capacity, StoreError> {
        self.engine.capacity()
    }

    fn is_shared(&self) -> bool {
        self.engine.is_shared()
    }

    fn news(&self, since: Option<&Mark>) -> Result<(Vec<News>, Mark), StoreError> {
        self.engine.news(since)
    }

    fn told(&self) -> u64 {
        self.engine.told()
    }

    fn some_devices(&self, numbers: &[u32]) -> Result<Vec<DeviceRow>, StoreError> {
        self.engine.some_devices(numbers)
    }

    fn some_deployments(&self, wanted: &[Share]) -> Result<Vec<(Share, Vec<u8>)>, StoreError> {
        self.engine.some_deployments(wanted)
    }

    fn inventories(&self, devices: &[&DeviceRow]) -> Result<HashMap<u32, Vec<u8>>, StoreError> {
        self.engine.inventories(devices)
    }

    fn tags_of(&self, devices: &[&DeviceRow]) -> Result<HashMap<u32, Vec<u8>>, StoreError> {
        self.engine.tags_of(devices)
    }

    fn some_receipts(
        &self,
        wanted: &[(&DeviceRow, u64)],
    ) -> Result<Vec<(u32, StoredReceipt)>, StoreError> {
        self.engine.some_receipts(wanted)
    }

    fn turn(&self) -> Result<Option<Box<dyn Turn>>, StoreError> {
        self.engine.turn()
    }

    fn audit_files(&self) -> Option<Box<dyn Medium>> {
        self.engine.audit_files()
    }
}

/// Opens the engine in a child, whose panic does not end us.
fn probe_store(program: &Path, folder: &Path, capacity: Capacity) -> Result<(), StoreError> {
    let output = Command::new(program)
        .arg("store-probe")
        .arg(folder)
        .args([capacity.receipts_max, capacity.events_max].map(|max| max.to_string()))
        .stdin(Stdio::null())
        .output()
        .map_err(|source| failed("run", program, source))?;
    match output.status.code() {
        Some(0) => Ok(()),
        Some(PROBE_BUSY) => Err(StoreError::Busy(folder.to_path_buf())),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said
                .lines()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("no word");
            Err(StoreError::Damaged(format!("opening it failed: {line}")))
        }
    }
}

/// How `store-probe` says that somebody else holds the store.
pub const PROBE_BUSY: i32 = 3;

/// Renames `folder` to the first free `….damaged-N`.
fn move_aside(folder: &Path) -> Result<PathBuf, StoreError> {
    let mut number = 1;
    let aside = loop {
        let mut name = folder.as_os_str().to_os_string();
        name.push(format!(".damaged-{number}"));
        let aside = PathBuf::from(name);
        if !aside.exists() {
            break aside;
        }
        number += 1;
    };
    std::fs::rename(folder, &aside)
        .and_then(|()| sync_folder_of(&aside))
        .map_err(|source| failed("rename", folder, source))?;
    Ok(aside)
}

fn failed(act: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::File {
        act,
        path: path.to_path_buf(),
        source,
    }
}
