//! Performs the machine's actions; what comes of one is an event.

use super::{Driver, DriverError};
use crate::boot::BootError;
use crate::gate::{self, Decision, Question};
use crate::install::{self, Fill, InstallError, Place, Source};
use crate::machine::{self, Action, Event, Fault, Mark, Part, Phase, Plan};

impl Driver {
    /// Performs one action; every one may be performed again.
    pub(super) fn perform(&mut self, action: Action) -> Result<Option<Event>, DriverError> {
        Ok(match action {
            Action::Check => Some(self.perform_check()?),
            Action::Fill => self.perform_fill()?,
            Action::Verify => Some(self.perform_verify()),
            Action::Prepare => Some(self.perform_prepare()),
            Action::AskGates => Some(self.perform_ask_gates()?),
            Action::Arm => Some(self.perform_arm()),
            Action::Restart => self.perform_restart(),
            Action::AskHealth => Some(self.perform_ask_health()?),
            Action::Commit => Some(self.perform_commit()),
            Action::Disarm => Some(self.perform_disarm()),
            Action::SendReports => self.send_reports(),
        })
    }

    fn plan(&self) -> Option<Plan> {
        self.state.phase.plan().cloned()
    }

    fn place(&self, part: &Part) -> Result<&Place, InstallError> {
        let same =
            |place: &&Place| place.component == part.component && place.install == part.install;
        let place = self.device.places.iter().find(same);
        place.ok_or_else(|| InstallError::Mismatch(part.component.to_string()))
    }

    /// Fills one part, and journals each checkpoint as a step of its own.
    fn perform_fill(&mut self) -> Result<Option<Event>, DriverError> {
        let Phase::Filling(filling) = self.state.phase.clone() else {
            return Ok(Some(Event::Failed(out_of_phase())));
        };
        self.proofs.clear();
        let Some(part) = filling.pending.plan.parts.get(filling.part) else {
            return Ok(Some(Event::Failed(out_of_phase())));
        };
        let place = self.place(part).cloned().and_then(|place| {
            let storage = self.ports.storage.as_ref();
            install::check_space(storage, &place, part, &self.device.data_dir)?;
            Ok(place)
        });
        let place = match place {
            Ok(place) => place,
            Err(error) => return Ok(Some(Event::Failed(fault_of_install(&error)))),
        };
        let view = self.ports.boot.view(&part.component)?;
        let fill = Fill {
            part,
            method: filling.method,
            mark: &filling.mark,
            place: &place,
            view,
            patch_memory_max: self.device.patch_memory_max,
        };
        Ok(self.run_fill(&fill))
    }

    /// `None` where the process is to end: the next one goes on.
    fn run_fill(&mut self, fill: &Fill<'_>) -> Option<Event> {
        let now = self.now();
        let Self {
            ports,
            journal,
            state,
            watch,
            ..
        } = self;
        let total = fill.part.artifact.length;
        let what = format!("filling \"{}\"", fill.part.component);
        let mut checkpoint = |mark: Mark, fetched: u64| {
            let event = Event::Progress { mark, fetched };
            let (next, _) = machine::step(state.clone(), event, now);
            journal.write(&next)?;
            *state = next;
            Ok(())
        };
        let mut progress = |done: u64| watch.progress(&what, done, total);
        let mut source = Source {
            storage: ports.storage.as_ref(),
            network: ports.network.as_mut(),
            checkpoint: &mut checkpoint,
            progress: &mut progress,
            is_to_stop: &|| ports.clock.is_to_stop(),
        };
        let filled = match install::fill(fill, &mut source) {
            Ok(filled) => filled,
            Err(InstallError::Stopped) => return None,
            Err(error) => return Some(Event::Failed(fault_of_install(&error))),
        };
        if filled.kept > 0 {
            let text = format!("{} of {total} bytes were there already", filled.kept);
            watch.note(&text);
        }
        Some(Event::Filled {
            fetched: filled.fetched,
        })
    }

