//! The configured state follows the version: copied, migrated forward, restored on revert.
//!
//! Method: a state of a file, a folder and a link; a hook that is a script, which writes the
//! version into the copy. What programs see is looked at after a good trial, a bad one, a hook that
//! fails, and with the power cut before each operation on the disk.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use ampoule_agent::state::StateConfig;
use ampoule_protocol::release::Install;

use crate::several::live;
use crate::world::{World, noise};

/// Writes what it was called with, unless it is told to fail halfway.
const HOOK: &str = r#"#!/bin/sh
echo "$1 to $2" >> "$3/history"
echo half > "$3/settings/rate"
[ ! -e "$(dirname "$0")/fails" ] || exit 3
echo "$2" > "$3/settings/rate"
"#;

fn world() -> World {
    let mut world = World::new(&noise(0, 10_000));
    let hook = world.path("hook");
    std::fs::write(&hook, HOOK).expect("writes");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("sets");
    let dir = world.path("state");
    let factory = dir.join("g-factory/settings");
    std::fs::create_dir_all(&factory).expect("makes");
    std::fs::write(factory.join("rate"), "factory\n").expect("writes");
    std::fs::set_permissions(factory.join("rate"), std::fs::Permissions::from_mode(0o640))
        .expect("sets");
    std::os::unix::fs::symlink("settings/rate", dir.join("g-factory/link")).expect("links");
    std::os::unix::fs::symlink("g-factory", dir.join("current")).expect("links");
    world.state = Some(StateConfig {
        dir,
        migrate: vec![hook.display().to_string()],
        timeout: Duration::from_mins(2),
    });
    world
        .repo
        .release("1.0.0", 1, Install::Slot, &noise(1, 10_000));
    world.serve();
    world
}

/// What programs see: the rate, by way of the link in it, and what hooks ran on it.
fn sees(world: &World) -> (String, String) {
    let read = |name: &str| {
        let path = world.path("state/current").join(name);
        std::fs::read_to_string(path).unwrap_or_default()
    };
    (
        read("link").trim().to_owned(),
        read("history").trim().to_owned(),
    )
}

fn generations(world: &World) -> usize {
    let entries = std::fs::read_dir(world.path("state")).expect("a folder");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("g-")).count()
}

#[test]
fn a_good_trial_keeps_the_migrated_copy() {
    let mut world = world();
    world.settle();
    assert_eq!(sees(&world), ("1.0.0".into(), "none to 1.0.0".into()));
    let mode = std::fs::metadata(world.path("state/current/settings/rate"));
    assert_eq!(mode.expect("there").permissions().mode() & 0o777, 0o640);
    world
        .repo
        .release("1.1.0", 2, Install::Slot, &noise(2, 10_000));
    world.serve();
    world.settle();
    let history = "none to 1.0.0\n1.0.0 to 1.1.0";
    assert_eq!(sees(&world), ("1.1.0".into(), history.into()));
    world.settle();
    assert_eq!(generations(&world), 1, "what nobody owns is removed");
}

/// Meant to catch: a hook that runs on the state itself leaves "1.0.0" behind.
#[test]
fn a_bad_trial_restores_it_to_the_byte() {
    let world = world();
    world.bends.borrow_mut().healthy = false;
    world.settle();
    world.settle();
    assert_eq!(sees(&world), ("factory".into(), String::new()));
    assert_eq!(generations(&world), 1);
}

#[test]
fn a_migration_that_fails_is_a_bad_verdict_and_touched_nothing() {
    let world = world();
    std::fs::write(world.path("fails"), "").expect("writes");
    let state = world.settle();
    assert_eq!(sees(&world), ("factory".into(), String::new()));
    assert_eq!(world.last_receipt()["code"], "migration-failed");
    assert_eq!(state.facts.refused.len(), 1, "it is not tried again");
    assert_eq!(state.facts.floor.0, 0);
}

/// Programs of a trial see its state before the agent asks for its health, and a second boot of
/// the trial does not migrate again.
#[test]
fn a_trial_sees_its_own_state_from_its_first_boot_on() {
    let world = world();
    world.boot();
    let mut driver = world.driver();
    driver.start().expect("starts");
    driver.check().expect("fills and arms");
    assert_eq!(sees(&world).0, "factory", "the old version runs still");
    for _ in 0..2 {
        world.boot();
        world.driver().settle_state().expect("brings it");
        assert_eq!(sees(&world), ("1.0.0".into(), "none to 1.0.0".into()));
    }
}

#[test]
fn a_cut_before_any_operation_ends_well() {
    let mut n = 0;
    loop {
        let world = world();
        world.bends.borrow_mut().power = Some(n);
        let mut has_checked = false;
        for _ in 0..4 {
            world.boot();
            live(&world, &mut has_checked);
        }
        let is_cut = world.is_off();
        world.bends.borrow_mut().power = None;
        world.boot();
        world.driver().settle_state().expect("the power is on");
        assert!(is_whole(&world), "cut before {n}: {:?}", sees(&world));
        world.settle();
        world.settle();
        let end = ("1.0.0".to_owned(), "none to 1.0.0".to_owned());
        assert_eq!(sees(&world), end, "cut before {n}");
        assert_eq!(generations(&world), 1, "cut before {n}");
        if !is_cut {
            break;
        }
        n += 1;
    }
    println!("{n} cuts");
    assert!(n > 60, "only {n} operations");
}

/// Old or new, never between; and the one that belongs to what runs.
fn is_whole(world: &World) -> bool {
    let (rate, history) = sees(world);
    let boot = std::fs::read_to_string(world.path("rootfs.boot.json"));
    let is_new_image = boot.is_ok_and(|text| text.contains(r#""running":"b""#));
    match rate.as_str() {
        "factory" => !is_new_image && history.is_empty(),
        "1.0.0" => is_new_image && history == "none to 1.0.0",
        _ => false,
    }
}
