//! Clocks that are missing, wrong, or jump.
//!
//! Catches: a device without a battery for its clock that takes no release; a pending install that
//! stops because the clock says 1970 or 2106.

use ampoule_tests::power::cut::Unsynced;
use ampoule_tests::power::life::{live, state};
use ampoule_tests::power::stories;
use ampoule_tests::power::story::Marks;

/// Days from dawn (2030) to a clock that starts anew in 1970, to 2038, to 2106, and a year either way.
const JUMPS_DAYS: [i64; 5] = [-21_915, 2_941, 27_796, -365, 365];

#[test]
fn without_a_clock_a_release_installs() {
    let mut story = stories::first_install();
    // Before this program was made, so it is no time at all.
    story.world.days = JUMPS_DAYS[0];
    let disk = story.start.fork();
    live(&disk, &story.world).expect("it goes on");
    assert_eq!(state(&disk).facts.floor.0, 1);
}

#[test]
fn any_clock_lets_a_pending_install_end() {
    let story = stories::full();
    let clean = story.start.fork();
    let before = clean.counts().0;
    live(&clean, &story.world).expect("a clean life");
    let mut ended = 0;
    for at in (0..clean.counts().0 - before).step_by(5) {
        let disk = story.start.fork();
        disk.cut_after(at);
        let _ = live(&disk, &story.world);
        let disk = disk.power_cycle(Unsynced::Kept);
        if state(&disk).phase.plan().is_none() {
            continue;
        }
        for days in JUMPS_DAYS {
            let disk = disk.fork();
            let mut world = story.after.clone();
            world.days = days;
            live(&disk, &world).expect("it goes on");
            assert_eq!(
                state(&disk).facts.floor.0,
                2,
                "cut after {at}, {days} days later"
            );
            assert_eq!(
                story.look(&disk, &Marks::of(&story.start)),
                Vec::<String>::new()
            );
            ended += 1;
        }
    }
    assert!(ended > 50, "{ended} installs were pending");
}
