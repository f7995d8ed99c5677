//! A small fleet and the real server, through good and bad releases in bad weather; and the same
//! with mistakes planted, each of which must be seen.

use ampoule_tests::fleet::{Mistake, Options, Release, Weather, run};

/// Catches, besides what is planted below: whatever breaks a permit, a floor, the agreement of both
/// repositories, a receipt's durability or an automatic halt for a fleet as a whole.
#[test]
fn a_fleet_comes_through_good_and_bad_releases() {
    let options = Options::new(160, 7);
    let outcome = run(&options);
    assert!(outcome.is_right(), "{outcome}\n{}", options.replay());
    assert_eq!(outcome.halts(), ["sick", "deadly"], "{outcome}");
    assert!(
        outcome.cuts > 10 && outcome.deaths > 1,
        "the weather was bad: {outcome}"
    );
    let newest = outcome.states.get("run 2.4.0").copied().unwrap_or(0);
    let dead = outcome.states.get("dead").copied().unwrap_or(0);
    assert!(
        dead > 0 && newest + dead >= 155,
        "nearly all arrive: {outcome}"
    );
}

/// Catches: chance that does not come from the seed, which would make every other run of this
/// simulator one that nobody can look at again.
#[test]
fn the_same_seed_gives_the_same_run() {
    let options = Options {
        campaigns: vec![Release::Good],
        ..Options::new(24, 3)
    };
    let (one, two) = (run(&options), run(&options));
    assert_eq!(one, two);
    let other = run(&Options { seed: 4, ..options });
    assert_ne!(one, other);
}

fn with(mistake: Mistake, campaigns: &[Release]) -> ampoule_tests::fleet::Outcome {
    run(&bent(mistake, campaigns))
}

fn bent(mistake: Mistake, campaigns: &[Release]) -> Options {
    Options {
        campaigns: campaigns.to_vec(),
        poll_secs: 900,
        mistake: Some(mistake),
        weather: Weather {
            deaths: 10,
            ..Weather::BAD
        },
        ..Options::new(60, 7)
    }
}

/// Planted: devices that do not ask whether the director agrees.
#[test]
fn a_device_that_acts_alone_is_seen() {
    let outcome = with(Mistake::ActsAlone, &[Release::Good]);
    assert!(
        outcome
            .sins
            .iter()
            .any(|sin| sin.contains("was not offered")),
        "{outcome}"
    );
}

/// Planted: a server for which whoever took an offer has carried it out.
#[test]
fn a_rollout_that_ignores_silence_is_seen() {
    let outcome = with(Mistake::SilenceIsConsent, &[Release::Deadly]);
    assert!(!outcome.is_right(), "{outcome}");
    assert!(
        !outcome.campaigns[0].is_right(),
        "it did not halt: {outcome}"
    );
}

/// Planted: a server that forgets open offers when it dies. It has to die while a device is about to
/// leave service, which it does under one of a few seeds.
#[test]
fn a_permit_lost_at_the_servers_death_is_seen() {
    let mut outcomes = (1..=12).map(|seed| {
        run(&Options {
            seed,
            ..bent(Mistake::PermitsLostAtDeath, &[Release::Good])
        })
    });
    let is_seen = |outcome: ampoule_tests::fleet::Outcome| {
        outcome.sins.iter().any(|sin| sin.contains("away at once"))
    };
    assert!(outcomes.any(is_seen), "it is seen under none of the seeds");
}

/// Planted: a server that acknowledges receipts before the disk has them.
#[test]
fn a_receipt_acknowledged_too_early_is_seen() {
    let outcome = with(Mistake::AcknowledgesTooEarly, &[Release::Good]);
    assert!(outcome.receipts.1 > 0, "{outcome}");
}
