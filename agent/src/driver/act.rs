//! Performs the machine's actions; what comes of one is an event.

use super::{Driver, DriverError};
use crate::boot::BootError;
use crate::gate::command::{Ended, run};
use crate::gate::{self, Decision, Question};
use crate::install::{self, Fill, InstallError, Options, Place, Source, VerifiedImage};
use crate::machine::{self, Action, Event, Fault, Health, Mark, Part, Phase, Plan};

impl Driver {
    /// Performs one action; every one may be performed again.
    pub(super) fn perform(&mut self, action: Action) -> Result<Option<Event>, DriverError> {
        Ok(match action {
            Action::Check => Some(self.perform_check()?),
            Action::Fill => self.perform_fill()?,
            Action::Verify => Some(self.perform_verify()),
            Action::Prepare => Some(self.perform_prepare()?),
            Action::AskGates => Some(self.perform_ask_gates()?),
            Action::Arm => Some(self.perform_arm()),
            Action::Activate => Some(self.perform_activate()?),
            Action::Restart => self.perform_restart(),
            Action::AskHealth => Some(self.perform_ask_health()?),
            Action::Commit => Some(self.perform_commit()?),
            Action::Disarm => Some(self.perform_disarm()?),
            Action::Cleanup => Some(self.clean_modules_up()),
            Action::SendReports => self.send_reports(),
        })
    }

    fn plan(&self) -> Option<Plan> {
        self.state.phase.plan().cloned()
    }