    fn perform_verify(&mut self) -> Event {
        self.proofs.clear();
        let Some(plan) = self.plan() else {
            return Event::Failed(out_of_phase());
        };
        for part in &plan.parts {
            let what = format!("verifying \"{}\"", part.component);
            let place = match self.place(part) {
                Ok(place) => place.clone(),
                Err(error) => return Event::Failed(fault_of_install(&error)),
            };
            let watch = &mut self.watch;
            let mut progress = |done, total| watch.progress(&what, done, total);
            match install::verify(self.ports.storage.as_ref(), &place, part, &mut progress) {
                Ok(image) => self.proofs.push(image),
                Err(error) => return Event::Failed(fault_of_install(&error)),
            }
        }
        Event::Verified
    }

    fn perform_prepare(&mut self) -> Event {
        for image in &self.proofs {
            let place = self
                .device
                .places
                .iter()
                .find(|place| place.component == *image.component());
            let Some(place) = place else {
                return Event::Failed(out_of_phase());
            };
            if let Err(error) = install::prepare(self.ports.storage.as_ref(), place, image) {
                return Event::Failed(fault_of_install(&error));
            }
        }
        Event::Prepared
    }

    fn perform_ask_gates(&mut self) -> Result<Event, DriverError> {
        let Some(plan) = self.plan() else {
            return Ok(Event::Failed(out_of_phase()));
        };
        let asked = gate::ask_all(&mut self.ports.gates, &Question::of(&plan));
        self.watch.gates(&asked);
        self.step(Event::GatesAnswered(gate::checks(&asked)))?;
        Ok(match gate::decide(&asked) {
            Decision::Open => Event::GatesOpen,
            Decision::Closed(closed) => {
                self.watch
                    .note(&format!("waiting for: {}", closed.join(", ")));
                Event::GatesClosed(closed)
            }
        })
    }

    fn perform_arm(&mut self) -> Event {
        let parts = self.plan().map_or(0, |plan| plan.parts.len());
        if parts == 0 || self.proofs.len() != parts {
            return Event::Failed(out_of_phase());
        }
        let attempts = self.device.attempts_max;
        match self.ports.boot.arm_all(&self.proofs, attempts) {
            Ok(()) => Event::Armed,
            Err(error) => Event::Failed(Fault::of(&error)),
        }
    }

    /// A restart that fails is tried again with the next tick: the slots stay armed.
    fn perform_restart(&mut self) -> Option<Event> {
        match self.ports.restart.restart() {
            Ok(restarted) => self.restarted = Some(restarted),
            Err(error) => self.watch.note(&format!("the restart failed: {error}")),
        }
        None
    }

    fn perform_ask_health(&mut self) -> Result<Event, DriverError> {
        let uptime = self.ports.clock.uptime();
        let since = *self.trial_since.get_or_insert(uptime);
        let verdict = self.ports.health.verdict(uptime.saturating_sub(since));
        let (answers, bake_secs) = self.ports.health.answers();
        self.step(Event::HealthAnswered(answers, bake_secs))?;
        Ok(Event::Verdict(verdict))
    }

    fn perform_commit(&mut self) -> Event {
        let Some(plan) = self.plan() else {
            return Event::Failed(out_of_phase());
        };
        let slots = plan.parts.iter();
        let slots: Vec<_> = slots
            .map(|part| (part.component.clone(), part.slot))
            .collect();
        match self.ports.boot.commit_all(&slots) {
            Ok(()) => {
                for gate in &mut self.ports.gates {
                    gate.committed(plan.class);
                }
                Event::Committed
            }
            Err(error) => Event::Failed(Fault::of(&error)),
        }
    }

    fn perform_disarm(&mut self) -> Event {
        match self.disarm_all() {
            Ok(views) => Event::Disarmed(views),
            Err(error) => Event::Failed(Fault::of(&error)),
        }
    }

    pub(super) fn disarm_all(&mut self) -> Result<machine::BootViews, BootError> {
        let places = self.device.places.iter();
        let components: Vec<_> = places.map(|place| place.component.clone()).collect();
        self.ports.boot.disarm_all(&components)?;
        self.views()
    }
}

pub(super) fn fault_of_install(error: &InstallError) -> Fault {
    Fault {
        retry_after_secs: error.retry_after_secs(),
        ..Fault::of(error)
    }
}

/// An action without the phase it belongs to: the machine never asks for it.
fn out_of_phase() -> Fault {
    Fault {
        guilty: machine::Party::Ourselves,
        code: "out-of-phase".to_owned(),
        text: "an action was asked for outside of its phase".to_owned(),
        retry_after_secs: None,
    }
}
