//! Over a metered link an image that is longer than the device fetches whole comes by a delta or
//! not at all; without that limit it comes whole.
//!
//! Meant to catch: a limit that is not asked for a release without a delta; then "1.0.0" installs here.

use ampoule_protocol::release::Install;

use crate::repo::Item;
use crate::world::{World, noise};

#[test]
fn a_long_image_without_a_delta_waits_for_one() {
    let old = noise(0, 50_000);
    let mut new = old.clone();
    new[20_000] ^= 1;
    let mut world = World::new(&old);
    world.whole_bytes_max = Some(10_000);
    world.repo.release("1.0.0", 1, Install::Slot, &new);
    world.serve();
    let state = world.settle();
    assert_eq!(state.facts.floor.0, 0, "it was installed");
    assert_eq!(state.facts.passed[0].code, "metered");
    let fetched = |world: &World, part: &str| {
        let bends = world.bends.borrow();
        bends.asked.iter().any(|(path, _)| path.contains(part))
    };
    assert!(!fetched(&world, "1.0.0"), "bytes of it were fetched");

    let item = Item {
        base: Some(("0.9.0", &old)),
        ..Item::new("rootfs", Install::Slot, &new)
    };
    world.repo.release_of("1.1.0", 2, &[item]);
    world.serve();
    let state = world.settle();
    assert_eq!(state.facts.floor.0, 2, "{:?}", state.facts.passed);
    assert!(fetched(&world, ".delta"));
}
