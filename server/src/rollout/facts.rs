//! What the decision reads of one device.
//!
//! Devices of one kind report the same software, so what they report is shared between them: a
//! million devices cost what a million ids cost.

use std::collections::BTreeMap;
use std::sync::Arc;

use ampoule_protocol::device::Inventory;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{DeviceId, HardwareId, ProductName};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;

/// What operators say of a device.
pub type Tags = BTreeMap<String, String>;

/// A device, as the decision sees it.
#[derive(Debug, Clone)]
pub struct DeviceFacts {
    /// Its place in the store.
    pub number: u32,
    /// Who.
    pub device: DeviceId,
    /// Whether it may speak to us at all.
    pub enrolled: bool,
    /// Unix time of its enrolment.
    pub enrolled_at: i64,
    /// Unix time of its last report.
    pub seen_at: Option<i64>,
    /// What it reported last; absent before its first report.
    pub profile: Option<Arc<Profile>>,
    /// What operators say of it: region, site, ward.
    pub tags: Arc<Tags>,
}

/// What devices of one kind report alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Profile {
    /// The product.
    pub product: ProductName,
    /// Its hardware.
    pub hardware: HardwareId,
    /// What runs, by component.
    pub running: BTreeMap<String, Running>,
    /// The lowest rollback index that it accepts.
    pub floor: RollbackIndex,
    /// The version of its agent.
    pub agent: String,
}

/// One running component.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Running {
    /// The release that it came with.
    pub version: Option<String>,
    /// The digest of its artifact.
    pub sha256: Option<Digest>,
}

/// The tag that names a device's region.
pub const REGION: &str = "region";

pub(super) const SECS_PER_DAY: i64 = 86_400;

/// Whole days from one Unix time to another; none where that is earlier.
pub(super) fn days(since: i64, now: UtcTime) -> i64 {
    now.unix().saturating_sub(since).max(0) / SECS_PER_DAY
}

impl DeviceFacts {
    /// A tag.
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.tags.get(name).map(String::as_str)
    }

    /// The Unix time at which the days since it was enrolled, or since it was seen, are one more.
    pub(super) fn next_day(&self, now: UtcTime) -> i64 {
        let next = |since: i64| since.saturating_add((days(since, now) + 1) * SECS_PER_DAY);
        let seen = self.seen_at.map_or(i64::MAX, next);
        next(self.enrolled_at).min(seen)
    }
}

impl Profile {
    /// Of a report.
    pub fn of(inventory: &Inventory) -> Self {
        let running = inventory.components.iter().map(|installed| {
            let running = Running {
                version: installed.version.as_ref().map(ToString::to_string),
                sha256: installed.sha256,
            };
            (installed.name.to_string(), running)
        });
        Self {
            product: inventory.product.clone(),
            hardware: inventory.hardware.clone(),
            running: running.collect(),
            floor: inventory.floor,
            agent: inventory.agent_version.clone(),
        }
    }
}
