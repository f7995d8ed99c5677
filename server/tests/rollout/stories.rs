//! Rollouts as stories: each name is the claim.

use ampoule_protocol::device::Outcome;
use ampoule_server::rollout::cohort::CohortKey;
use ampoule_server::rollout::dry_run::{Assumed, dry_run};
use ampoule_server::rollout::{Act, Phase, Plan, Rollout, Stage};

use crate::fleet::{Fleet, plan, release, steps};

const HOUR: i64 = 3600;

#[test]
fn steps_open_when_the_one_before_was_good_for_its_bake_time() {
    let mut fleet = Fleet::new(100);
    fleet.start(
        plan("r", "2.0.0", "", &steps(&["1%", "10%", "100%"])),
        release("2.0.0", 2),
        1,
    );
    fleet.look();
    assert_eq!(fleet.offered("r").len(), 1);
    let first = fleet.offered("r")[0];
    fleet.wait(HOUR);
    fleet.look();
    assert_eq!(fleet.offered("r"), [first], "nobody answered yet");
    fleet.answer(first, Outcome::Committed);
    fleet.look();
    fleet.wait(59);
    fleet.look();
    assert!(fleet.offered("r").is_empty(), "it bakes");
    fleet.wait(1);
    fleet.look();
    assert_eq!(fleet.offered("r").len(), 9, "ten with the first");
    for device in fleet.offered("r") {
        fleet.answer(device, Outcome::Committed);
    }
    fleet.look();
    fleet.wait(60);
    fleet.look();
    assert_eq!(fleet.offered("r").len(), 90);
    for device in fleet.offered("r") {
        fleet.answer(device, Outcome::Committed);
    }
    fleet.look();
    fleet.wait(60);
    fleet.look();
    assert_eq!(fleet.stage("r"), "done");
    fleet.join(2);
    fleet.look();
    assert_eq!(
        fleet.offered("r"),
        [100, 101],
        "who comes later is asked as well"
    );
}

#[test]
fn one_failure_too_many_halts_and_takes_offers_back() {
    let mut fleet = Fleet::new(100);
    fleet.start(
        plan("r", "2.0.0", "", &steps(&["10%", "100%"])),
        release("2.0.0", 2),
        1,
    );
    fleet.look();
    let asked = fleet.offered("r");
    fleet.answer(asked[0], Outcome::Reverted);
    fleet.look();
    assert_eq!(fleet.stage("r"), "halted");
    assert_eq!(
        fleet.in_phase("r", Phase::Withdrawn).len(),
        9,
        "also those not begun"
    );
    let said = fleet.why("r", asked[1]);
    assert_eq!(
        said,
        "the rollout halted: 1 of 1 devices failed, 0 of them silent; 0 are borne"
    );
    assert_eq!(
        fleet.why("r", asked[0]),
        "the device failed at 2030-01-01T12:00:00Z (health-bad)"
    );
    fleet.wait(1000 * HOUR);
    fleet.look();
    assert_eq!(fleet.stage("r"), "halted", "time alone mends nothing");
    fleet.act("r", &Act::Resume).unwrap();
    fleet.look();
    assert_eq!(
        fleet.offered("r").len(),
        9,
        "what was looked at is not counted again"
    );
    fleet.act("r", &Act::Abort).unwrap();
    fleet.look();
    assert!(fleet.offered("r").is_empty());
    let refused = fleet.act("r", &Act::Resume).unwrap_err();
    assert_eq!(refused, "a rollout that is aborted cannot be resumed");
}

#[test]
fn silence_is_a_failure_and_not_having_asked_is_none() {
    let mut fleet = Fleet::new(4);
    let more = "begin_within_secs = 600\nanswer_within_secs = 7200";
    fleet.start(
        plan("r", "2.0.0", more, &steps(&["50%", "100%"])),
        release("2.0.0", 2),
        1,
    );
    fleet.look();
    let asked = fleet.offered("r");
    let now = fleet.time();
    fleet.book.taken(asked[0], now);
    fleet.wait(2 * HOUR - 1);
    fleet.look();
    assert_eq!(
        fleet.stage("r"),
        "running",
        "the other never asked; its offer was renewed"
    );
    fleet.wait(1);
    fleet.look();
    let Stage::Halted { why } = &fleet.rollout("r").status.stage else {
        panic!("not halted")
    };
    assert_eq!(
        why.to_string(),
        "1 of 1 devices failed, 1 of them silent; 0 are borne"
    );
}

#[test]
fn a_halt_is_heard_from_a_device_that_answers_late() {
    let mut fleet = Fleet::new(2);
    fleet.start(
        plan("r", "2.0.0", "", &steps(&["100%"])),
        release("2.0.0", 2),
        1,
    );
    fleet.look();
    fleet.answer(0, Outcome::Failed);
    fleet.look();
    assert_eq!(fleet.in_phase("r", Phase::Withdrawn), [1]);
    // It had begun already: what it says counts.
    fleet.receipt(1, "2.0.0", Outcome::Committed);
    assert_eq!(fleet.rollout("r").tally().committed, 1);
}

