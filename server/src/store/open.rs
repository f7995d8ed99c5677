//! Opening the server's folder: the store in it, the roster beside it, and what to do with damage.
//!
//! ```text
//!   state/store/         the engine
//!   state/roster.jsonl   who is enrolled, engine or no engine
//!   state/timestamp.json the newest timestamp that we signed
//!   state/running        there while a server runs; left behind, it was not ended in order
//! ```
//!
//! A damaged engine folder is renamed to `store.damaged-N` and reported; a new one is begun and
//! gets its enrolments back from the roster. Inventories come back with the next polls; receipts
//! that were acknowledged stay in the renamed folder.
//!
//! Gap: rollouts and tags do not come back by themselves after damage; they too stay there.
//!
//! Gap: sled takes a log whose end was lost or zeroed for a shorter one and says nothing. A store
//! that comes up empty although devices were enrolled is noticed, lost receipts at its end are not.
//!
//! sled may panic on a damaged folder, and our release binaries end at a panic. After a run that
//! was not ended in order the folder is therefore first opened by a child of ours (`store-probe`,
//! a hidden command), whose end tells.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::roster::Roster;
use super::sled::SledStore;
use super::{
    Capacity, DeviceRow, Event, Standing, Store, StoreError, StoredReceipt, Write, Written,
};
use crate::config;
use crate::file::sync_folder_of;
use crate::rollout::RolloutId;

/// A store whose enrolments are in the roster as well.
pub struct Opened {
    engine: SledStore,
    roster: Mutex<Roster>,
    running: PathBuf,
    /// Where a damaged engine folder was moved, and what was wrong with it.
    pub damaged: Option<(PathBuf, StoreError)>,
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
        let opened = Self {
            engine,
            roster: Mutex::new(roster),
            running,
            damaged,
        };
        opened.catch_up()?;
        Ok(opened)
    }

    /// Brings the engine to what the roster says: after damage, or a cut between the two.
    fn catch_up(&self) -> Result<(), StoreError> {
        let rows: std::collections::HashMap<_, _> = self
            .engine
            .devices()?
            .into_iter()
            .map(|row| (row.device.clone(), row))
            .collect();
        let roster = self
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

    /// Says that the server ended in order.
    pub fn close(&self) {
        // Left behind, it only costs the next start a probe.
        let _ = std::fs::remove_file(&self.running);
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
        | Write::Deployment { .. } => true,
    }
}

impl Store for Opened {
    fn commit(&self, group: &[Write]) -> Result<Vec<Written>, StoreError> {
        {
            let mut roster = self.roster.lock().unwrap_or_else(PoisonError::into_inner);
            group.iter().try_for_each(|write| roster.add(write))?;
        }
        self.engine.commit(group)
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
