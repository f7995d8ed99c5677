//! Leads update modules through their states, each in the journal before it runs and after.
//!
//! The order is that of the Update Modules v3 protocol ([`crate::module`]); with several modules,
//! each state runs for all of them, in the order of the release, and the way back runs in reverse.

use super::act::out_of_phase;
use super::{Driver, DriverError};
use crate::install::Place;
use crate::machine::{Event, Fault, Part, Plan, Reboot, Stage, Track};
use crate::module::{ModuleError, Modules, Order};

/// Reboots that a module's rollback gets to prove itself.
const ROLLBACK_REBOOTS_MAX: u32 = 3;

/// What a journalled act of a module came to.
type Ran = Result<Result<(), Fault>, DriverError>;

/// Which reboots have been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    /// All that modules can do.
    Done,
    /// The device restarts first.
    NeedsRestart,
}

impl Driver {
    /// Gives the device a way to run update modules.
    #[must_use]
    pub fn with_modules(mut self, modules: Box<dyn Modules>) -> Self {
        self.modules = Some(modules);
        self
    }

    /// `Download` and `SupportsRollback` of every module.
    pub(super) fn download_modules(&mut self, plan: &Plan) -> Ran {
        for part in plan.modules() {
            self.note_track(part, Track::new())?;
            if let Err(fault) = self.download_module(plan, part) {
                return Ok(Err(fault));
            }
            let mut track = self.track(part).ended();
            track.can_roll_back = match self.ask_module(part, "SupportsRollback") {
                Ok(answer) => answer == "Yes",
                Err(fault) => return Ok(Err(fault)),
            };
            let can = track.can_roll_back;
            self.note_track(part, track)?;
            if !can && plan.parts.len() > 1 {
                let error = ModuleError::NoRollback(part.component.to_string());
                return Ok(Err(Fault::of(&error)));
            }
        }
        Ok(Ok(()))
    }

    fn download_module(&mut self, plan: &Plan, part: &Part) -> Result<(), Fault> {
        let place = self.module_place(part)?;
        let storage = self.ports.storage.clone();
        let reporter = self.device.reporter.clone();
        let order = Order {
            place: &place,
            part,
            plan,
            product: &reporter.product,
            hardware: &reporter.hardware,
            storage: storage.as_ref(),
        };
        let downloaded = self.modules()?.download(&order);
        downloaded.map_err(|error| Fault::of(&error))
    }

    /// `ArtifactInstall`, `NeedsArtifactReboot` and `ArtifactReboot`; whether the device must
    /// restart for one of them.
    pub(super) fn install_modules(
        &mut self,
        plan: &Plan,
    ) -> Result<Result<bool, Fault>, DriverError> {
        for part in plan.modules() {
            if self.track(part).is_installed() {
                continue;
            }
            if let Err(fault) = self.run_stage(part, Stage::Install)? {
                return Ok(Err(fault));
            }
        }
        for part in plan.modules() {
            let mut track = self.track(part);
            track.reboot = match self.ask_module(part, "NeedsArtifactReboot").as_deref() {
                Ok("" | "No") => Reboot::No,
                Ok("Yes") => Reboot::Yes,
                Ok("Automatic") => Reboot::Automatic,
                Ok(other) => {
                    let error = ModuleError::answer("NeedsArtifactReboot", other);
                    return Ok(Err(Fault::of(&error)));
                }
                Err(fault) => return Ok(Err(fault.clone())),
            };
            self.note_track(part, track)?;
        }
        let mut restart = false;
        for part in plan.modules() {
            match self.track(part).reboot {
                Reboot::No => {}
                Reboot::Automatic => restart = true,
                Reboot::Yes => {
                    if let Err(fault) = self.run_stage(part, Stage::Reboot)? {
                        return Ok(Err(fault));
                    }
                }
            }
        }
        for part in plan.modules() {
            // It counts as run, though the module is not called.
            if self.track(part).reboot == Reboot::Automatic {
                self.note_track(part, self.track(part).begun(Stage::Reboot))?;
            }
        }
        Ok(Ok(restart))
    }