#[test]
fn a_pause_stops_the_spread_and_leaves_offers() {
    let mut fleet = Fleet::new(100);
    fleet.start(
        plan("r", "2.0.0", "", &steps(&["10%", "100%"])),
        release("2.0.0", 2),
        1,
    );
    fleet.look();
    fleet.act("r", &Act::Pause).unwrap();
    for device in fleet.offered("r").into_iter().skip(1) {
        fleet.answer(device, Outcome::Committed);
    }
    fleet.wait(HOUR);
    fleet.look();
    assert_eq!(fleet.offered("r").len(), 1);
    assert_eq!(fleet.rollout("r").tally().offered, 10);
}

#[test]
fn nobody_is_offered_what_is_not_for_them() {
    let mut fleet = Fleet::new(7);
    fleet.set_tag(1, "region", "JP");
    fleet.devices[2].tags = std::sync::Arc::default();
    fleet.runs(3, "3.0.0", 9);
    fleet.runs(4, "2.0.0", 2);
    fleet.devices[5].enrolled = false;
    fleet.devices[6].profile = None;
    let filter = "filter = 'not device = pump-0099'";
    fleet.start(
        plan("r", "2.0.0", filter, &steps(&["100%"])),
        release("2.0.0", 2),
        1,
    );
    fleet.look();
    assert_eq!(fleet.offered("r"), [0]);
    for (device, said) in [
        (
            0,
            "it is offered since 2030-01-01T12:00:00Z; the device has not asked yet",
        ),
        (1, "the release is not cleared for region \"JP\""),
        (
            2,
            "the release is cleared for some regions only, and the device has no tag \"region\"",
        ),
        (3, "rollback index 2 is below the device's floor 9"),
        (4, "the device runs the release already"),
        (5, "the device is not enrolled"),
        (6, "the device has not reported what it runs"),
    ] {
        assert_eq!(fleet.why("r", device), said, "device {device}");
    }
}

#[test]
fn approvals_come_from_others_and_are_for_this_plan() {
    let mut fleet = Fleet::new(3);
    let plan = plan("r", "2.0.0", "approvals = 2", &steps(&["100%"]));
    let digest = plan.digest();
    fleet.start(plan, release("2.0.0", 2), 1);
    let approve = |by: &str, plan| Act::Approve {
        by: by.into(),
        plan,
    };
    let own = fleet.act("r", &approve("alice", digest)).unwrap_err();
    assert_eq!(own, "\"alice\" made the plan and cannot approve it");
    let other = ampoule_protocol::digest::Digest::of(b"another plan");
    assert!(fleet.act("r", &approve("bob", other)).is_err());
    fleet.act("r", &approve("bob", digest)).unwrap();
    fleet.act("r", &approve("bob", digest)).unwrap();
    fleet.look();
    assert_eq!(fleet.why("r", 0), "the rollout has 1 of 2 approvals");
    assert!(fleet.offered("r").is_empty());
    fleet.act("r", &approve("carol", digest)).unwrap();
    fleet.look();
    assert_eq!(fleet.offered("r").len(), 3);
}

#[test]
fn the_higher_priority_comes_first_and_equals_share() {
    let mut fleet = Fleet::new(90);
    let shape = steps(&["100%"]);
    fleet.start(plan("low", "2.0.0", "", &shape), release("2.0.0", 2), 1);
    fleet.start(
        plan("one", "2.1.0", "priority = 5", &shape),
        release("2.1.0", 2),
        2,
    );
    fleet.start(
        plan("two", "2.2.0", "priority = 5\nweight = 2", &shape),
        release("2.2.0", 2),
        3,
    );
    fleet.look();
    let (low, one, two) = (
        fleet.offered("low"),
        fleet.offered("one"),
        fleet.offered("two"),
    );
    assert!(low.is_empty());
    assert_eq!(one.len() + two.len(), 90);
    assert!(
        (48..=72).contains(&two.len()),
        "two thirds of 90, not {}",
        two.len()
    );
    let said = fleet.why("low", one[0]);
    assert_eq!(said, "the device has an open offer of rollout \"one\"");
}

#[test]
fn a_recall_halts_the_release_and_asks_only_those_who_run_it() {
    let mut fleet = Fleet::new(10);
    fleet.start(
        plan("bad", "2.0.0", "", &steps(&["50%", "100%"])),
        release("2.0.0", 2),
        1,
    );
    fleet.look();
    let ill: Vec<u32> = fleet.offered("bad").into_iter().take(2).collect();
    for device in &ill {
        fleet.answer(*device, Outcome::Committed);
    }
    let recalled = ampoule_protocol::digest::Digest::of(b"2.0.0");
    let more = format!("kind = \"recall\"\nrecalls = [\"{recalled}\"]\npriority = 100");
    fleet.start(
        plan("recall", "2.0.1", &more, &steps(&["100%"])),
        release("2.0.1", 2),
        2,
    );
    fleet.look();
    assert_eq!(fleet.stage("bad"), "halted");
    assert!(fleet.offered("bad").is_empty(), "three had not begun");
    let mut ill = ill;
    ill.sort_unstable();
    assert_eq!(fleet.offered("recall"), ill);
    fleet.act("bad", &Act::Resume).unwrap();
    fleet.look();
    assert_eq!(
        fleet.stage("bad"),
        "halted",
        "nobody resumes what is recalled"
    );
}

