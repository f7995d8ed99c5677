//! Mistakes, planted: each must be caught by a cut in some story.
//!
//! This is the test of the tests. Each line names the mistake, and the story in which it shows.

use ampoule_tests::power::explore::{Effort, explore};
use ampoule_tests::power::mistake::Mistake;
use ampoule_tests::power::stories;
use ampoule_tests::power::story::Story;

/// What is caught, in words; `None` where nobody noticed.
fn caught(story: &Story, mistake: Mistake) -> Option<String> {
    let planted = Story {
        start: story.start.fork(),
        ..story.clone()
    };
    planted.start.plant_mistake(mistake);
    let effort = Effort {
        depth_states: 0,
        seed: 1,
        next_every: 1,
        ends_early: true,
    };
    explore(&planted, effort).violations.first().cloned()
}

pub(crate) fn all_caught(story: &Story, mistakes: &[Mistake]) {
    for mistake in mistakes {
        let what = caught(story, *mistake);
        let what =
            what.unwrap_or_else(|| panic!("{mistake:?} in \"{}\": nobody noticed", story.name));
        println!("{mistake:?} in \"{}\": {what}", story.name);
    }
}

#[test]
fn a_missing_sync_of_a_file() {
    let files = [
        Mistake::NoFileSync("/dev/rootfs-"),
        Mistake::NoFileSync("/boot/"),
        Mistake::NoFileSync("/data/journal-"),
        Mistake::NoFileSync("/data/metadata/"),
    ];
    all_caught(&stories::full(), &files);
    all_caught(&stories::tree(), &[Mistake::NoFileSync("/srv/")]);
}

#[test]
fn a_missing_sync_of_a_folder() {
    let folders = [
        Mistake::NoFolderSync("/boot"),
        Mistake::NoFolderSync("/data"),
        Mistake::NoFolderSync("/data/metadata"),
    ];
    all_caught(&stories::full(), &folders);
    all_caught(
        &stories::tree(),
        &[Mistake::NoFolderSync("/srv/rootfs/a.new")],
    );
}

#[test]
fn a_file_that_is_written_in_place() {
    let places = [
        Mistake::InPlace("/boot/"),
        Mistake::InPlace("/data/metadata/"),
    ];
    all_caught(&stories::full(), &places);
}

#[test]
fn acts_in_the_wrong_order() {
    let orders = [
        // The floor rises, and the commit comes later.
        Mistake::CommitLater,
        Mistake::ArmNothing,
        Mistake::WrongSlotRuns,
    ];
    all_caught(&stories::full(), &orders);
    // The default changes before the trial; nothing is taken back.
    all_caught(
        &stories::trial_bad(),
        &[Mistake::ArmIsCommit, Mistake::DisarmNothing],
    );
    all_caught(&stories::gate_closes(), &[Mistake::GatesAskedOnce]);
}

/// What the new stories are for: a module that is led through its states, a state that follows the
/// version, a floor that falls.
#[test]
fn mistakes_with_modules_state_and_downgrade() {
    // The journal forgets which state the module ran.
    let forgets = Mistake::NoFileSync("/data/journal-");
    all_caught(&stories::module_bad(), &[forgets]);
    all_caught(&stories::state_bad(), &[Mistake::NoFileSync("/state/")]);
    all_caught(&stories::downgrade(), &[Mistake::CommitLater]);
}

/// A recovery image writes the slots by the same rules.
#[test]
fn mistakes_of_a_recovery() {
    let mistakes = [
        Mistake::NoFileSync("/dev/rootfs-"),
        Mistake::NoFileSync("/boot/"),
        Mistake::BlindReadBack("/dev/rootfs-"),
        Mistake::ArmNothing,
    ];
    all_caught(&stories::recovery(), &mistakes);
}

/// An image that is rewritten in its place has nothing but its journals to go by.
#[test]
fn a_missing_sync_in_place() {
    let files = [
        Mistake::NoFileSync("/srv/controller"),
        Mistake::NoFileSync("/data/in-place/forward.scratch"),
        Mistake::NoFileSync("/data/in-place/forward.journal"),
        Mistake::NoFileSync("/data/in-place/back.journal"),
        Mistake::NoFileSync("/data/in-place/pair"),
        Mistake::NoFolderSync("/data/in-place"),
    ];
    all_caught(&stories::in_place_bad(), &files);
}

#[test]
fn what_is_not_counted_not_read_back_or_forgotten() {
    all_caught(&stories::trial_hangs(), &[Mistake::LoaderCountsNothing]);
    let others = [Mistake::BlindReadBack("/dev/rootfs-"), Mistake::ForgetsAll];
    all_caught(&stories::full(), &others);
}
