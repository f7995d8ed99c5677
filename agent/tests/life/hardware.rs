//! A release for another kind of device is passed over, whoever signed it.
//!
//! Catches: a choice that does not ask what a release fits.

use ampoule_protocol::release::Install;

use crate::world::{World, noise};

#[test]
fn a_release_for_other_hardware_is_passed_over() {
    let mut world = World::new(&noise(0, 5_000));
    world.repo.hardware = "pump-mk4".parse().expect("a name");
    world
        .repo
        .release("1.0.0", 1, Install::Slot, &noise(1, 9_000));
    world.serve();
    let state = world.settle();
    assert_eq!(state.facts.floor.0, 0, "it was installed");
    let passed = &state.facts.passed[0];
    assert_eq!(passed.code, "hardware");
    assert_eq!(passed.why, "nothing in it fits \"pump-mk3\"");
    // The same release, made for this device as well, is taken.
    world.repo.hardware = "pump-mk3".parse().expect("a name");
    world
        .repo
        .release("1.0.1", 2, Install::Slot, &noise(2, 9_000));
    world.serve();
    assert_eq!(world.settle().facts.floor.0, 2);
}
