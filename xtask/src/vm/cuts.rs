//! Power cuts at seeded moments of updates, one after the other, in one long life.
//!
//! Each time power comes, the seed says whether it goes soon after, in the loader or in the recovery
//! from the cut before. Else it says at each phase that the agent comes to whether it goes there, and
//! after how many operations of the disk. What the cut does to the disk follows from the seed as
//! well; the instant does not, since two runs of an emulator are never the same. Nearly every boot
//! ends in a cut, and an idle device is left alone: it has nothing to lose.
//!
//! What must hold after each: the machine boots, what it boots is the whole old image or the whole
//! new one, its agent runs, and the update comes to its end all the same, or, where its trial was cut
//! so often that the agent lets it rest, the next release does.
//!
//! A mistake planted (`--plant flushes`, a disk that answers a flush and does nothing): the first cut
//! left a machine under U-Boot that restarted again and again and never came up.

use std::collections::BTreeMap;
use std::time::Instant;

use super::device::{Device, News};
use super::image::{Kind, version};
use super::machine::Machine;
use super::medium::Lost;
use super::random::Random;
use crate::shell::{Fault, Outcome};

/// Checks that find nothing before the agent is asked why.
const EMPTY_CHECKS_MAX: u32 = 3;
/// How often it is asked, between two releases.
const ASKED_MAX: u32 = 100;
/// How often the agent may end by itself within one leg; it is started again each time.
const ENDED_MAX: u32 = 200;
/// Boots within one leg; more of them than this are a loop.
const UPS_MAX: u32 = 20;

/// Of so many boots, one is cut within the first few operations, or somewhat later.
const SOON_ONE_IN: u64 = 6;
const LATER_ONE_IN: u64 = 10;
/// Operations within which that is.
const SOON: u64 = 24;
const LATER: u64 = 300;

/// In which phases the power may go: in so many of twelve cases, and after fewer operations than
/// this. Where a phase has fewer, the cut falls into what follows: another phase, the restart, the
/// loader.
const AIMS: [(&str, u64, u64); 6] = [
    ("filling", 4, 40),
    ("verifying", 1, 4),
    ("arming", 7, 40),
    ("trial", 6, 16),
    ("committing", 9, 16),
    ("reverting", 9, 16),
];

/// What a leg is to end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Cut,
    Rest,
}

/// What came of all cuts of one device.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Cuts.
    pub(super) cuts: u32,
    /// By the phase in which the device was.
    pub(super) by_phase: BTreeMap<String, u32>,
    /// Cuts that lost or kept some writes, and not all of them.
    pub(super) torn: u32,
    /// Sectors lost.
    pub(super) lost: u64,
    /// Boots that reached userland.
    pub(super) boots: u32,
    /// Updates that came to their end.
    pub(super) completed: u32,
    /// Updates that rest because their trials were cut too often.
    pub(super) rested: u32,
    /// Boots in which the file system was mended.
    pub(super) mended: u32,
}

/// The story of the cuts.
struct Life<'d, 'p> {
    device: &'d mut Device<'p>,
    random: Random,
    tally: Tally,
    /// What runs for good.
    committed: u32,
    phase: String,
    running: u32,
    /// Boots, and ends of the agent, since power came.
    ups: u32,
    ended: u32,
    empty_checks: u32,
    /// Whether the newest release rests, as `status` said.
    is_resting: bool,
    /// How often it was asked why it takes no update.
    asked: u32,
}

/// Cuts the power `count` times, and then lets the last update come to its end.
///
/// # Errors
/// A machine that does not come back, or not whole.
pub(super) fn play(device: &mut Device<'_>, count: u32, seed: u64) -> Outcome<Tally> {
    let committed = device.newest;
    device.release(Kind::Good)?;
    let mut life = Life {
        device,
        random: Random::new(seed),
        tally: Tally::default(),
        committed,
        phase: "off".to_owned(),
        running: committed,
        ups: 0,
        ended: 0,
        empty_checks: 0,
        is_resting: false,
        asked: 0,
    };
    while life.tally.cuts < count {
        // For each leg its own, so that what one leg asks for moves no other.
        life.random = Random::new(seed ^ u64::from(life.tally.cuts) << 32);
        life.leg(End::Cut)?;
    }
    life.leg(End::Rest)?;
    Ok(life.tally)
}

impl Life<'_, '_> {
    /// Where the power goes while nobody says yet in which phase the device is.
    fn aim_at_power(&mut self) -> Option<u64> {
        let random = &mut self.random;
        if random.one_in(SOON_ONE_IN) {
            return Some(random.below(SOON));
        }
        random.one_in(LATER_ONE_IN).then(|| random.below(LATER))
    }

