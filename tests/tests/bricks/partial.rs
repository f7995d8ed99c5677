//! What is half there is not there.
//!
//! Catches: a record of a slot that is written before the slot is read back; an image whose end is
//! missing and whose beginning is right.

use ampoule_agent::machine::{Part, Phase, Slot};
use ampoule_tests::power::cut::Unsynced;
use ampoule_tests::power::life::{driver, live, state};
use ampoule_tests::power::{life, repo, stories};

/// The part of the first release's plan, as the real chooser makes it.
pub(crate) fn part_of_the_first_release() -> Part {
    let story = stories::first_install();
    let disk = story.start.fork();
    life::boot(&disk, &story.world).expect("powered");
    let mut driver = driver(&disk, &story.world).expect("powered");
    driver.start().expect("powered");
    let plan = driver.look().expect("a look").plan.expect("an update");
    plan.parts[0].clone()
}

#[test]
fn a_slot_that_is_half_filled_is_known_for_nothing() {
    let story = stories::full();
    let clean = story.start.fork();
    let before = clean.counts().0;
    live(&clean, &story.world).expect("a clean life");
    let mut filling = 0;
    for at in 0..clean.counts().0 - before {
        let disk = story.start.fork();
        disk.cut_after(at);
        let _ = live(&disk, &story.world);
        let disk = disk.power_cycle(Unsynced::Kept);
        let state = state(&disk);
        let slots = state
            .facts
            .slots
            .values()
            .next()
            .expect("what runs is known");
        for (slot, image) in slots {
            let path = story.world.places[0].slot_path(*slot);
            let found = disk.content(path).expect("a slot");
            let found = ampoule_protocol::digest::Digest::of(&found);
            assert_eq!(
                found, image.sha256,
                "cut after {at}: slot \"{slot}\" is not what is told"
            );
        }
        if matches!(state.phase, Phase::Filling(_) | Phase::Verifying(_)) {
            filling += 1;
            let target = state.phase.plan().expect("a plan").parts[0].slot;
            assert!(!slots.contains_key(&target), "cut after {at}");
        }
    }
    assert!(filling > 5, "the fill was cut {filling} times");
}

#[test]
fn an_image_that_ends_early_is_not_whole() {
    let story = stories::first_install();
    let mut world = story.world.clone();
    let tree = std::rc::Rc::make_mut(&mut world.shelf.tree);
    let image = tree
        .iter_mut()
        .find(|(path, _)| path.ends_with("rootfs-1.img"))
        .expect("the image");
    image.1.truncate(repo::content("rootfs", 1).len() - 1);
    let disk = story.start.fork();
    live(&disk, &world).expect("it goes on");
    assert_eq!(life::boot(&disk, &world).expect("powered")[0].slot, Slot::A);
    assert_eq!(state(&disk).facts.floor.0, 0);
    assert!(
        state(&disk).facts.refused.is_empty(),
        "a torn download refuses no image"
    );
    live(&disk, &story.world).expect("the server is mended");
    assert_eq!(state(&disk).facts.floor.0, 1);
}
