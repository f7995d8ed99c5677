//! Components that update modules install.
//!
//! Method: a module that is a script installs a text into a file, keeps a backup, and writes down
//! each state that it was called for. It is lived through well and badly, alone and beside a slot;
//! and with the power cut before and after each call and each operation on the disk.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use ampoule_agent::machine::Phase;
use ampoule_protocol::release::Install;

use crate::repo::Item;
use crate::several::live;
use crate::world::World;

/// Behaves well but for the state in `fails`. `$S` is the system that it changes.
const SCRIPT: &str = r#"#!/bin/sh
S="$(dirname "$0")"
case "$1" in
    SupportsRollback) cat "$S/rollback"; exit 0 ;;
    NeedsArtifactReboot) cat "$S/reboot"; exit 0 ;;
    ProvidePayloadFileSizes) exit 0 ;;
esac
echo "$1" >> "$S/log"
case "$1" in
    ArtifactInstall) cp "$S/system" "$2/tmp/backup"; cp "$2"/files/* "$S/system.new" && mv "$S/system.new" "$S/system" ;;
    ArtifactRollback) [ ! -f "$2/tmp/backup" ] || { cp "$2/tmp/backup" "$S/system.new" && mv "$S/system.new" "$S/system"; } ;;
esac
[ "$1" != "$(cat "$S/fails")" ]
"#;

fn module() -> Install {
    Install::parse("module:text").expect("a word")
}

fn put(world: &World, name: &str, text: &str) {
    std::fs::write(world.path(name), text).expect("writes");
}

fn read(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.path(name)).unwrap_or_default()
}

/// The states since the last look.
fn log(world: &World) -> Vec<String> {
    let log = read(world, "log").lines().map(str::to_owned).collect();
    put(world, "log", "");
    log
}

fn publish(world: &mut World, version: &str, index: u64, kinds: &[(&str, Install)]) {
    let items: Vec<Item<'_>> = kinds
        .iter()
        .map(|(name, install)| Item::new(name, install.clone(), version.as_bytes()))
        .collect();
    world.repo.release_of(version, index, &items);
    world.serve();
}

/// A device that runs 1.0.0 of these, and is offered 1.1.0.
fn world_of(kinds: &[(&str, Install)], reboot: &str) -> World {
    let mut world = World::of(kinds);
    put(&world, "text", SCRIPT);
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.path("text"), mode).expect("sets");
    for (name, text) in [
        ("reboot", reboot),
        ("rollback", "Yes"),
        ("fails", "none"),
        ("system", "factory"),
    ] {
        put(&world, name, text);
    }
    publish(&mut world, "1.0.0", 1, kinds);
    world.settle();
    assert_eq!(read(&world, "system"), "1.0.0");
    log(&world);
    publish(&mut world, "1.1.0", 2, kinds);
    world
}

fn world(reboot: &str) -> World {
    world_of(&[("text", module())], reboot)
}

const UNTIL_INSTALL: [&str; 2] = ["Download", "ArtifactInstall"];

#[test]
fn states_come_in_the_order_of_the_protocol() {
    for (reboot, more) in [
        ("No", vec![]),
        ("Yes", vec!["ArtifactReboot", "ArtifactVerifyReboot"]),
        ("Automatic", vec!["ArtifactVerifyReboot"]),
    ] {
        let world = world(reboot);
        let state = world.settle();
        let end = ["ArtifactCommit", "Cleanup"];
        let expected: Vec<_> = UNTIL_INSTALL.into_iter().chain(more).chain(end).collect();
        assert_eq!(log(&world), expected, "{reboot}");
        assert_eq!(read(&world, "system"), "1.1.0");
        assert_eq!(state.facts.floor.0, 2);
        assert!(state.facts.modules.is_empty());
        assert_eq!(world.last_receipt()["outcome"], "committed");
    }
}

#[test]
fn a_state_that_fails_takes_the_module_back() {
    for (reboot, fails, between) in [
        ("No", "ArtifactInstall", vec![]),
        ("Yes", "ArtifactReboot", vec!["ArtifactReboot"]),
        (
            "Yes",
            "ArtifactVerifyReboot",
            vec!["ArtifactReboot", "ArtifactVerifyReboot"],
        ),
        ("No", "ArtifactCommit", vec!["ArtifactCommit"]),
    ] {
        let world = world(reboot);
        put(&world, "fails", fails);
        let state = world.settle();
        let mut expected = UNTIL_INSTALL.to_vec();
        expected.extend(between);
        expected.push("ArtifactRollback");
        if reboot == "Yes" {
            expected.extend(["ArtifactRollbackReboot", "ArtifactVerifyRollbackReboot"]);
        }
        expected.extend(["ArtifactFailure", "Cleanup"]);
        assert_eq!(log(&world), expected, "{fails}");
        assert_eq!(read(&world, "system"), "1.0.0", "{fails}");
        assert_eq!(state.facts.floor.0, 1);
        assert_eq!(state.phase, Phase::Idle);
        assert_eq!(world.last_receipt()["code"], "module-failed");
        assert_eq!(world.last_receipt()["after"][0]["version"], "1.0.0");
    }
}

#[test]
fn only_cleanup_follows_a_download_that_fails() {
    let world = world("No");
    put(&world, "fails", "Download");
    world.settle();
    assert_eq!(log(&world), ["Download", "Cleanup"]);
    assert_eq!(world.last_receipt()["outcome"], "failed");
}

#[test]
fn a_failure_in_cleanup_changes_nothing() {
    let world = world("No");
    put(&world, "fails", "Cleanup");
    let state = world.settle();
    assert_eq!(world.last_receipt()["outcome"], "committed");
    assert_eq!(
        (read(&world, "system").as_str(), state.facts.floor.0),
        ("1.1.0", 2)
    );
    assert!(state.facts.modules.is_empty(), "it is not owed for ever");
}

#[test]
fn a_bad_verdict_takes_the_module_back_and_is_kept() {
    let world = world("Automatic");
    world.bends.borrow_mut().healthy = false;
    let state = world.settle();
    assert_eq!(
        log(&world),
        [
            "Download",
            "ArtifactInstall",
            "ArtifactVerifyReboot",
            "ArtifactRollback",
            "ArtifactVerifyRollbackReboot",
            "ArtifactFailure",
            "Cleanup"
        ]
    );
    assert_eq!(read(&world, "system"), "1.0.0");
    assert_eq!(state.facts.refused.len(), 1);
}

#[test]
fn nobody_knows_what_a_module_left_that_cannot_go_back() {
    let world = world("No");
    put(&world, "rollback", "No");
    put(&world, "fails", "ArtifactCommit");
    let state = world.settle();
    let states = log(&world);
    assert!(
        !states.contains(&"ArtifactRollback".to_owned()),
        "{states:?}"
    );
    assert_eq!(states.last().map(String::as_str), Some("Cleanup"));
    let receipt = world.last_receipt();
    assert_eq!(receipt["after"][0]["version"], serde_json::Value::Null);
    assert!(!state.facts.slots.contains_key(&world.places[0].component));
}

const PAIR: [(&str, Install); 1] = [("rootfs", Install::Slot)];

fn pair() -> Vec<(&'static str, Install)> {
    PAIR.into_iter().chain([("text", module())]).collect()
}

#[test]
fn a_module_beside_a_slot_goes_back_with_it() {
    let world = world_of(&pair(), "No");
    world.bends.borrow_mut().healthy = false;
    let state = world.settle();
    assert_eq!(read(&world, "system"), "1.0.0");
    assert_eq!(state.facts.floor.0, 1);
    assert_eq!(
        log(&world),
        [
            "Download",
            "ArtifactInstall",
            "ArtifactRollback",
            "ArtifactFailure",
            "Cleanup"
        ]
    );
}

#[test]
fn a_module_that_cannot_go_back_is_not_let_into_a_pair() {
    let world = world_of(&pair(), "No");
    put(&world, "rollback", "No");
    world.settle();
    assert_eq!(log(&world), ["Download", "Cleanup"]);
    assert_eq!(world.last_receipt()["code"], "module-no-rollback");
    assert_eq!(read(&world, "system"), "1.0.0");
}

/// Planted: a device that takes the boot of an armed slot for the trial of an update whose module
/// was never let loose commits half of it. Meant to catch: without the note before a call, a cut in
/// `ArtifactInstall` installs over its own half, and the backup is the new text.
#[test]
fn a_cut_before_any_operation_and_around_any_call_ends_well() {
    for (kinds, reboot) in [(vec![("text", module())], "Yes"), (pair(), "Automatic")] {
        let mut n = 0;
        loop {
            let world = world_of(&kinds, reboot);
            world.bends.borrow_mut().power = Some(n);
            let mut has_checked = false;
            for _ in 0..6 {
                world.boot();
                live(&world, &mut has_checked);
            }
            let is_cut = world.is_off();
            world.bends.borrow_mut().power = None;
            for _ in 0..4 {
                let mut has_checked = false;
                world.boot();
                live(&world, &mut has_checked);
                let system = read(&world, "system");
                assert!(
                    system == "1.0.0" || system == "1.1.0",
                    "cut {n}: \"{system}\""
                );
            }
            let state = world.settle();
            assert_eq!(
                read(&world, "system"),
                "1.1.0",
                "{reboot}, cut before {n}: {state:?}"
            );
            assert!(state.facts.modules.is_empty(), "cut before {n}");
            assert!(
                state.facts.refused.is_empty(),
                "cut before {n}: a cut is no verdict"
            );
            assert_in_order(&log(&world), n);
            assert!(!modules_folder(&world).exists(), "cut before {n}");
            if !is_cut {
                break;
            }
            n += 1;
        }
        println!("{reboot}, {} components: {n} cuts", kinds.len());
        assert!(n > 60, "only {n} operations");
    }
}

fn modules_folder(world: &World) -> PathBuf {
    world.path("data/modules/text")
}

/// Each life begins with `Download` and ends with `Cleanup`; nothing is installed twice in one,
/// and nothing is rolled back that was not installed.
fn assert_in_order(log: &[String], n: u64) {
    let mut lives: Vec<Vec<&str>> = Vec::new();
    for state in log {
        if state == "Download" || lives.is_empty() {
            // A download that was noted and never begun is owed its clean-up all the same.
            lives.push(Vec::new());
        }
        lives
            .last_mut()
            .expect("begins with a download")
            .push(state);
    }
    for life in &lives {
        let count = |word: &str| life.iter().filter(|state| **state == word).count();
        let installs = count("ArtifactInstall");
        assert!(installs <= 1, "cut before {n}: {life:?}");
        if installs == 0 && count("ArtifactRollback") > 0 {
            // The call was cut off before the module began.
            assert_eq!(count("ArtifactCommit"), 0, "cut before {n}: {life:?}");
        }
        if count("ArtifactCommit") > 0 && count("ArtifactRollback") == 0 {
            assert_eq!(life.last(), Some(&"Cleanup"), "cut before {n}: {life:?}");
        }
    }
    assert_eq!(
        log.last().map(String::as_str),
        Some("Cleanup"),
        "cut before {n}"
    );
}
