//! The configured state follows the version that runs ([`crate::state`]).

use super::{Driver, DriverError};
use crate::machine::{BootViews, Event, Fault, Generations, Phase, Plan, TrialGeneration};
use crate::state::{StateError, StateStore, name_of};

impl Driver {
    /// Gives the device a state that follows its version.
    #[must_use]
    pub fn with_state(mut self, store: StateStore) -> Self {
        self.store_of_state = Some(store);
        self
    }

    /// Brings the state to what runs: to be called at boot, before the programs that use it.
    ///
    /// # Errors
    /// See [`DriverError`]. A migration that fails is none: it is noted, and is a bad verdict.
    pub fn settle_state(&mut self) -> Result<(), DriverError> {
        let views = self.views()?;
        let trial = self.plan_on_trial(&views);
        self.bring_state_to(trial.as_ref())
    }

    /// The update that runs uncommitted, where one does.
    fn plan_on_trial(&self, views: &BootViews) -> Option<Plan> {
        let is_late_enough = matches!(
            self.state.phase,
            Phase::Arming(_) | Phase::Activating(_) | Phase::Trial(_) | Phase::Committing(_)
        );
        let plan = self.state.phase.plan().filter(|_| is_late_enough)?;
        let is_new = |part: &crate::machine::Part| {
            let view = views.get(&part.component);
            view.is_some_and(|view| view.running == part.slot)
        };
        // Modules alone: on trial once the trial has begun.
        let has_begun = plan.booted().next().is_some()
            || matches!(self.state.phase, Phase::Trial(_) | Phase::Committing(_));
        (has_begun && plan.booted().all(is_new)).then(|| plan.clone())
    }

    /// Brings the state to that of an update on trial, else of what is committed.
    pub(super) fn bring_state_to(&mut self, trial: Option<&Plan>) -> Result<(), DriverError> {
        if self.store_of_state.is_none() {
            return Ok(());
        }
        let brought = match trial {
            Some(plan) => self.migrate_for(plan)?,
            None => self.show_committed()?,
        };
        if let Err(error) = brought {
            self.watch.note(&Fault::of(&error).text);
        }
        Ok(())
    }

    /// What a trial's state came to: a fault is a bad verdict.
    pub(super) fn verdict_of_state(&self) -> Option<Fault> {
        let trial = self.state.facts.generations.as_ref()?.trial.as_ref()?;
        trial.failed.clone()
    }

    fn migrate_for(&mut self, plan: &Plan) -> Result<Result<(), StateError>, DriverError> {
        let known = match self.generations()? {
            Ok(known) => known,
            Err(error) => return Ok(Err(error)),
        };
        let name = name_of(plan);
        let made = known.trial.as_ref().filter(|trial| trial.name == name);
        let failed = if let Some(trial) = made {
            // Noted, so whole: what programs wrote to it since then is kept.
            trial.failed.clone()
        } else {
            self.make_trial(&known, plan)?
        };
        let shown = if failed.is_some() {
            &known.committed.name
        } else {
            &name
        };
        Ok(self.state_store().map_or(Ok(()), |store| store.show(shown)))
    }

    /// Makes the state of a trial, and notes it; why, where it cannot be made.
    fn make_trial(
        &mut self,
        known: &Generations,
        plan: &Plan,
    ) -> Result<Option<Fault>, DriverError> {
        let made = self.state_store().map(|store| {
            let made = store.make(&known.committed, plan);
            made.map_err(|error| Fault::of(&error))
        });
        let failed = made.and_then(Result::err);
        let trial = TrialGeneration {
            name: name_of(plan),
            version: plan.version.clone(),
            failed: failed.clone(),
        };
        let noted = Generations {
            trial: Some(trial),
            ..known.clone()
        };
        self.step(Event::StateOf(noted))?;
        Ok(failed)
    }

    fn show_committed(&mut self) -> Result<Result<(), StateError>, DriverError> {
        let known = match self.generations()? {
            Ok(known) => known,
            Err(error) => return Ok(Err(error)),
        };
        let Some(store) = self.state_store() else {
            return Ok(Ok(()));
        };
        let shown = store.show(&known.committed.name);
        // While an update is under way, its generation is left alone.
        Ok(shown.and_then(|()| store.tidy(&known)))
    }

    fn state_store(&self) -> Option<&StateStore> {
        self.store_of_state.as_ref()
    }

    /// What is known of the generations; found out at the first time.
    fn generations(&mut self) -> Result<Result<Generations, StateError>, DriverError> {
        if let Some(known) = &self.state.facts.generations {
            return Ok(Ok(known.clone()));
        }
        let adopted = match self.state_store().map(StateStore::adopt) {
            Some(Ok(adopted)) => adopted,
            Some(Err(error)) => return Ok(Err(error)),
            None => return Ok(Ok(Generations::default())),
        };
        self.step(Event::StateOf(adopted.clone()))?;
        Ok(Ok(adopted))
    }
}
