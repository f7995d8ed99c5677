//! Receipts tell what is, not what is hoped for.
//!
//! Catches: a receipt that is made when the device restarts into the new image, or with the verdict
//! and not with the commit.

use ampoule_agent::boot::FileBoot;
use ampoule_agent::machine::Outcome;
use ampoule_agent::ports::BootControl;
use ampoule_tests::power::cut::Unsynced;
use ampoule_tests::power::life::{live, state};
use ampoule_tests::power::repo::content;
use ampoule_tests::power::stories;

#[test]
fn no_receipt_says_committed_before_the_new_image_is_the_default() {
    let story = stories::receipts();
    let clean = story.start.fork();
    let before = clean.counts().0;
    live(&clean, &story.world).expect("a clean life");
    let place = &story.world.places[0];
    let mut told = 0;
    for at in 0..=clean.counts().0 - before {
        for unsynced in Unsynced::all(at) {
            let disk = story.start.fork();
            disk.cut_after(at);
            let _ = live(&disk, &story.world);
            let disk = disk.power_cycle(unsynced);
            let outbox = state(&disk).facts.outbox;
            let is_told = outbox
                .iter()
                .any(|report| report.outcome == Outcome::Committed);
            if !is_told {
                continue;
            }
            told += 1;
            let boot = FileBoot::new(std::rc::Rc::new(disk.clone()), std::iter::once(place));
            let view = boot.view(&place.component).expect("powered");
            let default = disk.content(place.slot_path(view.default));
            assert_eq!(
                default,
                Some(content("rootfs", 2)),
                "cut after {at}, {unsynced:?}"
            );
        }
    }
    assert!(told > 0, "no cut left a receipt");
}
