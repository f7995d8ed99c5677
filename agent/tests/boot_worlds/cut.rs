//! The cut test, the same for every world.
//!
//! For each act of the port: run it once and count its operations; then again, with the power cut
//! after each operation and each outcome of what was not synced; boot by the model of the loader;
//! then once more with a second cut inside the recovery. After every cut the loader finds the old
//! choice or the new one, never neither; the repeated act brings the new one.

use std::rc::Rc;

use ampoule_agent::boot::{BootError, FileBoot, World, WorldBoot};
use ampoule_agent::machine::{BootView, Slot};
use ampoule_agent::ports::{BootControl, Storage};

use crate::sim::SimDisk;
use crate::support::{component, image};

/// A world under test.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// A device as it left the factory, running slot a.
    pub(crate) disk: SimDisk,
    pub(crate) world: World,
    /// What the loader does at power-on: which slot it starts. It counts, and tells the system
    /// which slot it is.
    pub(crate) boot: fn(&SimDisk) -> Option<Slot>,
    /// How many boots an arming for three has here.
    pub(crate) attempts: u32,
}

/// What a cut test found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) states: usize,
    pub(crate) violations: Vec<String>,
}

/// One call of the port, from a state that it makes sense in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Settle,
    Arm,
    DisarmBeforeBoot,
    DisarmInTrial,
    Commit,
}

const ACTS: [Act; 5] = [
    Act::Settle,
    Act::Arm,
    Act::DisarmBeforeBoot,
    Act::DisarmInTrial,
    Act::Commit,
];

impl Act {
    fn perform(self, control: &mut WorldBoot) -> Result<(), BootError> {
        match self {
            Self::Settle => Ok(()),
            Self::Arm => control.arm(&image(Slot::B), 3),
            Self::DisarmBeforeBoot | Self::DisarmInTrial => control.disarm(&component()),
            Self::Commit => control.commit(&component(), Slot::B),
        }
    }

    /// What the next boot takes, once it is done.
    fn goal(self) -> Slot {
        match self {
            Self::Arm | Self::Commit => Slot::B,
            Self::Settle | Self::DisarmBeforeBoot | Self::DisarmInTrial => Slot::A,
        }
    }

    /// What the next boot may take after a cut.
    fn allows(self, slot: Slot) -> bool {
        self != Self::Settle || slot == Slot::A
    }
}

impl Case {
    pub(crate) fn open(&self, disk: &SimDisk) -> Result<WorldBoot, BootError> {
        let storage: Rc<dyn Storage> = Rc::new(disk.clone());
        let files = FileBoot::new(Rc::clone(&storage), std::iter::empty());
        WorldBoot::new(&storage, files, [(component(), self.world.clone())]).settle()
    }

    pub(crate) fn view(&self, disk: &SimDisk) -> BootView {
        let control = self.open(disk).expect("settings that can be read");
        control
            .view(&component())
            .expect("settings that can be read")
    }

    /// The disk just before the act.
    fn before(&self, act: Act) -> SimDisk {
        let disk = self.disk.copy();
        if act == Act::Settle {
            return disk;
        }
        let mut control = self.open(&disk).expect("a factory state");
        if act != Act::Arm {
            control.arm(&image(Slot::B), 3).expect("an arming");
        }
        if matches!(act, Act::DisarmInTrial | Act::Commit) {
            assert_eq!(
                (self.boot)(&disk),
                Some(Slot::B),
                "{}: the trial is booted",
                self.name
            );
        }
        disk
    }

    fn run(&self, disk: &SimDisk, act: Act) -> Result<(), BootError> {
        act.perform(&mut self.open(disk)?)
    }

    /// What a whole life looks like without a cut.
    pub(crate) fn check_story(&self) {
        let (name, disk) = (self.name, self.disk.copy());
        let rest = |running, default| BootView {
            running,
            default,
            armed: None,
        };
        assert_eq!(self.view(&disk), rest(Slot::A, Slot::A), "{name}: factory");
        let mut control = self.open(&disk).expect("a factory state");
        control.arm(&image(Slot::B), 3).expect("an arming");
        let armed = control.view(&component()).expect("a view").armed;
        assert_eq!(armed, Some((Slot::B, self.attempts)), "{name}: armed");
        for _ in 0..self.attempts {
            assert_eq!(
                (self.boot)(&disk),
                Some(Slot::B),
                "{name}: the trial is booted"
            );
        }
        assert_eq!(
            (self.boot)(&disk),
            Some(Slot::A),
            "{name}: the trial is used up"
        );
        let view = self.view(&disk);
        assert_eq!(
            view.armed,
            Some((Slot::B, 0)),
            "{name}: the machine sees that it is used up"
        );
        let mut control = self.open(&disk).expect("settings");
        control.disarm(&component()).expect("a disarming");
        assert_eq!(
            self.view(&disk),
            rest(Slot::A, Slot::A),
            "{name}: taken back"
        );
        let mut control = self.open(&disk).expect("settings");
        control.arm(&image(Slot::B), 3).expect("an arming");
        assert_eq!(
            (self.boot)(&disk),
            Some(Slot::B),
            "{name}: the second trial"
        );
        let mut control = self.open(&disk).expect("settings");
        control.commit(&component(), Slot::B).expect("a commit");
        for _ in 0..10 {
            assert_eq!(
                (self.boot)(&disk),
                Some(Slot::B),
                "{name}: the default stays"
            );
            assert_eq!(
                self.view(&disk),
                rest(Slot::B, Slot::B),
                "{name}: committed"
            );
        }
        let mut control = self.open(&disk).expect("settings");
        let error = control
            .arm(&image(Slot::B), 3)
            .expect_err("the running slot");
        assert!(
            matches!(error, BootError::Running { .. }),
            "{name}: {error}"
        );
        self.check_quiet(&disk);
    }