#[test]
fn a_failed_device_is_asked_again_as_often_as_the_plan_says() {
    let mut fleet = Fleet::new(1);
    let shape = "[[step]]\ncount = 1\nfailures_max = 5\n";
    fleet.start(
        plan("r", "2.0.0", "attempts = 2", shape),
        release("2.0.0", 2),
        1,
    );
    for attempt in 1..=2 {
        fleet.look();
        assert_eq!(fleet.offered("r"), [0], "attempt {attempt}");
        fleet.answer(0, Outcome::Failed);
    }
    fleet.look();
    assert!(fleet.offered("r").is_empty());
    fleet.act("r", &Act::Retry).unwrap();
    fleet.look();
    assert_eq!(fleet.offered("r"), [0], "a person says once more");
    assert_eq!(
        fleet.rollout("r").tally().failures,
        2,
        "and forgets nothing"
    );
}

#[test]
fn the_sequential_test_halts_what_thresholds_bear() {
    let mut fleet = Fleet::new(400);
    let test = "test = { expected = \"0.5%\", intolerable = \"5%\", false_halt = \"1%\", \
                missed_halt = \"5%\" }";
    let shape = "[[step]]\nshare = \"100%\"\nfailures_max = 400\n";
    fleet.start(plan("r", "2.0.0", test, shape), release("2.0.0", 2), 1);
    fleet.look();
    for (count, device) in (0..).zip(fleet.offered("r")) {
        let outcome = if count % 10 == 9 {
            Outcome::Reverted
        } else {
            Outcome::Committed
        };
        fleet.answer(device, outcome);
        fleet.look();
        if fleet.stage("r") == "halted" {
            assert!((20..=60).contains(&count), "after {count}");
            return;
        }
    }
    panic!("one in ten failed, and nothing halted");
}

#[test]
fn the_dry_run_says_who_gets_what_when_and_changes_nothing() {
    let mut fleet = Fleet::new(20);
    fleet.devices[3].enrolled = false;
    let plan = plan("r", "2.0.0", "", &steps(&["10%", "100%"]));
    let key = CohortKey::new([1; 32]);
    let rollout = Rollout::new(plan.clone(), release("2.0.0", 2), key, fleet.time());
    let world = (fleet.devices.as_slice(), fleet.caps.as_slice());
    let schedule = dry_run(
        &fleet.book,
        rollout,
        world,
        Assumed::default(),
        fleet.time(),
    )
    .unwrap();
    assert_eq!(fleet.book.rollouts().count(), 0);
    let sizes: Vec<_> = schedule
        .steps
        .iter()
        .map(|step| step.devices.len())
        .collect();
    assert_eq!(sizes, [1, 18]);
    assert_eq!(schedule.steps[1].at.unix() - fleet.now, 6 * HOUR + 60);
    assert_eq!(
        schedule.done_at.unwrap().unix() - fleet.now,
        12 * HOUR + 120
    );
    assert_eq!(schedule.left_out["the device is not enrolled"], 1);
    // What was foretold is what happens.
    fleet.start(plan, release("2.0.0", 2), 1);
    fleet.look();
    let first = fleet.devices[fleet.offered("r")[0] as usize]
        .device
        .to_string();
    assert_eq!(schedule.steps[0].devices, [first]);
}

#[test]
fn plans_that_cannot_be_followed_are_refused_with_the_place() {
    let head = "name = \"r\"\nrelease = \"pump/release-2.0.0.toml\"\nauthor = \"alice\"\n\
                sha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n";
    for (more, said) in [
        (
            "filter = \"all\"\nstep = []",
            "plan, step: expected 1 to 32 steps",
        ),
        (
            "filter = \"colour = red\"",
            "plan, line 5: filter, column 1: found \"colour\"",
        ),
        (
            "filter = \"all\"\nextra = 1",
            "plan, line 6: unknown field `extra`",
        ),
        (
            "filter = \"all\"\n[[step]]\nshare = \"10%\"\n[[step]]\nshare = \"10%\"",
            "plan, step 2: it must be larger than the one before",
        ),
        (
            "filter = \"all\"\n[[step]]\nshare = \"10%\"\ncount = 3",
            "plan, line 6: a step has either a share or a count",
        ),
        (
            "filter = \"all\"\nkind = \"recall\"\n[[step]]\ncount = 3",
            "plan, recalls: a recall names releases",
        ),
    ] {
        let error = Plan::parse(&format!("{head}{more}"))
            .expect_err(more)
            .to_string();
        assert!(error.starts_with(said), "{more}: {error}");
    }
    let error = Plan::parse(
        "name = \"r\"\nrelease = \"pump/r.toml\"\nauthor = \"alice\"\nfilter = \"all\"\nstep = []\n",
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("sha256") && error.ends_with("in the published tree"),
        "{error}"
    );
}
