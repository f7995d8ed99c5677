//! A disk that is full costs an update, and nothing else.

use ampoule_protocol::release::Install;

use crate::world::{World, noise};

/// Planted: without the look before, the download begins and ends in a full disk.
#[test]
fn a_disk_without_room_is_seen_before_the_first_byte() {
    let mut world = World::new(&noise(0, 5_000));
    let image = noise(1, 3 << 20);
    world.repo.release("1.0.0", 1, Install::Slot, &image);
    world.serve();
    world.bends.borrow_mut().room = Some(2 << 20);
    world.settle();
    let receipt = world.last_receipt();
    assert_eq!(
        (&receipt["outcome"], &receipt["code"]),
        (&"failed".into(), &"no-space".into())
    );
    let detail = receipt["detail"].as_str().expect("told");
    assert!(detail.contains("free some, it is tried again"), "{detail}");
    assert_eq!(
        world.bends.borrow().asked,
        [],
        "it was asked for all the same"
    );
    world.bends.borrow_mut().room = None;
    assert_eq!(world.settle().facts.floor.0, 1, "with room it installs");
}

#[test]
fn a_disk_that_fills_up_halfway_loses_nothing() {
    let mut world = World::new(&noise(0, 5_000));
    let image = noise(1, 1 << 20);
    world.repo.release("1.0.0", 1, Install::Slot, &image);
    world.serve();
    world.bends.borrow_mut().takes = Some(300_000);
    let state = world.settle();
    assert_eq!(world.last_receipt()["code"], "no-space");
    assert!(state.facts.refused.is_empty(), "a full disk is no verdict");
    let running = std::fs::read(world.path("rootfs.a")).expect("there");
    assert_eq!(running, noise(0, 5_000));
    world.bends.borrow_mut().takes = None;
    assert_eq!(world.settle().facts.floor.0, 1);
    let kept = world.bends.borrow();
    let kept = kept
        .notes
        .iter()
        .find(|note| note.ends_with("were there already"));
    assert_eq!(
        kept.map(String::as_str),
        Some("299008 of 1048576 bytes were there already"),
        "what was written is not written twice"
    );
}