    /// `ArtifactVerifyReboot` of every module that asked for a reboot.
    pub(super) fn verify_module_reboots(&mut self, plan: &Plan) -> Ran {
        for part in plan.modules() {
            let track = self.track(part);
            let is_due = track.reboot != Reboot::No && track.stage < Stage::VerifyReboot;
            if is_due && let Err(fault) = self.run_stage(part, Stage::VerifyReboot)? {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(()))
    }

    /// `ArtifactCommit` of every module.
    pub(super) fn commit_modules(&mut self, plan: &Plan) -> Ran {
        for part in plan.modules() {
            let track = self.track(part);
            let is_done = track.stage == Stage::Commit && track.is_done;
            if !is_done && let Err(fault) = self.run_stage(part, Stage::Commit)? {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(()))
    }

    /// `ArtifactRollback`, its reboots, and `ArtifactFailure`, of every module that began to
    /// install. What fails on the way is told, and does not end it.
    pub(super) fn roll_modules_back(&mut self, plan: &Plan) -> Result<Back, DriverError> {
        let parts: Vec<&Part> = plan.modules().collect();
        let mut back = Back::Done;
        for part in parts.iter().rev() {
            if self.roll_back(part)? == Back::NeedsRestart {
                back = Back::NeedsRestart;
            }
        }
        if back == Back::NeedsRestart {
            return Ok(back);
        }
        for part in parts.iter().rev() {
            let track = self.track(part);
            let is_over = track.stage == Stage::Failure && track.is_done;
            if track.stage == Stage::Download || is_over {
                continue;
            }
            if let Err(fault) = self.run_stage(part, Stage::Failure)? {
                self.watch.note(&fault.text);
                self.note_track(part, self.track(part).ended())?;
            }
        }
        Ok(back)
    }

    fn roll_back(&mut self, part: &Part) -> Result<Back, DriverError> {
        let track = self.track(part);
        match track.stage {
            Stage::Download | Stage::Failure => return Ok(Back::Done),
            Stage::Install | Stage::Reboot | Stage::VerifyReboot | Stage::Commit => {
                if !track.can_roll_back {
                    self.spoil(part)?;
                    return Ok(Back::Done);
                }
                if !self.run_back(part, Stage::Rollback)? {
                    return Ok(Back::Done);
                }
            }
            // A cut in it: the module may have done half of it.
            Stage::Rollback if !track.is_done => {
                if !self.run_back(part, Stage::Rollback)? {
                    return Ok(Back::Done);
                }
            }
            Stage::Rollback | Stage::RollbackReboot | Stage::VerifyRollbackReboot => {}
        }
        self.reboot_back(part)
    }

    /// The reboots of a rollback, until the module says that it is back.
    fn reboot_back(&mut self, part: &Part) -> Result<Back, DriverError> {
        loop {
            let track = self.track(part);
            let is_proven = track.stage == Stage::VerifyRollbackReboot && track.is_done;
            let is_due = match track.reboot {
                Reboot::No => false,
                Reboot::Yes => true,
                Reboot::Automatic => track.rebooted,
            };
            if !is_due || is_proven {
                return Ok(Back::Done);
            }
            if track.stage == Stage::RollbackReboot {
                if track.awaits_restart() {
                    return Ok(Back::NeedsRestart);
                }
                if let Err(fault) = self.run_stage(part, Stage::VerifyRollbackReboot)? {
                    self.watch.note(&fault.text);
                }
                continue;
            }
            if track.rollback_reboots >= ROLLBACK_REBOOTS_MAX {
                self.spoil(part)?;
                return Ok(Back::Done);
            }
            let mut begun = track.begun(Stage::RollbackReboot);
            begun.rollback_reboots += 1;
            let is_own = track.reboot == Reboot::Yes;
            self.note_track(part, begun)?;
            if is_own && let Err(fault) = self.call_module(part, "ArtifactRollbackReboot") {
                self.watch.note(&fault.text);
            }
        }
    }

    /// `Cleanup` of every module that was under way, whatever came before.
    pub(super) fn clean_modules_up(&mut self) -> Event {
        let components: Vec<_> = self.state.facts.modules.keys().cloned().collect();
        for component in components {
            let places = self.device.places.iter();
            let place = places
                .filter(|place| place.component == component)
                .find(|place| place.is_module());
            let (Some(place), Some(modules)) = (place.cloned(), &mut self.modules) else {
                continue;
            };
            // A failure here changes nothing any more.
            let cleaned = modules.call(&place, "Cleanup");
            for error in [cleaned, modules.forget(&place)]
                .into_iter()
                .filter_map(Result::err)
            {
                self.watch.note(&Fault::of(&error).text);
            }
        }
        Event::CleanedUp
    }

    /// Runs a state that is journalled; a fault where the module fails.
    fn run_stage(&mut self, part: &Part, stage: Stage) -> Ran {
        self.note_track(part, self.track(part).begun(stage))?;
        if let Err(fault) = self.call_module(part, word(stage)) {
            return Ok(Err(fault));
        }
        self.note_track(part, self.track(part).ended())?;
        Ok(Ok(()))
    }

    /// As [`Driver::run_stage`] on the way back; `false` where the module fails: then nobody knows
    /// what it left behind.
    fn run_back(&mut self, part: &Part, stage: Stage) -> Result<bool, DriverError> {
        let ran = self.run_stage(part, stage)?;
        if let Err(fault) = &ran {
            self.watch.note(&fault.text);
            self.spoil(part)?;
        }
        Ok(ran.is_ok())
    }

    fn spoil(&mut self, part: &Part) -> Result<(), DriverError> {
        let mut track = self.track(part);
        track.is_spoilt = true;
        self.note_track(part, track)
    }

    fn call_module(&mut self, part: &Part, state: &'static str) -> Result<(), Fault> {
        let place = self.module_place(part)?;
        let called = self.modules()?.call(&place, state);
        called.map_err(|error| Fault::of(&error))
    }

    fn ask_module(&mut self, part: &Part, question: &'static str) -> Result<String, Fault> {
        let place = self.module_place(part)?;
        let answer = self.modules()?.ask(&place, question);
        answer.map_err(|error| Fault::of(&error))
    }

    fn modules(&mut self) -> Result<&mut dyn Modules, Fault> {
        match &mut self.modules {
            Some(modules) => Ok(modules.as_mut()),
            None => Err(Fault::of(&ModuleError::None)),
        }
    }

    fn module_place(&self, part: &Part) -> Result<Place, Fault> {
        self.place(part).cloned().map_err(|_| out_of_phase())
    }

    fn track(&self, part: &Part) -> Track {
        let track = self.state.facts.modules.get(&part.component);
        track.cloned().unwrap_or_default()
    }

    fn note_track(&mut self, part: &Part, track: Track) -> Result<(), DriverError> {
        self.step(Event::Tracked(part.component.clone(), track))?;
        Ok(())
    }
}

const fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Download => "Download",
        Stage::Install => "ArtifactInstall",
        Stage::Reboot => "ArtifactReboot",
        Stage::VerifyReboot => "ArtifactVerifyReboot",
        Stage::Commit => "ArtifactCommit",
        Stage::Rollback => "ArtifactRollback",
        Stage::RollbackReboot => "ArtifactRollbackReboot",
        Stage::VerifyRollbackReboot => "ArtifactVerifyRollbackReboot",
        Stage::Failure => "ArtifactFailure",
    }
}
