//! Several components in one release: all of them or none, in one activation.
//!
//! Method: a slot, a tree and a file in one release. It is lived through whole, with a bad trial,
//! with a second component that is not what was signed, and with the power cut before each
//! operation on the disk. After each boot the three are of one release.

use std::path::Path;

use ampoule_agent::driver::Rest;
use ampoule_protocol::release::Install;

use crate::repo::Item;
use crate::world::World;

const KINDS: [(&str, Install); 3] = [
    ("rootfs", Install::Slot),
    ("app", Install::Tree),
    ("library", Install::File),
];

pub(crate) fn archive(text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o644);
    let added = builder.append_data(&mut header, "version", text.as_bytes());
    added.expect("in memory");
    builder.into_inner().expect("in memory")
}

fn publish(world: &mut World, version: &str, index: u64) {
    let tree = archive(version);
    let items = [
        Item::new("rootfs", Install::Slot, version.as_bytes()),
        Item::new("app", Install::Tree, &tree),
        Item::new("library", Install::File, version.as_bytes()),
    ];
    world.repo.release_of(version, index, &items);
    world.serve();
}

/// A device that runs 1.0.0, and is offered 1.1.0.
fn world() -> World {
    let mut world = World::of(&KINDS);
    publish(&mut world, "1.0.0", 1);
    world.settle();
    assert_eq!(runs(&world), ["1.0.0"; 3]);
    publish(&mut world, "1.1.0", 2);
    world
}

/// What programs see of the three, after the loader made its choice.
fn runs(world: &World) -> [String; 3] {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let boot = read(&world.path("rootfs.boot.json"));
    let boot: serde_json::Value = serde_json::from_str(&boot).unwrap_or_default();
    let slot = boot["running"].as_str().unwrap_or("a");
    [
        read(&world.path(&format!("rootfs.{slot}"))),
        read(&world.path("app/current/version")),
        read(&world.path("library")),
    ]
}

#[test]
fn a_slot_a_tree_and_a_file_are_committed_with_one_receipt() {
    let world = world();
    let before = world.bends.borrow().receipts.len();
    let state = world.settle();
    assert_eq!(runs(&world), ["1.1.0"; 3]);
    assert_eq!(state.facts.floor.0, 2);
    let receipts = world.bends.borrow().receipts.clone();
    assert_eq!(receipts.len(), before + 1);
    let names = receipts[before]["after"].as_array().expect("a list");
    let names: Vec<_> = names.iter().map(|image| image["name"].as_str()).collect();
    assert_eq!(names, [Some("rootfs"), Some("app"), Some("library")]);
}

#[test]
fn a_bad_trial_takes_all_three_back() {
    let world = world();
    world.bends.borrow_mut().healthy = false;
    let state = world.settle();
    assert_eq!(runs(&world), ["1.0.0"; 3]);
    assert_eq!((state.facts.floor.0, state.facts.refused.len()), (1, 1));
}

#[test]
fn a_second_that_is_not_what_was_signed_undoes_the_first() {
    let world = world();
    let mut bends = world.bends.borrow_mut();
    let image = bends
        .tree
        .iter_mut()
        .find(|(path, _)| path.contains("app-1.1.0.img"));
    image.expect("published").1[0] ^= 1;
    drop(bends);
    let state = world.settle();
    assert_eq!(runs(&world), ["1.0.0"; 3]);
    assert_eq!(state.facts.floor.0, 1);
    assert_eq!(world.last_receipt()["code"], "blocks-mismatch");
    publish_again(&world);
    world.settle();
    assert_eq!(runs(&world), ["1.1.0"; 3], "mended, it installs");
}

fn publish_again(world: &World) {
    world.serve();
}

/// One process after a boot, until it rests, restarts or dies.
pub(crate) fn live(world: &World, has_checked: &mut bool) {
    let mut driver = world.driver_or_dead();
    let Some(driver) = &mut driver else { return };
    let mut rest = driver.start();
    for _ in 0..40 {
        rest = match rest {
            Ok(Rest::Idle) if !*has_checked => {
                *has_checked = true;
                driver.check()
            }
            Ok(Rest::Wait(_)) if !world.is_off() => driver.tick(),
            _ => return,
        };
    }
}

/// Planted: with each component armed for itself, a cut between two of them boots a mixture.
#[test]
fn a_cut_before_any_operation_never_boots_a_mixture() {
    let (mut n, mut states) = (0, 0);
    loop {
        let world = world();
        world.bends.borrow_mut().power = Some(n);
        let mut has_checked = false;
        for _ in 0..6 {
            world.boot();
            live(&world, &mut has_checked);
        }
        let is_cut = world.is_off();
        world.bends.borrow_mut().power = None;
        let mut has_checked = false;
        for _ in 0..6 {
            world.boot();
            let runs = runs(&world);
            states += 1;
            assert!(
                runs.iter().all(|one| *one == runs[0]),
                "cut before {n}: {runs:?}"
            );
            live(&world, &mut has_checked);
        }
        world.settle();
        assert_eq!(runs(&world), ["1.1.0"; 3], "cut before {n}");
        if !is_cut {
            break;
        }
        n += 1;
    }
    println!("{n} cuts, {states} boots, no mixture");
    assert!(n > 100, "only {n} operations");
}
