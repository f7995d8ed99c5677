//! A medium that fails while the power is on: input/output errors, no space, rot.
//!
//! Method: at each operation of a story once. An error may end the process; the system starts it
//! again, and somebody makes space. Afterwards everything holds that holds after a power cut.

use ampoule_tests::power::cut::mix;
use ampoule_tests::power::disk::{Fault, SimDisk};
use ampoule_tests::power::life::live;
use ampoule_tests::power::mistake::Mistake;
use ampoule_tests::power::stories;
use ampoule_tests::power::story::{Marks, Story};

/// Of so many places one is tried, moved by the story, so that the whole stays affordable.
const EVERY: usize = 2;

fn counts(story: &Story) -> (usize, usize) {
    let disk = story.start.fork();
    let before = disk.counts();
    live(&disk, &story.world).expect("a clean life");
    (disk.counts().0 - before.0, disk.counts().1 - before.1)
}

fn holds(story: &Story, disk: &SimDisk, place: &str) {
    let wrong = story.look(disk, &Marks::of(&story.start));
    let ended = story.rests_well(disk, |disk| live(disk, &story.after));
    let next = story.next_update_works(disk);
    let wrong: Vec<String> = wrong.into_iter().chain(ended).chain(next).collect();
    assert!(
        wrong.is_empty(),
        "{}, {place}: {}",
        story.name,
        wrong.join("; ")
    );
}

fn fail_everywhere(story: &Story, count: usize, fault: impl Fn(usize) -> Fault) {
    let mut tried = 0;
    for at in (1..=count)
        .filter(|at| mix(at.to_owned() as u64, count as u64).is_multiple_of(EVERY as u64))
    {
        let disk = story.start.fork();
        disk.fail(Some(fault(at)));
        // An error here is an agent that ended; it is started again below.
        let _ = live(&disk, &story.world);
        disk.fail(None);
        holds(story, &disk, &format!("{:?}", fault(at)));
        tried += 1;
    }
    let kind = match fault(0) {
        Fault::BadWrite(_) => "a write or sync fails once",
        Fault::BadRead(_) => "a read fails once",
        Fault::Full(_) => "no space, then space again",
    };
    println!(
        "faults: | {} | {kind} | {tried} of {count} | 0 |",
        story.name
    );
}

#[test]
fn a_write_that_fails_once() {
    for story in [stories::full(), stories::trial_bad()] {
        fail_everywhere(&story, counts(&story).0, Fault::BadWrite);
    }
}

#[test]
fn a_read_that_fails_once() {
    for story in [stories::delta(), stories::tree()] {
        fail_everywhere(&story, counts(&story).1, Fault::BadRead);
    }
}

#[test]
fn a_disk_that_is_full_until_somebody_makes_space() {
    for story in [stories::full(), stories::components()] {
        fail_everywhere(&story, counts(&story).0, Fault::Full);
    }
}

/// One bit of one file, in turn, wherever the story was when the power failed. Not what runs: no
/// agent mends the image that it runs from, or the settings that the loader reads (a loader keeps
/// those twice).
#[test]
fn a_bit_that_rots_while_the_power_is_off() {
    let mut tried = 0;
    for story in [stories::full(), stories::trial_bad()] {
        let count = counts(&story).0;
        for at in (0..count).step_by(11) {
            let cut = story.start.fork();
            cut.cut_after(at);
            let _ = live(&cut, &story.world);
            let cut = cut.power_cycle(ampoule_tests::power::cut::Unsynced::Kept);
            for file in cut.files().iter().filter(|file| file.starts_with("/data")) {
                let disk = cut.fork();
                disk.rot(file);
                let ended = story.rests_well(&disk, |disk| live(disk, &story.after));
                let place = format!("cut after {at}, rot in \"{}\"", file.display());
                assert!(
                    ended.is_empty(),
                    "{}, {place}: {}",
                    story.name,
                    ended.join("; ")
                );
                tried += 1;
            }
        }
    }
    println!("faults: | full, trial bad | a bit rots in one of the agent's files | {tried} | 0 |");
}

/// Not a mistake of ours: the medium keeps a bit wrong and says nothing. Nothing of it may run.
#[test]
fn a_medium_that_keeps_something_else() {
    let story = stories::full();
    let disk = story.start.fork();
    disk.plant_mistake(Mistake::BadMedium("/dev/rootfs-"));
    live(&disk, &story.world).expect("it goes on with what it has");
    assert_eq!(
        story.look(&disk, &Marks::of(&story.start)),
        Vec::<String>::new()
    );
    assert!(disk.sins().is_empty(), "{:?}", disk.sins());
}
