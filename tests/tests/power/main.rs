//! Power cuts, enumerated: real driver, journal, store, boot control and installers on a disk that
//! loses power.
//!
//! Method ([`ampoule_tests::power`]): each story runs clean once and is recorded. For each of its
//! operations, and each of seven outcomes of what was not synced (kept, lost, torn, names alone,
//! bytes alone, only the newest, mixed), the medium after a cut is looked at and lives on. Cuts
//! inside the recovery, and inside the recovery of that, follow. After each:
//!
//! - what boots is a whole image, the old or the new one; components boot together;
//! - the running slot was never opened for writing;
//! - the floor and the metadata versions did not fall, and the floor is not above the default image;
//! - the device rests where the story ends, nothing stays armed, receipts are sent;
//! - the next update installs.
//!
//! `mistakes` plants what this is meant to catch, and asks that it catches it; `faults` lets the
//! medium fail, fill up and rot.

mod certificates;
mod faults;
mod mistakes;
mod model;

use ampoule_tests::power::explore::{Effort, explore};
use ampoule_tests::power::stories;
use ampoule_tests::power::story::Story;

/// States after a second cut, or a later one, that are visited in each story where there are more.
const DEPTH_STATES: usize = 200;
/// Chooses them; `AMPOULE_POWER_SEED` and `AMPOULE_POWER_DEPTH` choose others, and more.
const SEED: u64 = 4;

fn setting(name: &str, normal: u64) -> u64 {
    let told = std::env::var(name).ok();
    told.map_or(normal, |told| told.parse().expect("a number"))
}

fn cut_everywhere(story: &Story) {
    let depth = setting("AMPOULE_POWER_DEPTH", DEPTH_STATES as u64);
    let effort = Effort {
        depth_states: usize::try_from(depth).expect("a small number"),
        seed: setting("AMPOULE_POWER_SEED", SEED),
        next_every: 3,
        ends_early: false,
    };
    let found = explore(story, effort);
    let rest = if found.left == 0 {
        "all".to_owned()
    } else {
        format!("of {}", found.deep_states + found.left)
    };
    println!(
        "cuts: | {} | {} | {} | {} | {} | {} ({rest}) | {} |",
        story.name,
        found.operations,
        found.cuts,
        found.states,
        found.deep_cuts,
        found.deep_states,
        found.violations.len()
    );
    assert!(found.operations > 40, "{}: nothing was done", story.name);
    let shown = &found.violations[..found.violations.len().min(10)];
    assert!(
        shown.is_empty(),
        "{}: {} violations, seed {}:\n{}",
        story.name,
        found.violations.len(),
        effort.seed,
        shown.join("\n")
    );
}

/// A test for each story: `cargo test` spreads them over the processors.
macro_rules! stories {
    ($($story:ident)*) => {
        $(#[test]
        fn $story() {
            cut_everywhere(&stories::$story());
        })*
    };
}

stories! {
    first_install
    full
    delta
    full_in_pieces
    trial_bad
    trial_hangs
    tree
    file
    components
    components_bad
    bundle
    gate_closes
    consent
    receipts
    root_rotation
    set_floor
    recovery
    downgrade
    config_release
    config_release_bad
    module
    module_bad
    update_in_place
    in_place_bad
    state_bad
}
