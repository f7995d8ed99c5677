//! What a recovery image does when a device does not come up any more.
//!
//! It looks at the slots, and says what it found in a signed receipt. A slot that is whole becomes
//! the default. Where there is none, one is filled from the repository or a bundle by the ordinary
//! rules: signatures, expiry, hardware, region, the floor. It is armed like any update and proves
//! itself in a trial; the journal is the device's own, so what was refused stays refused.

use ampoule_protocol::name::ComponentName;

use super::{Driver, DriverError, Rest};
use crate::install::digest_of;
use crate::machine::{Event, Fault, Installed, Phase, Slot};

/// What a slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// The image that the journal knows, to the byte.
    Whole,
    /// Something else, or it cannot be read.
    Damaged,
    /// The journal knows of no image there.
    Unknown,
}

impl Holds {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Damaged => "damaged",
            Self::Unknown => "unknown",
        }
    }
}

/// What was found in one slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Of which component.
    pub component: ComponentName,
    /// Which slot.
    pub slot: Slot,
    /// What it holds.
    pub holds: Holds,
}

/// What a recovery came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// The default is whole: what keeps the device from booting is not in its slots.
    NotNeeded,
    /// The other slot was whole, and is the default now.
    Switched(Slot),
    /// A slot is filled anew; so far it came.
    Refilled(Rest),
}

impl Driver {
    /// Looks at every slot that boot settings choose, against what the journal knows.
    pub fn diagnose(&mut self) -> Vec<Finding> {
        let places = self.device.places.clone();
        let booted = places.iter().filter(|place| !place.is_module());
        let mut findings = Vec::new();
        for place in booted {
            for slot in [Slot::A, Slot::B] {
                let slots = self.state.facts.slots.get(&place.component);
                let known = slots.and_then(|slots| slots.get(&slot)).cloned();
                let holds = match known {
                    None => Holds::Unknown,
                    Some(image) if self.is_there(place.slot_path(slot), &image) => Holds::Whole,
                    Some(_) => Holds::Damaged,
                };
                findings.push(Finding {
                    component: place.component.clone(),
                    slot,
                    holds,
                });
            }
        }
        findings
    }

    fn is_there(&mut self, path: &std::path::Path, image: &Installed) -> bool {
        let Ok(file) = self.ports.storage.open_medium(path) else {
            return false;
        };
        let what = format!("reading \"{}\"", path.display());
        let watch = &mut self.watch;
        let mut progress = |done| watch.progress(&what, done, image.length);
        digest_of(file.as_ref(), image.length, &mut progress)
            .is_ok_and(|digest| digest == image.sha256)
    }

    /// Repairs the device as far as it can be repaired; to be called from a recovery image alone.
    ///
    /// # Errors
    /// See [`DriverError`].
    pub fn recover(&mut self) -> Result<(Vec<Finding>, Repair), DriverError> {
        // Whatever was under way did not come to its end: it is taken back first.
        let rest = self.start()?;
        if self.state.phase != Phase::Idle {
            return Ok((Vec::new(), Repair::Refilled(rest)));
        }
        let findings = self.diagnose();
        let views = self.views()?;
        let default = |finding: &&Finding| {
            let view = views.get(&finding.component);
            view.is_some_and(|view| view.default == finding.slot)
        };
        let is_whole = |finding: &Finding| finding.holds == Holds::Whole;
        if findings.iter().filter(default).all(is_whole) {
            return Ok((findings, Repair::NotNeeded));
        }
        // The floor holds here too: what was left behind for good does not come back this way.
        let may_run = |finding: &Finding| {
            let slots = self.state.facts.slots.get(&finding.component);
            let image = slots.and_then(|slots| slots.get(&finding.slot));
            image.is_some_and(|image| image.rollback_index >= self.state.facts.floor)
        };
        // A cut before the switch is no harm: what was told once is unknown then, and not whole.
        let mut others = findings.iter().filter(|finding| !default(finding));
        if others.all(|finding| is_whole(finding) && may_run(finding)) {
            let others = findings.iter().filter(|finding| !default(finding));
            let slots: Vec<_> = others
                .map(|finding| (finding.component.clone(), finding.slot))
                .collect();
            self.tell_lost(&findings)?;
            self.ports.boot.commit_all(&slots)?;
            let slot = slots.first().map_or(Slot::A, |(_, slot)| *slot);
            return Ok((findings, Repair::Switched(slot)));
        }
        self.tell_lost(&findings)?;
        let rest = self.check()?;
        Ok((findings, Repair::Refilled(rest)))
    }

    /// Forgets images that are not there any more, and queues a receipt that says so.
    fn tell_lost(&mut self, findings: &[Finding]) -> Result<(), DriverError> {
        let word = |finding: &Finding| {
            let (component, slot) = (&finding.component, finding.slot);
            format!("{component} {slot} {}", finding.holds.as_str())
        };
        let words: Vec<_> = findings.iter().map(word).collect();
        let lost = findings
            .iter()
            .filter(|finding| finding.holds != Holds::Whole)
            .map(|finding| (finding.component.clone(), finding.slot))
            .collect();
        let text = format!(
            "the device did not come up; its slots: {}",
            words.join(", ")
        );
        self.step(Event::Lost(lost, Fault::device("slots-damaged", &text)))?;
        Ok(())
    }
}
