//! One update of this device: what it is, what people are told of it, and what it would run.

use ampoule_protocol::digest::{Digest, Hasher};
use ampoule_protocol::name::ComponentName;
use ampoule_protocol::release::{
    Blocks, Class, DeltaRef, FileRef, Install, Release, ReleaseVersion,
};
use ampoule_protocol::version::RollbackIndex;
use serde::{Deserialize, Serialize};

use super::{Facts, Installed, Slot};

/// One update of this device, from a verified and fresh release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The release target.
    pub release: FileRef,
    /// For people.
    pub version: ReleaseVersion,
    /// For machines.
    pub rollback_index: RollbackIndex,
    /// Why it was made.
    pub class: Class,
    /// What people are told before.
    #[serde(default)]
    pub notice: Notice,
    /// What has to be filled, in this order.
    pub parts: Vec<Part>,
    /// The serial of the record that lets the floor fall to `rollback_index`, where one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub downgrade: Option<u64>,
}

/// What people are told of an update before they agree to it, from its signed description.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notice {
    /// What it does.
    pub purpose: String,
    /// What may happen without it.
    pub risk_if_not_applied: String,
    /// For how long the device is out of service.
    pub downtime_secs: u32,
    /// What the device cannot do meanwhile.
    pub functions_unavailable: Vec<String>,
}

impl Notice {
    /// Of a release.
    pub fn of(release: &Release) -> Self {
        Self {
            purpose: release.purpose.clone(),
            risk_if_not_applied: release.risk_if_not_applied.clone(),
            downtime_secs: release.downtime_secs,
            functions_unavailable: release.functions_unavailable.clone(),
        }
    }
}

/// One component of an update.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub component: ComponentName,
    /// How it is installed.
    pub install: Install,
    /// Where it goes; never the running slot.
    pub slot: Slot,
    /// The whole artifact.
    pub artifact: FileRef,
    /// Its hash tree.
    pub blocks: Blocks,
    /// The patch from what runs, where that is cheaper.
    pub delta: Option<DeltaRef>,
    /// What runs, where it is known.
    pub before: Option<Installed>,
    /// Whether the artifact may come whole where there is no patch, or the patch fails.
    #[serde(default)]
    pub whole: Whole,
    /// What an update module is given as meta-data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<String>,
    /// Whether programs may see it without a restart: release and device both say so.
    #[serde(default)]
    pub live: bool,
}

/// Whether an artifact may come whole, by the device's policy for a metered link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whole {
    /// It may.
    #[default]
    Allowed,
    /// It is longer than the device fetches whole.
    TooLong,
}

impl Facts {
    /// With the commit of `plan`: upwards, or down by a record that was not used before, which is
    /// used then.
    pub(super) fn move_floor(&mut self, plan: &Plan) {
        match plan.downgrade {
            Some(serial) if serial > self.downgrades => {
                self.downgrades = serial;
                self.floor = plan.rollback_index;
            }
            Some(_) | None => self.floor = self.floor.max(plan.rollback_index),
        }
    }
}

impl Plan {
    /// What is refused when this update is bad: the digest over its artifacts.
    pub fn digest(&self) -> Digest {
        let mut hasher = Hasher::new();
        for part in &self.parts {
            hasher.update(part.component.as_str().as_bytes());
            hasher.update(part.artifact.sha256.as_bytes());
            hasher.update(part.meta_data.as_deref().unwrap_or_default().as_bytes());
        }
        hasher.finish()
    }

    /// What a person agrees to: the release, the words they were shown, and each artifact.
    pub fn identity(&self) -> Digest {
        let mut hasher = Hasher::new();
        let mut add = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        };
        add(self.release.path.as_str().as_bytes());
        add(self.release.sha256.as_bytes());
        add(self.version.to_string().as_bytes());
        add(&self.rollback_index.0.to_be_bytes());
        add(self.class.as_str().as_bytes());
        let notice = &self.notice;
        add(notice.purpose.as_bytes());
        add(notice.risk_if_not_applied.as_bytes());
        add(&notice.downtime_secs.to_be_bytes());
        add(notice.functions_unavailable.join("\n").as_bytes());
        for part in &self.parts {
            add(part.component.as_str().as_bytes());
            add(part.artifact.sha256.as_bytes());
            if let Some(text) = &part.meta_data {
                add(text.as_bytes());
            }
        }
        hasher.finish()
    }
}

impl Part {
    /// Whether an update module installs it.
    pub const fn is_module(&self) -> bool {
        matches!(self.install, Install::Module(_))
    }

    /// What its slot holds once it is filled and verified.
    pub fn installed(&self, plan: &Plan) -> Installed {
        Installed {
            version: Some(plan.version.clone()),
            rollback_index: plan.rollback_index,
            sha256: self.artifact.sha256,
            length: self.artifact.length,
        }
    }
}
