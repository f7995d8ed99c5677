//! The fleet in memory: whom we serve, asked on every connection and every request.
//!
//! The store is the log of truth; this table is built from it at start and follows each durable
//! write. A connection keeps its [`Device`], so that a revocation reaches it at its next request,
//! and a download at its next chunk, without a search.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use ampoule_protocol::name::DeviceId;

use crate::bucket::{Bucket, Rate};
use crate::identity::Identity;
use crate::store::{DeviceRow, Standing, Written};

/// Everyone who was ever enrolled.
#[derive(Debug, Default)]
pub struct Fleet {
    devices: RwLock<HashMap<DeviceId, Arc<Device>>>,
}

/// One of them.
#[derive(Debug)]
pub struct Device {
    inner: Mutex<Inner>,
    connections: AtomicUsize,
}

#[derive(Debug)]
struct Inner {
    row: DeviceRow,
    bucket: Bucket,
}

/// Why a device is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its certificate is from our authority, but nobody enrolled it.
    Unknown,
    /// It was revoked.
    Revoked,
    /// It is enrolled with another certificate.
    OtherCertificate,
    /// Its certificate ended (an open connection outlives that).
    Lapsed,
}

impl Fleet {
    /// The table of what the store holds.
    pub fn new(rows: Vec<DeviceRow>) -> Self {
        let devices = rows
            .into_iter()
            .map(|row| (row.device.clone(), Arc::new(Device::new(row))))
            .collect();
        Self {
            devices: RwLock::new(devices),
        }
    }

    /// The device of that name.
    pub fn find(&self, device: &DeviceId) -> Option<Arc<Device>> {
        self.devices
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(device)
            .cloned()
    }

    /// All rows, by name.
    pub fn rows(&self) -> Vec<DeviceRow> {
        let devices: Vec<_> = {
            let table = self.devices.read().unwrap_or_else(PoisonError::into_inner);
            table.values().cloned().collect()
        };
        let mut rows: Vec<_> = devices.iter().map(|device| device.row()).collect();
        rows.sort_by(|a, b| a.device.cmp(&b.device));
        rows
    }

    /// Shows each row, in no order; nothing of the fleet may be asked meanwhile.
    pub fn each(&self, mut show: impl FnMut(&DeviceRow)) {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        devices
            .values()
            .for_each(|device| show(&device.inner().row));
    }

    /// Follows a durable write.
    pub fn follow(&self, written: &Written) {
        let row = match written {
            Written::Done(row) | Written::Repeated(row) => row,
            Written::UnknownDevice
            | Written::Kept
            | Written::Recorded(_)
            | Written::Conflict { .. } => return,
        };
        if let Some(device) = self.find(&row.device) {
            device.inner().row = row.clone();
            return;
        }
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.insert(row.device.clone(), Arc::new(Device::new(row.clone())));
    }
}

impl Device {
    fn new(row: DeviceRow) -> Self {
        let inner = Mutex::new(Inner {
            row,
            bucket: Bucket::full(),
        });
        Self {
            inner,
            connections: AtomicUsize::new(0),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store knows of it.
    pub fn row(&self) -> DeviceRow {
        self.inner().row.clone()
    }

    /// Whether it may speak to us.
    pub fn standing(&self) -> Standing {
        self.inner().row.standing
    }

    /// Whether the holder of this certificate is served at `now` (Unix time).
    ///
    /// # Errors
    /// Why it is not.
    pub fn admits(&self, identity: &Identity, now: i64) -> Result<(), Refusal> {
        let inner = self.inner();
        match inner.row.standing {
            Standing::Revoked => Err(Refusal::Revoked),
            Standing::Enrolled if inner.row.certificate != identity.digest => {
                Err(Refusal::OtherCertificate)
            }
            Standing::Enrolled if identity.not_after < now => Err(Refusal::Lapsed),
            Standing::Enrolled => Ok(()),
        }
    }

    /// Takes one request from its allowance.
    ///
    /// # Errors
    /// The seconds after which there is one again.
    pub fn take(&self, rate: Rate, now: Instant) -> Result<(), u64> {
        self.inner().bucket.take(rate, now)
    }

    /// Counts a connection for as long as the guard lives; `None` where there are `max` already.
    pub fn connect(self: &Arc<Self>, max: usize) -> Option<Connected> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let guard = Connected(self.clone());
        (before < max).then_some(guard)
    }
}

/// One counted connection of a device.
#[derive(Debug)]
pub struct Connected(Arc<Device>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
