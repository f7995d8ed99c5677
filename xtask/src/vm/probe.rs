//! `probe-boot` on a whole machine: its real loader counts and falls back, and the server hears it.

use std::time::Instant;

use super::device::{Device, News};
use crate::shell::{Fault, Outcome};

/// Boots of a probe: one into each trial, one home, and the one that it began in.
const BOOTS: usize = 4;

/// Runs the probe; what was found, in the agent's words.
///
/// # Errors
/// A loader that is not proven, and boots into other slots than they must be.
pub(super) fn play(device: &Device<'_>) -> Outcome<String> {
    let mut machine = device.start(None)?;
    let mut slots = String::new();
    let mut is_asked = false;
    let mut since = Instant::now();
    let found = loop {
        match device.news(&mut machine, &mut since)? {
            News::Up { slot, .. } => slots.push(slot),
            // At rest before, and at home again.
            News::Phase { phase, .. } if phase == "idle" => match slots.len() {
                1 if !is_asked => {
                    is_asked = true;
                    machine.say("probe");
                }
                BOOTS => machine.say("status"),
                _ => {}
            },
            News::Line(line) => {
                if let Some((_, found)) = line.split_once("vm: status: loader") {
                    break found.trim().to_owned();
                }
                if let Some((_, error)) = line.split_once("vm: probe: error") {
                    return Err(Fault::new("the loader cannot be probed").because(error));
                }
            }
            News::Phase { .. } => {}
            News::Cut => return Err(Fault::new("the power went, and nobody took it")),
        }
        if slots.len() > BOOTS {
            return Err(Fault::new("the probe does not come to its end").because(slots));
        }
    };
    machine.kill();
    if slots != "abba" || !found.contains(": proven") {
        let what = format!("the probe booted {slots} and found \"{found}\"");
        return Err(Fault::new(what).because("expected: abba, proven"));
    }
    let told = device.shown()?;
    if told["view"]["inventory"]["boot_probes"][0]["passed"] != true {
        return Err(Fault::new("the server did not hear of the probe").because(told));
    }
    Ok(found)
}
