//! Power cuts at seeded moments of updates, one after the other, in one long life.
//!
//! Each cut is aimed at an operation of the disk: so many after power came, or so many after the
//! agent came to a phase. The aim and what the cut does to the disk follow from the seed; the
//! instant does not, since two runs of an emulator are never the same.
//!
//! What must hold after each: the machine boots, what it boots is the whole old image or the whole
//! new one, and the update comes to its end all the same, or, where its trial was cut so often that
//! the agent lets it rest, the next release does. A cut may hit the recovery from the one before.
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
const ASKED_MAX: u32 = 20;
/// Boots within one leg; more of them than this are a loop.
const UPS_MAX: u32 = 20;

/// Where the power is to go.
#[derive(Debug, Clone, Copy)]
enum Aim {
    /// After so many operations of the disk since power came.
    AfterPower(u64),
    /// After so many since the agent came to this phase.
    AfterPhase(&'static str, u64),
    /// Nowhere: the update is to come to its end.
    Nowhere,
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
        empty_checks: 0,
        is_resting: false,
        asked: 0,
    };
    while life.tally.cuts < count {
        let aim = life.aim();
        life.leg(aim)?;
    }
    life.leg(Aim::Nowhere)?;
    Ok(life.tally)
}

impl Life<'_, '_> {
    fn aim(&mut self) -> Aim {
        let random = &mut self.random;
        match random.below(10) {
            // Loader, journal of the file system, start of the agent: recovery from the last cut.
            0 | 1 => Aim::AfterPower(random.below(24)),
            2 => Aim::AfterPower(random.below(400)),
            3 => Aim::AfterPhase("filling", random.below(120)),
            4 | 5 => Aim::AfterPhase("arming", random.below(40)),
            6 | 7 => Aim::AfterPhase("trial", random.below(16)),
            _ => Aim::AfterPhase("committing", random.below(16)),
        }
    }

    /// From power to no power, or to rest.
    fn leg(&mut self, aim: Aim) -> Outcome {
        let cut_after = match aim {
            Aim::AfterPower(operations) => Some(operations),
            Aim::AfterPhase(..) | Aim::Nowhere => None,
        };
        let mut machine = self.device.start(cut_after)?;
        "booting".clone_into(&mut self.phase);
        self.empty_checks = 0;
        let mut ups = 0;
        let mut since = Instant::now();
        loop {
            match self.device.news(&mut machine, &mut since)? {
                News::Cut => {
                    let lost = self.device.cut(machine, &mut self.random);
                    self.count(lost);
                    return Ok(());
                }
                News::Up { number, slot } => {
                    ups += 1;
                    self.came_up(number, slot, ups)?;
                }
                News::Phase { phase, .. } => {
                    if let Aim::AfterPhase(wanted, operations) = aim
                        && wanted == phase
                        && !self.device.disk().is_aimed()
                    {
                        self.device.disk().cut_after(operations);
                    }
                    let before = std::mem::replace(&mut self.phase, phase);
                    if self.phase == "idle" && self.idle(&mut machine, &before) {
                        if matches!(aim, Aim::Nowhere) {
                            return self.close(machine);
                        }
                        self.next_release(&mut machine)?;
                    }
                }
                News::Line(line) => self.told(&mut machine, &line)?,
            }
        }
    }

    fn came_up(&mut self, number: u32, slot: char, ups: u32) -> Outcome {
        self.tally.boots += 1;
        self.running = number;
        "starting".clone_into(&mut self.phase);
        if ups > UPS_MAX {
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

    /// Lines that answer `status`: an update whose trial was cut too often rests.
    fn told(&mut self, machine: &mut Machine, line: &str) -> Outcome {
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
        let outcome = self.device.receipt_of(self.committed)?;
        machine.kill();
        if outcome == "committed" {
            return Ok(());
        }
        Err(Fault::new(format!("the last update was {outcome}")))
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
