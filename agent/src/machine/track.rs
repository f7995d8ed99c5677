//! How far the life of an update module has come: what of it is journalled.
//!
//! ```text
//!   Download ─► Install ─► [Reboot] ─► VerifyReboot ─► Commit          ─► (Cleanup)
//!                  └───────────┴────────────┴────────────┘
//!                                   ▼
//!               Rollback ─► [RollbackReboot ─► VerifyRollbackReboot] ─► Failure ─► (Cleanup)
//! ```
//!
//! A state is journalled when it begins and when it ends. One that began and did not end was cut:
//! what it left behind nobody knows, so `Install`, `VerifyReboot` and `Commit` are then rolled
//! back, and `Reboot` has done what it was for. Rollback states are run again.
//!
//! A module whose track stands in the journal is owed its `Cleanup`; the track goes with it.

use ampoule_protocol::name::ComponentName;
use serde::{Deserialize, Serialize};

use super::{Facts, Part, Plan};

/// A state of the Update Modules v3 protocol, as far as it is journalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// `Download` or `DownloadWithFileSizes`.
    Download,
    /// `ArtifactInstall`.
    Install,
    /// `ArtifactReboot`, or the restart of the device in its place.
    Reboot,
    /// `ArtifactVerifyReboot`.
    VerifyReboot,
    /// `ArtifactCommit`.
    Commit,
    /// `ArtifactRollback`.
    Rollback,
    /// `ArtifactRollbackReboot`, or the restart of the device in its place.
    RollbackReboot,
    /// `ArtifactVerifyRollbackReboot`.
    VerifyRollbackReboot,
    /// `ArtifactFailure`.
    Failure,
}

/// What a module says to `NeedsArtifactReboot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reboot {
    /// None.
    #[default]
    No,
    /// The module does it itself.
    Yes,
    /// The device restarts once, for all modules.
    Automatic,
}

/// How far one module has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is one answer, or one fact, of the protocol"
)]
pub struct Track {
    /// The state that was begun last.
    pub stage: Stage,
    /// Whether it ended well.
    pub is_done: bool,
    /// What the module said to `SupportsRollback`.
    pub can_roll_back: bool,
    /// What it said to `NeedsArtifactReboot`.
    pub reboot: Reboot,
    /// Whether its reboot counts as having run.
    pub rebooted: bool,
    /// Reboots of its rollback so far.
    pub rollback_reboots: u32,
    /// Whether nobody knows what it left behind: it began to install, and did not go back.
    pub is_spoilt: bool,
}

impl Track {
    /// A module that begins with its download.
    pub const fn new() -> Self {
        Self {
            stage: Stage::Download,
            is_done: false,
            can_roll_back: false,
            reboot: Reboot::No,
            rebooted: false,
            rollback_reboots: 0,
            is_spoilt: false,
        }
    }

    /// The same with `stage` begun.
    #[must_use]
    pub fn begun(&self, stage: Stage) -> Self {
        Self {
            stage,
            is_done: false,
            rebooted: self.rebooted || stage == Stage::Reboot,
            ..self.clone()
        }
    }

    /// The same with its stage ended.
    #[must_use]
    pub fn ended(&self) -> Self {
        Self {
            is_done: true,
            ..self.clone()
        }
    }

    /// Whether it installed, and was not rolled back.
    pub fn is_installed(&self) -> bool {
        match self.stage {
            Stage::Install => self.is_done,
            Stage::Reboot | Stage::VerifyReboot | Stage::Commit => true,
            Stage::Download
            | Stage::Rollback
            | Stage::RollbackReboot
            | Stage::VerifyRollbackReboot
            | Stage::Failure => false,
        }
    }

    /// Whether a cut fell into a state that is rolled back then.
    pub fn was_interrupted(&self) -> bool {
        let counts = matches!(
            self.stage,
            Stage::Install | Stage::VerifyReboot | Stage::Commit
        );
        counts && !self.is_done
    }

    /// Whether the device has to restart before its rollback can go on.
    pub fn awaits_restart(&self) -> bool {
        self.stage == Stage::RollbackReboot && self.reboot == Reboot::Automatic && !self.is_done
    }
}

impl Default for Track {
    fn default() -> Self {
        Self::new()
    }
}

/// How far all modules of an update have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Installing {
    /// None has begun to install.
    Untouched,
    /// Some have, or one was cut while it did.
    Partly,
    /// All have.
    Whole,
}

impl Facts {
    /// Of the modules of this update; `None` where it has none.
    pub(super) fn installing(&self, plan: &Plan) -> Option<Installing> {
        let tracks = plan.modules().map(|part| self.modules.get(&part.component));
        let mut some = None;
        for track in tracks {
            let of_this = match track {
                None => Installing::Untouched,
                Some(track) if track.stage == Stage::Download => Installing::Untouched,
                Some(track) if track.is_installed() && !track.was_interrupted() => {
                    Installing::Whole
                }
                Some(_) => Installing::Partly,
            };
            some = Some(match some {
                None => of_this,
                Some(other) if other == of_this => of_this,
                Some(_) => Installing::Partly,
            });
        }
        some
    }

    /// Whether a cut fell into a state of a module that is rolled back then.
    pub(super) fn is_interrupted(&self, plan: &Plan) -> bool {
        let mut tracks = plan
            .modules()
            .filter_map(|part| self.modules.get(&part.component));
        tracks.any(Track::was_interrupted)
    }

    /// Whether a reboot of a module was begun: then those of the others count as run, too.
    pub(super) fn has_rebooted(&self, plan: &Plan) -> bool {
        let mut tracks = plan
            .modules()
            .filter_map(|part| self.modules.get(&part.component));
        tracks.any(|track| track.rebooted)
    }

    pub(super) fn awaits_restart(&self) -> bool {
        self.modules.values().any(Track::awaits_restart)
    }

    /// The device has restarted, for whatever waited for it.
    pub(super) fn restarted(&mut self) {
        for track in self
            .modules
            .values_mut()
            .filter(|track| track.awaits_restart())
        {
            track.is_done = true;
        }
    }

    /// Forgets what is installed of modules that did not go back; gives their names.
    pub(super) fn forget_spoilt(&mut self) -> Vec<ComponentName> {
        let spoilt = self.modules.iter().filter(|(_, track)| track.is_spoilt);
        let spoilt: Vec<_> = spoilt.map(|(component, _)| component.clone()).collect();
        for component in &spoilt {
            self.slots.remove(component);
        }
        spoilt
    }
}

impl Plan {
    /// The parts that update modules install.
    pub fn modules(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.is_module())
    }

    /// The parts that are chosen by boot settings.
    pub fn booted(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| !part.is_module())
    }

    /// Whether programs see all of it without a restart of the device, modules aside.
    pub fn is_live(&self) -> bool {
        self.booted().all(|part| part.live)
    }

    /// Whether something has to be done on the running device, before any restart.
    pub fn is_activated(&self) -> bool {
        self.is_live() || self.modules().next().is_some()
    }
}