    pub(super) fn place(&self, part: &Part) -> Result<&Place, InstallError> {
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

    fn perform_prepare(&mut self) -> Result<Event, DriverError> {
        if let Err(fault) = self.prepare_images() {
            return Ok(Event::Failed(fault));
        }
        let Some(plan) = self.plan() else {
            return Ok(Event::Failed(out_of_phase()));
        };
        Ok(match self.download_modules(&plan)? {
            Ok(()) => Event::Prepared,
            Err(fault) => Event::Failed(fault),
        })
    }

    fn prepare_images(&self) -> Result<(), Fault> {
        for image in &self.proofs {
            let place = self
                .device
                .places
                .iter()
                .find(|place| place.component == *image.component());
            let place = place.ok_or_else(out_of_phase)?;
            install::prepare(self.ports.storage.as_ref(), place, image)
                .map_err(|error| fault_of_install(&error))?;
        }
        Ok(())
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
        let Some(plan) = self.plan() else {
            return Event::Failed(out_of_phase());
        };
        if plan.parts.is_empty() || self.proofs.len() != plan.parts.len() {
            return Event::Failed(out_of_phase());
        }
        // No boot loader chooses what a module installs.
        let is_booted = |image: &VerifiedImage| {
            let mut parts = plan.booted();
            parts.any(|part| part.component == *image.component())
        };
        let proofs = std::mem::take(&mut self.proofs).into_iter();
        let (booted, others): (Vec<_>, Vec<_>) = proofs.partition(is_booted);
        let armed = self.ports.boot.arm_all(&booted, self.device.attempts_max);
        self.proofs = booted;
        self.proofs.extend(others);
        match armed {
            Ok(()) => Event::Armed,
            Err(error) => Event::Failed(Fault::of(&error)),
        }
    }

    /// Modules install; what is live becomes visible, and whoever uses it hears of it.
    fn perform_activate(&mut self) -> Result<Event, DriverError> {
        let Some(plan) = self.plan() else {
            return Ok(Event::Failed(out_of_phase()));
        };
        let restart = match self.install_modules(&plan)? {
            Ok(restart) => restart,
            Err(fault) => return Ok(Event::Failed(fault)),
        };
        if !plan.is_live() {
            return Ok(Event::Activated { restart: true });
        }
        if let Err(fault) = self.load_now(&plan) {
            return Ok(Event::Failed(fault));
        }
        self.bring_state_to(Some(&plan))?;
        let reloaded: Result<Vec<()>, Fault> =
            plan.booted().map(|part| self.reload(part)).collect();
        Ok(match reloaded {
            Ok(_) => Event::Activated { restart },
            Err(fault) => Event::Failed(fault),
        })
    }

    fn load_now(&mut self, plan: &Plan) -> Result<(), Fault> {
        let components: Vec<_> = plan.booted().map(|part| part.component.clone()).collect();
        let loaded = self.ports.boot.load_now(&components);
        loaded.map_err(|error| Fault::of(&error))
    }

    /// Tells the programs that use a part which became visible, or went back.
    fn reload(&self, part: &Part) -> Result<(), Fault> {
        let place = self.place(part).map_err(|error| Fault::of(&error))?;
        let Options {
            reload, timeout, ..
        } = &place.options;
        if reload.is_empty() {
            return Ok(());
        }
        let what = match run(reload, *timeout) {
            Ok(ended) if ended.code == Some(0) => return Ok(()),
            Ok(Ended {
                code: Some(code), ..
            }) => format!("exited with {code}"),
            Ok(Ended { code: None, .. }) => "was ended by a signal".to_owned(),
            Err(what) => what,
        };
        let text = format!("the reload of \"{}\" {what}", part.component);
        Err(Fault::device("reload-failed", &text))
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
        if let Some(plan) = self.plan()
            && let Err(fault) = self.verify_module_reboots(&plan)?
        {
            return Ok(Event::Verdict(Health::Bad(fault)));
        }
        self.settle_state()?;
        if let Some(fault) = self.verdict_of_state() {
            return Ok(Event::Verdict(Health::Bad(fault)));
        }
        let uptime = self.ports.clock.uptime();
        let since = *self.trial_since.get_or_insert(uptime);
        let verdict = self.ports.health.verdict(uptime.saturating_sub(since));
        let (answers, bake_secs) = self.ports.health.answers();
        self.step(Event::HealthAnswered(answers, bake_secs))?;
        Ok(Event::Verdict(verdict))
    }

    /// Modules first: one that does not commit takes the others back, while that can be done.
    fn perform_commit(&mut self) -> Result<Event, DriverError> {
        let Some(plan) = self.plan() else {
            return Ok(Event::Failed(out_of_phase()));
        };
        if let Err(fault) = self.commit_modules(&plan)? {
            return Ok(Event::Verdict(Health::Bad(fault)));
        }
        let slots = plan.parts.iter();
        let slots: Vec<_> = slots
            .map(|part| (part.component.clone(), part.slot))
            .collect();
        Ok(match self.ports.boot.commit_all(&slots) {
            Ok(()) => {
                for gate in &mut self.ports.gates {
                    gate.committed(plan.class);
                }
                Event::Committed
            }
            Err(error) => Event::Failed(Fault::of(&error)),
        })
    }

    fn perform_disarm(&mut self) -> Result<Event, DriverError> {
        let reverted = if let Phase::Reverting(reverting) = &self.state.phase {
            Some(reverting.pending.plan.clone())
        } else {
            None
        };
        if let Some(plan) = &reverted {
            self.roll_modules_back(plan)?;
        }
        let disarmed = self.disarm_all();
        if disarmed.is_ok() && reverted.as_ref().is_some_and(Plan::is_live) {
            self.bring_state_to(None)?;
        }
        Ok(match (disarmed, reverted) {
            (Err(error), _) => Event::Failed(Fault::of(&error)),
            (Ok(_), Some(plan)) if plan.is_live() => match self.show_old(&plan) {
                Ok(views) => Event::Disarmed(views),
                Err(fault) => Event::Failed(fault),
            },
            (Ok(views), _) => Event::Disarmed(views),
        })
    }

    /// What was visible without a restart goes back without one.
    fn show_old(&mut self, plan: &Plan) -> Result<machine::BootViews, Fault> {
        self.load_now(plan)?;
        for part in plan.booted() {
            if let Err(fault) = self.reload(part) {
                self.watch.note(&fault.text);
            }
        }
        self.views().map_err(|error| Fault::of(&error))
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
pub(super) fn out_of_phase() -> Fault {
    Fault {
        guilty: machine::Party::Ourselves,
        code: "out-of-phase".to_owned(),
        text: "an action was asked for outside of its phase".to_owned(),
        retry_after_secs: None,
    }
}