    fn aim_at(&mut self, phase: &str) {
        let aim = AIMS.iter().find(|(name, ..)| *name == phase);
        let Some((_, twelfths, operations)) = aim else {
            return;
        };
        if self.random.below(12) < *twelfths && !self.device.disk().is_aimed() {
            let operations = self.random.below(*operations);
            self.device.disk().cut_after(operations);
        }
    }

    /// From power to no power, or to rest.
    fn leg(&mut self, end: End) -> Outcome {
        let cut_after = match end {
            End::Cut => self.aim_at_power(),
            End::Rest => None,
        };
        let mut machine = self.device.start(cut_after)?;
        "booting".clone_into(&mut self.phase);
        (self.empty_checks, self.ups, self.ended) = (0, 0, 0);
        let mut since = Instant::now();
        loop {
            match self.device.news(&mut machine, &mut since)? {
                News::Cut => {
                    let lost = self.device.cut(machine, &mut self.random);
                    self.count(lost);
                    return Ok(());
                }
                News::Up { number, slot } => self.came_up(number, slot)?,
                News::Phase { phase, .. } => {
                    if end == End::Cut {
                        self.aim_at(&phase);
                    }
                    let before = std::mem::replace(&mut self.phase, phase);
                    if self.phase == "idle" && self.idle(&mut machine, &before) {
                        if end == End::Rest {
                            return self.close(machine);
                        }
                        self.next_release(&mut machine)?;
                    }
                }
                News::Line(line) => self.told(&mut machine, &line)?,
            }
        }
    }

    fn came_up(&mut self, number: u32, slot: char) -> Outcome {
        self.tally.boots += 1;
        self.ups += 1;
        self.running = number;
        "starting".clone_into(&mut self.phase);
        if self.ups > UPS_MAX {
            return Err(Fault::new("the device boots again and again"));
        }
        if number == self.committed || number == self.device.newest {
            return Ok(());
        }
        let (found, old) = (version(number), version(self.committed));
        let what = format!("slot {slot} runs {found}, expected {old} or the newest release");
        Err(Fault::new(what))
    }

    /// The agent rests; whether it rests on the newest release.
    fn idle(&mut self, machine: &mut Machine, before: &str) -> bool {
        if self.running == self.device.newest {
            self.tally.completed += 1;
            self.committed = self.running;
            return true;
        }
        if before == "checking" {
            self.empty_checks += 1;
        }
        // The server looks at its tree once a second; what it does not offer yet, it does later.
        machine.say(if self.empty_checks < EMPTY_CHECKS_MAX {
            "check"
        } else {
            "status"
        });
        false
    }

    /// Lines that answer `status`: an update whose trial was cut too often rests. And what the
    /// device's init says.
    fn told(&mut self, machine: &mut Machine, line: &str) -> Outcome {
        self.tally.mended += u32::from(line.contains("vm: data: "));
        if line.contains("vm: the agent ended") {
            self.ended += 1;
            if self.ended > ENDED_MAX {
                return Err(Fault::new("the agent does not run").because(line));
            }
        }
        let newest = format!(" {} ", version(self.device.newest));
        if line.contains("vm: status: refused") && line.contains(&newest) {
            if !line.contains("(fell-back)") {
                return Err(Fault::new(format!("a good image was refused: {line}")));
            }
            self.is_resting = true;
        }
        if !line.contains("vm: told") {
            return Ok(());
        }
        if std::mem::take(&mut self.is_resting) {
            self.tally.rested += 1;
            return self.next_release(machine);
        }
        self.asked += 1;
        if self.asked > ASKED_MAX {
            return Err(Fault::new(
                "the device does not take a good update, and does not say why",
            ));
        }
        machine.say("check");
        Ok(())
    }

    /// The server must hear of the last update too.
    fn close(&self, machine: Machine) -> Outcome {
        self.device.must_hear_of_commit(self.committed)?;
        machine.kill();
        Ok(())
    }

    fn next_release(&mut self, machine: &mut Machine) -> Outcome {
        self.device.forget_before(self.committed);
        self.device.release(Kind::Good)?;
        (self.empty_checks, self.asked) = (0, 0);
        machine.say("check");
        Ok(())
    }

    fn count(&mut self, lost: Lost) {
        let tally = &mut self.tally;
        tally.cuts += 1;
        *tally.by_phase.entry(self.phase.clone()).or_default() += 1;
        tally.torn += u32::from(lost.kept > 0 && lost.gone > 0);
        tally.lost += lost.gone as u64;
        println!(
            "  {} cut {:>3} while {:<11} running {}: {} writes were not flushed, {} sectors kept, {} lost",
            self.device.loader.name(),
            tally.cuts,
            self.phase,
            version(self.running),
            lost.pending,
            lost.kept,
            lost.gone
        );
    }
}
