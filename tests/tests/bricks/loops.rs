//! Reboot loops.
//!
//! Catches: an image that is tried again at every poll although it never starts, and one that is
//! never tried again although it was the power; a health check that is waited for without end.

use std::time::Duration;

use ampoule_agent::machine::{FALLBACKS_MAX, Health as Verdict};
use ampoule_agent::ports::Health;
use ampoule_agent::system::HealthCommands;
use ampoule_tests::power::life::{Trial, live, state};
use ampoule_tests::power::stories;

/// Polls of one day.
const POLLS: usize = 50;

#[test]
fn an_image_that_never_starts_costs_a_bounded_number_of_boots_a_day() {
    let story = stories::trial_hangs();
    let disk = story.start.fork();
    let mut trials = 0;
    for _ in 0..POLLS {
        let before = state(&disk).facts.report_seq;
        live(&disk, &story.world).expect("it goes on");
        trials += state(&disk).facts.report_seq - before;
    }
    assert_eq!(trials, u64::from(FALLBACKS_MAX), "trials in one day");
    assert_eq!(disk.sins(), Vec::<String>::new());
}

#[test]
fn after_a_day_it_is_tried_again_and_a_good_one_installs() {
    let story = stories::trial_hangs();
    let disk = story.start.fork();
    for _ in 0..POLLS {
        live(&disk, &story.world).expect("it goes on");
    }
    let mut mended = story.world.clone();
    mended.trial = Trial::Good;
    live(&disk, &mended).expect("it goes on");
    assert_eq!(state(&disk).facts.floor.0, 1, "it rests for a day");
    mended.days = 2;
    live(&disk, &mended).expect("it goes on");
    assert_eq!(state(&disk).facts.floor.0, 2);
}

#[test]
fn health_that_never_answers_is_a_bad_verdict() {
    let mut health = HealthCommands {
        commands: vec![vec!["sleep".to_owned(), "600".to_owned()]],
        timeout: Duration::from_millis(50),
        bake_time: Duration::ZERO,
        settle_time: Duration::ZERO,
        silence_max: Duration::from_mins(10),
        answers: Vec::new(),
    };
    let early = health.verdict(Duration::from_secs(1));
    assert_eq!(early, Verdict::Undecided);
    let late = health.verdict(Duration::from_mins(10));
    assert!(matches!(late, Verdict::Bad(fault) if fault.code == "health-silent"));
}