    /// What is as it should be is not written again.
    fn check_quiet(&self, disk: &SimDisk) {
        let disk = disk.copy();
        let mut control = self.open(&disk).expect("settings");
        control.commit(&component(), Slot::B).expect("a commit");
        control.disarm(&component()).expect("a disarming");
        assert_eq!(
            disk.operations(),
            0,
            "{}: nothing to write, and it was written",
            self.name
        );
    }

    /// Cuts everywhere, and cuts again inside the recovery.
    pub(crate) fn check_cuts(&self) {
        let found = self.cuts(None);
        println!("{}: {} states after power cuts", self.name, found.states);
        assert!(found.states > 10, "{}: nothing was cut", self.name);
        assert_eq!(found.violations, Vec::<String>::new(), "{}", self.name);
    }

    /// The syncs that can be left out of an act without any cut showing it. What the start puts in
    /// order is put in order again at the next one, so it is not asked about.
    pub(crate) fn syncs_that_nobody_would_miss(&self) -> Vec<(String, usize)> {
        let mut missed = Vec::new();
        for act in ACTS.into_iter().filter(|act| *act != Act::Settle) {
            let disk = self.before(act);
            disk.swallow_sync(None);
            self.run(&disk, act).expect("an act without a cut");
            for sync in 0..disk.syncs() {
                let found = self.cuts_of(act, Some(sync));
                if found.violations.is_empty() {
                    missed.push((format!("{act:?}"), sync));
                }
            }
        }
        missed
    }

    fn cuts(&self, swallowed: Option<usize>) -> Found {
        let mut all = Found::default();
        for act in ACTS {
            let found = self.cuts_of(act, swallowed);
            all.states += found.states;
            all.violations.extend(found.violations);
        }
        all
    }

    fn cuts_of(&self, act: Act, swallowed: Option<usize>) -> Found {
        let mut found = Found::default();
        let start = self.before(act);
        let clean = start.copy();
        self.run(&clean, act).expect("an act without a cut");
        for cut in 0..=clean.operations() {
            let disk = start.copy();
            disk.swallow_sync(swallowed);
            disk.cut_after(cut);
            let outcome = self.run(&disk, act);
            for fate in 0..disk.outcomes() {
                let place = format!("{act:?} cut after {cut}, outcome {fate}");
                let after = disk.after_cut(fate);
                found.states += 1;
                match (self.boot)(&after.copy()) {
                    None => found.violations.push(format!("{place}: nothing boots")),
                    Some(slot) if !act.allows(slot) => {
                        found.violations.push(format!("{place}: slot {slot} boots"));
                    }
                    Some(_) if outcome.is_ok() && !self.stays(act, &after.copy()) => {
                        found
                            .violations
                            .push(format!("{place}: done, and not for good"));
                    }
                    Some(_) => self.recover(act, &after, &place, &mut found),
                }
            }
        }
        found
    }

    /// Boots and does the act again, with every second cut.
    fn recover(&self, act: Act, disk: &SimDisk, place: &str, found: &mut Found) {
        let rebooted = disk.copy();
        (self.boot)(&rebooted);
        let clean = rebooted.copy();
        self.check_recovered(act, &clean, place, found);
        for cut in 0..clean.operations() {
            let again = rebooted.copy();
            again.cut_after(cut);
            let _ = self.repeat(act, &again);
            for fate in 0..again.outcomes() {
                found.states += 1;
                let after = again.after_cut(fate);
                if (self.boot)(&after).is_none_or(|slot| !act.allows(slot)) {
                    let what = format!("{place}, again after {cut}, outcome {fate}");
                    found.violations.push(what);
                    continue;
                }
                self.check_recovered(act, &after, place, found);
            }
        }
    }

    fn check_recovered(&self, act: Act, disk: &SimDisk, place: &str, found: &mut Found) {
        if let Err(error) = self.repeat(act, disk) {
            found
                .violations
                .push(format!("{place}: the recovery failed: {error}"));
            return;
        }
        if !self.stays(act, &disk.after_cut(0)) {
            found
                .violations
                .push(format!("{place}: recovered, and not for good"));
        }
    }

    /// Whether the next boots take what the act was for: one boot of an arming, any number of a
    /// default, without an agent in between. A trial is counted, and so it ends.
    fn stays(&self, act: Act, disk: &SimDisk) -> bool {
        let boots = match act {
            Act::Settle | Act::Arm => 1,
            Act::DisarmBeforeBoot | Act::DisarmInTrial | Act::Commit => 5,
        };
        let view = |control: WorldBoot| control.view(&component()).ok();
        let view = self.open(&disk.copy()).ok().and_then(view);
        let is_trial = act == Act::Arm && view.is_some_and(|view| view.default == Slot::A);
        (0..boots).all(|_| (self.boot)(disk) == Some(act.goal()))
            && (!is_trial || (0..5).any(|_| (self.boot)(disk) == Some(Slot::A)))
    }

    /// What the machine does after a restart in the middle of the act.
    fn repeat(&self, act: Act, disk: &SimDisk) -> Result<(), BootError> {
        let mut control = self.open(disk)?;
        let running = control.view(&component())?.running;
        match act {
            // The trial runs already: the machine goes on from there.
            Act::Arm if running == Slot::B => control.commit(&component(), Slot::B),
            // The last boot was used up: the machine takes the trial back and arms it anew.
            Act::Arm => {
                control.disarm(&component())?;
                act.perform(&mut control)
            }
            Act::Settle | Act::DisarmBeforeBoot | Act::DisarmInTrial | Act::Commit => {
                act.perform(&mut control)
            }
        }
    }
}
