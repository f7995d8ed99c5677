//! Updates of a whole machine: a good one, then four that must come back by themselves, then a
//! good one again.
//!
//! The next release is made while the one before is filled in, so that a device that came back goes
//! on to the next instead of trying the same again.

use std::collections::BTreeMap;
use std::time::Instant;

use super::device::{Device, News};
use super::image::{Kind, version};
use super::loader::ATTEMPTS;
use crate::shell::{Fault, Outcome};

/// What each release does, in order; the first is image 2.
const STORY: [Kind; 6] = [
    Kind::Good,
    Kind::Hangs,
    Kind::Panics,
    Kind::NoAgent,
    Kind::Sick,
    Kind::Good,
];

/// Boots in which userland comes up; more of them than this are a loop.
const UPS_MAX: u32 = 40;

/// What became of one release.
pub(super) struct Told {
    /// The release.
    pub(super) number: u32,
    /// What it does.
    pub(super) kind: Kind,
    /// Boots into its trial that were seen.
    pub(super) boots: u32,
    /// Its receipt.
    pub(super) outcome: String,
}

/// Lives through the story.
///
/// # Errors
/// A release that ends otherwise than it must.
pub(super) fn play(device: &mut Device<'_>) -> Outcome<Vec<Told>> {
    device.release(STORY[0])?;
    let mut machine = device.start(None)?;
    let (mut running, mut trial) = (1, 2);
    let mut boots: BTreeMap<u32, u32> = BTreeMap::new();
    let last = 1 + u32::try_from(STORY.len()).unwrap_or(0);
    let (mut ups, mut resets) = (0, 0);
    let mut since = Instant::now();
    loop {
        match device.news(&mut machine, &mut since)? {
            News::Up { number, .. } => {
                ups += 1;
                if ups > UPS_MAX {
                    return Err(Fault::new("the device boots again and again"));
                }
                running = number;
                if number == trial {
                    *boots.entry(number).or_default() += 1;
                }
            }
            News::Phase { phase, number } => {
                // Any phase of it will do: a console loses a line now and then.
                trial = number.map_or(trial, |number| trial.max(number));
                match phase.as_str() {
                    "filling" if number == Some(device.newest) && device.newest < last => {
                        device.release(STORY[device.newest as usize - 1])?;
                    }
                    "idle" if running == last => break,
                    _ => {}
                }
            }
            News::Line(_) => {}
            News::Cut => return Err(Fault::new("the power went, and nobody took it")),
        }
        // An image that hangs never says that it is up: its boots are those that were reset.
        *boots.entry(trial).or_default() += machine.resets - resets;
        resets = machine.resets;
    }
    let mut told = Vec::new();
    for number in 2..=last {
        let (kind, boots) = (
            device.kind(number),
            boots.get(&number).copied().unwrap_or(0),
        );
        let outcome = device.receipt_of(number)?;
        must_be(number, kind, boots, &outcome)?;
        told.push(Told {
            number,
            kind,
            boots,
            outcome,
        });
    }
    // Only now: the receipts had to be sent.
    machine.kill();
    Ok(told)
}

/// A bad image is tried as often as it may be, and no more; a good one once.
fn must_be(number: u32, kind: Kind, boots: u32, outcome: &str) -> Outcome {
    let (wanted_boots, wanted) = match kind {
        Kind::Good => (1, "committed"),
        Kind::Sick => (1, "reverted"),
        Kind::Hangs | Kind::Panics | Kind::NoAgent => (ATTEMPTS, "reverted"),
    };
    if (boots, outcome) == (wanted_boots, wanted) {
        return Ok(());
    }
    let version = version(number);
    Err(Fault::new(format!(
        "{version} ({kind:?}) was {outcome} after {boots} boots"
    ))
    .because(format!("expected: {wanted} after {wanted_boots}")))
}

impl Told {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        let what = match self.kind {
            Kind::Good => "works",
            Kind::Hangs => "hangs in its kernel",
            Kind::Panics => "panics",
            Kind::NoAgent => "has no agent",
            Kind::Sick => "fails its health check",
        };
        let boots = if self.boots == 1 {
            "1 boot"
        } else {
            &format!("{} boots", self.boots)
        };
        format!(
            "{} {what}: {} after {boots}",
            version(self.number),
            self.outcome
        )
    }
}
