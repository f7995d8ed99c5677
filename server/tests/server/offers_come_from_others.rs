//! What one server offers, the others serve, though they have not thought about the device yet.

use ampoule_protocol::device::Inventory;
use ampoule_protocol::name::DeviceId;
use ampoule_server::rollouts::{AHEAD_MAX_SECS, HOLD_SECS};

use crate::among::{Among, NOW, rollout};
use crate::common::World;
use crate::postgres::Cluster;

/// Of a device that needs no keys, since nobody speaks to it here.
fn inventory(device: &str, seq: u64) -> Inventory {
    let bytes = World::new().enroll("pump-1").inventory(seq);
    let mut inventory = Inventory::parse(&bytes).unwrap();
    inventory.device = DeviceId::parse(device).unwrap();
    inventory
}

/// Goal: a device that reports for the first time while a rollout goes on is told the same by every
/// server. Catches: a server that follows an offer before it has looked at a device that is new to it,
/// and says for ever, and under the same version as the others, that nothing is assigned.
#[test]
fn a_device_that_was_new_a_moment_ago_is_told_the_same_by_all() {
    let database = Cluster::shared().database_text();
    let servers = [(); 2].map(|()| Among::start(&database));
    let [one, two] = &servers;
    one.add(rollout("r1", "2.4.1"));
    assert_eq!(
        [one.look(NOW), two.look(NOW)],
        [0, 0],
        "nobody is there yet"
    );
    let report = inventory("pump-1", 1);
    one.enroll(&report.device, NOW);
    one.report(&report, NOW + 1);
    assert_eq!(one.look(NOW + 2), 1, "it is offered the release");
    assert_eq!(two.look(NOW + 2), 0, "the other hears both at once");

    let told = servers.each_ref().map(|server| {
        let told = server.told(&report.device, NOW + 3 + HOLD_SECS);
        told.expect("the hold is over")
    });
    assert!(told[0].offer.is_some(), "{told:?}");
    assert_eq!(told[0], told[1]);
}

/// Goal: offers are served a few seconds after they are made, however much happens and however many
/// servers there are. Catches: each of several servers that takes the next second for its decision,
/// though that second has not come: after an hour of that, offers would be served hours later. And a
/// server that waits for its clock when that was set back by an hour.
#[test]
fn decisions_stay_near_the_clock() {
    let database = Cluster::shared().database_text();
    let servers = [(); 3].map(|()| Among::start(&database));
    servers[0].add(rollout("r1", "2.4.1"));
    let mut report = inventory("pump-0", 1);
    let (mut clock, mut offered) = (NOW, 0);
    for round in 0..12 {
        clock += 1;
        for (number, server) in servers.iter().enumerate() {
            report.device = format!("pump-{round}-{number}").parse().unwrap();
            server.enroll(&report.device, clock);
            server.report(&report, clock);
            offered += server.look(clock);
        }
    }
    assert!(offered < 36, "each look had a second of its own");
    clock += 1;
    servers[0].look(clock);
    clock += AHEAD_MAX_SECS + HOLD_SECS;
    let told = servers[0]
        .told(&report.device, clock)
        .expect("the hold is over");
    assert!(told.offer.is_some(), "{told:?} at {clock}");

    report.device = "pump-late".parse().unwrap();
    servers[0].enroll(&report.device, clock);
    servers[0].report(&report, clock);
    let decided = servers[0].look(clock - 3600);
    assert_eq!(decided, 2, "one offer was taken, one is new");
}
