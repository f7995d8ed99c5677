//! The device's own file system is lost, from its first byte to its last: nothing mends that. The
//! device comes up all the same, is what it was, lets its floor fall by nothing, and takes the next
//! update.
//!
//! Planted: an init that mounts and asks nothing (the device had no configuration then, and its agent
//! ended again and again); one that makes the file system anew and gives no floor (`status` says 0).

use std::time::Instant;

use super::device::{Device, News};
use super::image::{Kind, version};
use crate::shell::{Fault, Outcome};

/// Ruins the file system and waits for the update after that.
///
/// # Errors
/// A device that does not come back as what it was.
pub(super) fn play(device: &mut Device<'_>) -> Outcome<String> {
    let before = device.newest;
    device.ruin_data();
    let mut machine = device.start(None)?;
    let (mut is_anew, mut floor) = (false, None);
    let (mut running, mut is_asked) = (0, false);
    let mut since = Instant::now();
    loop {
        match device.news(&mut machine, &mut since)? {
            News::Up { number, .. } => running = number,
            News::Phase { phase, .. } if phase == "idle" => {
                if running == before && !is_asked {
                    is_asked = true;
                    machine.say("status");
                }
                if running == device.newest && running > before {
                    break;
                }
            }
            News::Line(line) => {
                is_anew |= line.contains("vm: data: made anew");
                if let Some((_, told)) = line.split_once("vm: status: floor") {
                    floor = Some(told.trim().to_owned());
                    device.release(Kind::Good)?;
                    machine.say("check");
                }
                if line.contains("\"code\":") {
                    return Err(Fault::new("the agent did not come up").because(line));
                }
            }
            News::Phase { .. } => {}
            News::Cut => return Err(Fault::new("the power went, and nobody took it")),
        }
    }
    let outcome = device.receipt_of(device.newest)?;
    machine.kill();
    if !is_anew || floor.as_deref() != Some(&*before.to_string()) || outcome != "committed" {
        let what = format!("data made anew: {is_anew}, floor: {floor:?}, next: {outcome}");
        return Err(Fault::new(what).because(format!("expected: true, {before}, committed")));
    }
    let next = version(device.newest);
    Ok(format!(
        "all data lost: made anew, floor {before} from the image, {next} {outcome}"
    ))
}
