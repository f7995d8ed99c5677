//! Permits of a ward: enough stays in service, and nobody waits for ever.

use ampoule_protocol::device::Outcome;
use ampoule_protocol::time::UtcTime;
use ampoule_server::rollout::permits::Cap;
use ampoule_server::rollout::{Act, Phase};

use crate::fleet::{Fleet, plan, release, steps};

const HOUR: i64 = 3600;

#[test]
fn wards_keep_enough_devices_in_service() {
    let mut fleet = Fleet::new(16);
    let cap = |tag: &str, max| Cap {
        tag: tag.into(),
        max,
    };
    fleet.caps = vec![cap("ward", 1), cap("patient", 1)];
    for device in [0, 4] {
        fleet.set_tag(device, "patient", "p7");
    }
    fleet.start(
        plan("r", "2.0.0", "", &steps(&["100%"])),
        release("2.0.0", 2),
        1,
    );
    fleet.look();
    let asked = fleet.offered("r");
    assert!(
        (3..=4).contains(&asked.len()),
        "one of each of four wards: {asked:?}"
    );
    assert!(
        !(asked.contains(&0) && asked.contains(&4)),
        "one patient's two pumps"
    );
    let next = (0..16).find(|device| !asked.contains(device)).unwrap();
    let said = fleet.why("r", next);
    assert!(
        said.ends_with("hold permits, no more may at once"),
        "{said}"
    );
    let mut rounds = 0;
    while fleet.rollout("r").tally().committed < 16 {
        for device in fleet.offered("r") {
            fleet.answer(device, Outcome::Committed);
        }
        fleet.look();
        rounds += 1;
        assert!(rounds <= 6, "permits come back");
    }
}

/// Found by the fleet simulator: a device that was dead took the one permit of its ward again and
/// again, each time for as long as an offer may be begun, and its neighbours waited for ever.
#[test]
fn a_device_that_takes_nothing_does_not_starve_its_ward() {
    for dead in 0..4 {
        let mut fleet = Fleet::new(4);
        fleet.caps = vec![Cap {
            tag: "ward".into(),
            max: 1,
        }];
        let half = "[[step]]\nshare = \"50%\"\nsuccess_min = \"50%\"\n\
                    [[step]]\nshare = \"100%\"\nsuccess_min = \"70%\"\n";
        fleet.start(
            plan("r", "2.0.0", "begin_within_secs = 3600", half),
            release("2.0.0", 2),
            7,
        );
        for _ in 0..20 {
            fleet.look();
            for device in fleet.offered("r") {
                if device != dead {
                    fleet.answer(device, Outcome::Committed);
                }
            }
            fleet.wait(HOUR);
        }
        fleet.look();
        let committed = fleet.in_phase("r", Phase::Committed).len();
        assert_eq!(
            (committed, fleet.stage("r")),
            (3, "done"),
            "device {dead} is dead"
        );
    }
}

/// What an operator sees of a rollout that stands.
#[test]
fn a_rollout_tells_what_it_waits_for() {
    let mut fleet = Fleet::new(4);
    fleet.caps = vec![Cap {
        tag: "ward".into(),
        max: 1,
    }];
    let start = "approvals = 1\nstart = \"2030-01-02T08:00:00Z\"\nend = \"2030-01-31T00:00:00Z\"\nfilter = \"tag.ward = 0\"";
    let made = plan("r", "2.0.0", start, &steps(&["50%", "100%"]));
    let digest = made.digest();
    fleet.start(made, release("2.0.0", 2), 1);
    fleet.look();
    assert_eq!(fleet.waits("r"), ["1 approvals, of which 0 were given"]);
    let by = "bob".to_owned();
    fleet.act("r", &Act::Approve { by, plan: digest }).unwrap();
    fleet.look();
    assert_eq!(fleet.waits("r"), ["its start at 2030-01-02T08:00:00Z"]);
    fleet.now = UtcTime::parse("2030-01-02T08:00:00Z").unwrap().unix();
    fleet.look();
    let waits = fleet.waits("r");
    assert!(
        waits[0].starts_with("1 of the step's devices are not asked yet; pump-000"),
        "{waits:?}"
    );
    assert!(waits[0].ends_with("no more may at once"), "{waits:?}");
    assert_eq!(
        waits[1..],
        ["success: 0 of 1 devices committed, 1 must".to_owned()]
    );
    for _ in 0..2 {
        let device = fleet.offered("r")[0];
        fleet.answer(device, Outcome::Committed);
        fleet.look();
    }
    assert_eq!(
        fleet.waits("r"),
        ["its bake time, until 2030-01-02T08:01:00Z"]
    );
    let now = fleet.now;
    fleet.wait(30 * 86_400);
    let said = "nothing that will come: its end, 2030-01-31T00:00:00Z, is past";
    assert_eq!(fleet.waits("r"), [said]);
    fleet.now = now;
    fleet.act("r", &Act::Pause).unwrap();
    assert!(fleet.waits("r").is_empty(), "a person's word");

    fleet.start(
        plan("s", "3.0.0", "filter = \"tag.ward = 9\"", &steps(&["100%"])),
        release("3.0.0", 3),
        1,
    );
    fleet.look();
    let said = "a device that it may ask; \"why DEVICE\" tells what is in the way of one";
    assert_eq!(fleet.waits("s"), [said]);
}
