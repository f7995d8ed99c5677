//! A receipt says what was asked and what was answered.

use ampoule_protocol::release::Install;

use crate::world::{World, noise};

#[test]
fn a_receipt_names_gates_health_commands_bake_time_and_attempts() {
    let mut world = World::new(&noise(0, 5_000));
    world
        .repo
        .release("1.0.0", 1, Install::Slot, &noise(1, 9_000));
    world.serve();
    world.settle();
    let receipt = world.last_receipt();
    assert_eq!(receipt["outcome"], "committed");
    assert_eq!(receipt["gates"][0]["name"], "therapy");
    assert_eq!(receipt["gates"][0]["passed"], true);
    assert_eq!(receipt["health"][0]["name"], "selftest --quick");
    assert_eq!(receipt["health"][0]["passed"], true);
    assert_eq!(receipt["health"][1]["name"], "trial");
    assert_eq!(receipt["bake_secs"], 30);
    assert_eq!(receipt["attempts"], 1);
    // And of one that came back.
    world
        .repo
        .release("1.1.0", 2, Install::Slot, &noise(2, 9_000));
    world.serve();
    world.bends.borrow_mut().healthy = false;
    world.settle();
    let receipt = world.last_receipt();
    assert_eq!(receipt["outcome"], "reverted");
    assert_eq!(receipt["health"][0]["passed"], false);
    assert_eq!(receipt["health"][1]["detail"], "it is ill");
}
