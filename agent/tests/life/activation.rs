//! Configuration, drug libraries and content: releases that programs see without a restart.
//!
//! Method: a library that is one file, and a folder of settings, each with a command that tells
//! its programs. What is visible and who was told is looked at after a good life, a bad trial, and
//! a cut before each operation on the disk.

use ampoule_agent::driver::Rest;
use ampoule_protocol::release::{Activation, Install};

use crate::repo::Item;
use crate::several::{archive, live};
use crate::world::World;

const KINDS: [(&str, Install); 2] = [("library", Install::File), ("settings", Install::Tree)];

fn publish(world: &mut World, version: &str, index: u64) {
    let tree = archive(version);
    let mut items = [
        Item::new("library", Install::File, version.as_bytes()),
        Item::new("settings", Install::Tree, &tree),
    ];
    for item in &mut items {
        item.activation = Activation::Live;
    }
    world.repo.release_of(version, index, &items);
    world.serve();
}

/// A device with a library from the factory, which allows what is live, offered 1.0.0.
fn world() -> World {
    let mut world = World::of(&KINDS);
    std::fs::write(world.path("library"), "factory").expect("writes");
    let told = world.path("told");
    for place in &mut world.places {
        place.options.live = true;
        let script = format!("cat library >> {}", told.display());
        let script = format!("cd {} && {script}", world.folder.path().display());
        place.options.reload = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        place.options.timeout = std::time::Duration::from_mins(2);
    }
    publish(&mut world, "1.0.0", 1);
    world
}

fn read(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.path(name)).unwrap_or_default()
}

fn sees(world: &World) -> [String; 2] {
    [
        read(world, "library"),
        read(world, "settings/current/version"),
    ]
}

/// One process, until it rests; whether it asked for a restart.
fn run(world: &World) -> bool {
    let mut driver = world.driver();
    let mut rest = driver.start().expect("starts");
    if rest == Rest::Idle {
        rest = driver.check().expect("checks");
    }
    loop {
        rest = match rest {
            Rest::Idle => return false,
            Rest::Wait(_) => driver.tick().expect("ticks"),
            Rest::RestartDue | Rest::Restarting => return true,
        };
    }
}

#[test]
fn a_library_is_seen_at_once_and_its_programs_are_told() {
    let mut world = world();
    assert!(!run(&world), "it needs no restart");
    assert_eq!(sees(&world), ["1.0.0"; 2]);
    assert_eq!(
        read(&world, "told"),
        "1.0.01.0.0",
        "both were told, after both were there"
    );
    publish(&mut world, "1.1.0", 2);
    assert!(!run(&world));
    assert_eq!(sees(&world), ["1.1.0"; 2]);
    world.boot();
    assert_eq!(sees(&world), ["1.1.0"; 2], "and after a restart");
    assert_eq!(world.driver().state().facts.floor.0, 2);
}

/// Meant to catch: a loader that leaves a file alone whose slot is empty shows the bad library for ever.
#[test]
fn a_bad_trial_brings_back_what_the_factory_had() {
    let world = world();
    world.bends.borrow_mut().healthy = false;
    assert!(!run(&world), "the way back needs no restart either");
    assert_eq!(sees(&world), ["factory", ""]);
    assert!(
        read(&world, "told").ends_with("factoryfactory"),
        "{}",
        read(&world, "told")
    );
    assert_eq!(world.last_receipt()["outcome"], "reverted");
    world.boot();
    assert_eq!(sees(&world), ["factory", ""]);
}

#[test]
fn a_reload_that_fails_takes_it_back() {
    let mut world = world();
    world.places[1].options.reload = vec!["/bin/false".to_owned()];
    assert!(!run(&world));
    assert_eq!(sees(&world), ["factory", ""]);
    assert_eq!(world.last_receipt()["code"], "reload-failed");
}

#[test]
fn a_device_that_does_not_allow_it_restarts() {
    let mut world = world();
    world.places[1].options.live = false;
    assert!(run(&world), "all or nothing: with one restart");
    assert_eq!(sees(&world), ["factory", ""], "nothing is seen before it");
    world.settle();
    assert_eq!(sees(&world), ["1.0.0"; 2]);
    assert_eq!(read(&world, "told"), "");
}

/// A release of the library alone does not hide an older one of the rest.
#[test]
fn each_component_comes_from_the_newest_release_that_names_it() {
    let mut world = World::of(&[("rootfs", Install::Slot), ("library", Install::File)]);
    let system = [Item::new("rootfs", Install::Slot, b"system 2.0.0")];
    world.repo.release_of("2.0.0", 1, &system);
    let library = [Item::new("library", Install::File, b"library 2.1.0")];
    world.repo.release_of("2.1.0", 1, &library);
    world.serve();
    world.settle();
    world.settle();
    assert_eq!(read(&world, "library"), "library 2.1.0");
    let slots = [read(&world, "rootfs.a"), read(&world, "rootfs.b")];
    assert!(slots.contains(&"system 2.0.0".to_owned()), "{slots:?}");
    let state = world.settle();
    assert_eq!(state.facts.report_seq, 2, "and it comes to rest");
}

#[test]
fn a_cut_before_any_operation_ends_well() {
    let mut n = 0;
    loop {
        let mut world = world();
        run(&world);
        publish(&mut world, "1.1.0", 2);
        world.bends.borrow_mut().power = Some(n);
        live(&world, &mut false);
        let is_cut = world.is_off();
        world.bends.borrow_mut().power = None;
        world.boot();
        // Programs start with what they see then; from here on they must be told.
        std::fs::write(world.path("told"), read(&world, "library")).expect("writes");
        let seen = sees(&world);
        let is_one = |text: &String| text == "1.0.0" || text == "1.1.0";
        assert!(seen.iter().all(is_one), "cut before {n}: {seen:?}");
        for _ in 0..2 {
            assert!(!run(&world), "cut before {n}: it needs no restart");
        }
        assert_eq!(sees(&world), ["1.1.0"; 2], "cut before {n}");
        let told = read(&world, "told");
        assert!(
            told.ends_with("1.1.0"),
            "cut before {n}: the last that was told is {told}"
        );
        if !is_cut {
            break;
        }
        n += 1;
    }
    println!("{n} cuts");
    assert!(n > 60, "only {n} operations");
}
