//! Downgrade records: the one way in which a device's floor falls, once.
//!
//! Method: a device runs 1.1.0 with floor 2. A record is published that lets it go back to 1.0.0,
//! or one with something wrong about it; what the device runs then, and its floor, are looked at.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::downgrade::{Downgrade, FORMAT, KIND};
use ampoule_protocol::release::{Install, ReleaseVersion};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;

use crate::several::live;
use crate::world::{World, noise};

fn image(version: u32) -> Vec<u8> {
    noise(version, 20_000)
}

fn version(text: &str) -> ReleaseVersion {
    ReleaseVersion::parse(text).expect("a version")
}

fn record(serial: u64) -> Downgrade {
    Downgrade {
        format: FORMAT,
        kind: KIND.to_owned(),
        product: "infusion-pump".parse().expect("a name"),
        serial,
        devices: vec!["pump-7".parse().expect("a name")],
        from: version("1.1.0"),
        to: version("1.0.0"),
        rollback_index: RollbackIndex(1),
        reason: "The alarm relay chatters.".to_owned(),
        expires: UtcTime::parse("2027-02-01T00:00:00Z").expect("a time"),
    }
}

/// A device that runs 1.1.0, with 1.0.0 still in the repository.
fn world() -> World {
    let mut world = World::new(&image(0));
    for (index, version) in [(1, "1.0.0"), (2, "1.1.0")] {
        world
            .repo
            .release(version, index.into(), Install::Slot, &image(index));
        world.serve();
        world.settle();
    }
    assert_eq!(runs(&world), "1.1.0");
    world
}

/// The version in the slot that runs.
fn runs(world: &World) -> &'static str {
    let boot = std::fs::read_to_string(world.path("rootfs.boot.json")).expect("there");
    let boot: serde_json::Value = serde_json::from_str(&boot).expect("JSON");
    let slot = boot["running"].as_str().expect("a slot");
    let content = std::fs::read(world.path(&format!("rootfs.{slot}"))).expect("a slot");
    let names = ["factory", "1.0.0", "1.1.0", "1.2.0"];
    let digest = Digest::of(&content);
    let found = (0..)
        .zip(names)
        .find(|(n, _)| Digest::of(&image(*n)) == digest);
    found.map_or("torn", |(_, name)| name)
}

#[test]
fn a_record_takes_the_device_down_once_and_its_floor_with_it() {
    let mut world = world();
    world.repo.downgrade(&record(1));
    world.serve();
    // Newer than what it is to leave, and passed over for this once.
    let state = world.settle();
    assert_eq!(runs(&world), "1.0.0");
    assert_eq!((state.facts.floor.0, state.facts.downgrades), (1, 1));
    assert_eq!(world.last_receipt()["floor"], 1);
    // 1.1.0 is still listed: it is taken again, and the floor rises again.
    let state = world.settle();
    assert_eq!((runs(&world), state.facts.floor.0), ("1.1.0", 2));
    // Used twice: the very same record lets nothing fall any more.
    let state = world.settle();
    assert_eq!((runs(&world), state.facts.floor.0), ("1.1.0", 2));
    // The next serial does.
    world.repo.downgrade(&record(2));
    world.serve();
    let state = world.settle();
    assert_eq!((runs(&world), state.facts.downgrades), ("1.0.0", 2));
}

type Bend = fn(&mut Downgrade);

#[test]
fn a_record_with_something_wrong_lets_nothing_fall() {
    let bends: [(&str, Bend); 5] = [
        ("another device", |it| {
            it.devices = vec!["pump-8".parse().expect("a name")];
        }),
        ("expired", |it| {
            it.expires = UtcTime::parse("2026-12-31T23:59:59Z").expect("a time");
        }),
        ("wrong from-version", |it| it.from = version("1.0.9")),
        ("wrong rollback index", |it| {
            it.rollback_index = RollbackIndex(0);
        }),
        ("a release that is not there", |it| it.to = version("0.9.0")),
    ];
    for (what, bend) in bends {
        let mut world = world();
        let mut bent = record(1);
        bend(&mut bent);
        world.repo.downgrade(&bent);
        world.serve();
        let state = world.settle();
        assert_eq!(runs(&world), "1.1.0", "{what}");
        assert_eq!(
            (state.facts.floor.0, state.facts.downgrades),
            (2, 0),
            "{what}"
        );
        // The device is not held up by it either.
        world.repo.release("1.2.0", 3, Install::Slot, &image(3));
        world.serve();
        world.settle();
        assert_eq!(runs(&world), "1.2.0", "{what}");
    }
}

#[test]
fn a_record_that_is_dropped_costs_the_downgrade_and_nothing_else() {
    let mut world = world();
    let before = world.repo.tree.clone();
    world.repo.downgrade(&record(1));
    // The server goes on serving what was there before.
    world.bends.borrow_mut().tree.clone_from(&before);
    let state = world.settle();
    assert_eq!((runs(&world), state.facts.floor.0), ("1.1.0", 2));
}

#[test]
fn a_bad_trial_of_the_older_one_uses_nothing_up() {
    let mut world = world();
    world.repo.downgrade(&record(1));
    world.serve();
    world.bends.borrow_mut().healthy = false;
    let state = world.settle();
    assert_eq!(runs(&world), "1.1.0");
    assert_eq!((state.facts.floor.0, state.facts.downgrades), (2, 0));
}

/// Meant to catch: a floor file that keeps the higher floor brings the old one back after the journals
/// are lost; a serial that is noted before or after the floor is lost or used up by a cut.
#[test]
fn a_cut_before_any_operation_uses_the_record_once() {
    let mut n = 0;
    loop {
        let mut world = world();
        world.repo.downgrade(&record(1));
        // What the device leaves is withdrawn: nothing takes it back up.
        world.repo.withdraw("1.1.0");
        world.serve();
        world.bends.borrow_mut().power = Some(n);
        let mut has_checked = false;
        for _ in 0..6 {
            world.boot();
            live(&world, &mut has_checked);
        }
        let is_cut = world.is_off();
        world.bends.borrow_mut().power = None;
        world.boot();
        assert!(["1.0.0", "1.1.0"].contains(&runs(&world)), "cut before {n}");
        world.settle();
        let state = world.settle();
        assert_eq!(runs(&world), "1.0.0", "cut before {n}");
        assert_eq!(
            (state.facts.floor.0, state.facts.downgrades),
            (1, 1),
            "cut before {n}"
        );
        for name in ["journal-0.json", "journal-1.json"] {
            std::fs::write(world.path("data").join(name), b"bit rot").expect("writes");
        }
        let facts = world.driver().state().facts.clone();
        assert_eq!(
            (facts.floor.0, facts.downgrades),
            (1, 1),
            "cut before {n}, journals lost"
        );
        if !is_cut {
            break;
        }
        n += 1;
    }
    println!("{n} cuts");
    assert!(n > 60, "only {n} operations");
}
