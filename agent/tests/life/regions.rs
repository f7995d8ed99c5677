//! A device that was not told where it is takes nothing that is cleared for some places alone.
//!
//! Planted: an unknown region taken for every region installs here.

use ampoule_protocol::release::Install;

use crate::world::{World, noise};

#[test]
fn a_release_for_some_regions_needs_a_region() {
    let mut world = World::new(&noise(0, 5_000));
    world.repo.regions = vec!["US".into(), "EU".into()];
    world
        .repo
        .release("1.0.0", 1, Install::Slot, &noise(1, 9_000));
    world.serve();
    let state = world.settle();
    assert_eq!(state.facts.floor.0, 0, "it was installed");
    let passed = &state.facts.passed[0];
    assert_eq!(
        (passed.code.as_str(), passed.why.as_str()),
        (
            "region-unknown",
            "it is cleared for US, EU alone, and this device was not told its \"region\""
        )
    );
    // The same device, told where it is.
    world.region = Some("JP".into());
    let state = world.settle();
    assert_eq!(state.facts.passed[0].code, "region");
    world.region = Some("EU".into());
    let state = world.settle();
    assert_eq!((state.facts.floor.0, state.facts.passed.len()), (1, 0));
}
