//! Metadata that expires while a device is off, waits, tries or reverts.
//!
//! Catches: a pending install, a trial or a revert that asks whether its metadata is still fresh.

use ampoule_tests::power::cut::Unsynced;
use ampoule_tests::power::life::{World, boot, live, state};
use ampoule_tests::power::stories;
use ampoule_tests::power::story::{Marks, Story};

/// Longer than anything here was signed for.
const DRAWER_DAYS: i64 = 400;

/// After a cut at each operation the device lies in a drawer until all metadata is expired.
fn drawer(story: &Story, look: impl Fn(usize, &ampoule_tests::power::disk::SimDisk, &World)) {
    let clean = story.start.fork();
    let before = clean.counts().0;
    live(&clean, &story.world).expect("a clean life");
    for at in (0..clean.counts().0 - before).step_by(3) {
        let disk = story.start.fork();
        disk.cut_after(at);
        let _ = live(&disk, &story.world);
        let disk = disk.power_cycle(Unsynced::Kept);
        let mut late = story.after.clone();
        late.days = DRAWER_DAYS;
        look(at, &disk, &late);
    }
}

#[test]
fn a_pending_install_outlives_the_expiry_of_its_metadata() {
    let story = stories::full();
    let ended = std::cell::Cell::new(0);
    drawer(&story, |at, disk, late| {
        let was_begun = state(disk).phase.plan().is_some();
        live(disk, late).expect("it goes on");
        assert_eq!(
            story.look(disk, &Marks::of(&story.start)),
            Vec::<String>::new()
        );
        let floor = state(disk).facts.floor.0;
        if was_begun {
            assert_eq!(floor, 2, "cut after {at}: what was begun does not end");
            ended.set(ended.get() + 1);
        }
    });
    assert!(ended.get() > 10, "{} installs were pending", ended.get());
}

#[test]
fn a_device_that_lay_in_a_drawer_takes_the_next_release() {
    let story = stories::full();
    let disk = story.start.fork();
    let mut late = story.world.clone();
    late.days = DRAWER_DAYS;
    live(&disk, &late).expect("it goes on, and takes nothing");
    assert_eq!(
        state(&disk).facts.floor.0,
        1,
        "expired metadata brings nothing new"
    );
    live(&disk, &story.next).expect("the repository lives again");
    assert_eq!(state(&disk).facts.floor.0, 3);
}

#[test]
fn a_revert_does_not_ask_for_the_time() {
    let story = stories::trial_bad();
    drawer(&story, |at, disk, late| {
        live(disk, late).expect("it goes on");
        let loaded = boot(disk, late).expect("powered");
        assert_eq!(
            loaded[0].attempts_left, None,
            "cut after {at}: something stays armed"
        );
        assert_eq!(
            story.look(disk, &Marks::of(&story.start)),
            Vec::<String>::new()
        );
        assert_eq!(state(disk).facts.floor.0, 1, "cut after {at}");
    });
}
