//! The loop of a device that looks after itself.

use std::collections::BTreeSet;
use std::time::Duration;

use ampoule_agent::driver::End;

use crate::world::{World, noise};

fn ends(world: &World, after: usize) -> Vec<Duration> {
    {
        let mut bends = world.bends.borrow_mut();
        bends.slept.clear();
        bends.stops_after = Some(after);
    }
    world.boot();
    assert_eq!(world.driver().run().expect("runs"), End::Stopped);
    world.bends.borrow().slept.clone()
}

#[test]
fn polls_are_spread_by_a_tenth_either_way() {
    let world = World::new(&noise(0, 5_000));
    let slept = ends(&world, 20);
    assert_eq!(slept[0], Duration::ZERO, "the first look is at once");
    let waits: BTreeSet<Duration> = slept[1..].iter().copied().collect();
    let bound = Duration::from_secs(270)..=Duration::from_secs(330);
    assert!(waits.iter().all(|wait| bound.contains(wait)), "{waits:?}");
    assert!(waits.len() > 15, "the waits do not differ: {waits:?}");
}

#[test]
fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let world = World::new(&noise(0, 5_000));
    world.bends.borrow_mut().refuses = Some(7_000);
    let slept = ends(&world, 5);
    assert!(
        slept[1..]
            .iter()
            .all(|wait| *wait == Duration::from_secs(7_000)),
        "{slept:?}"
    );
    // Where it asks for less than the back-off, the back-off holds, and it doubles.
    world.bends.borrow_mut().refuses = Some(1);
    let slept = ends(&world, 7);
    assert!(
        slept[1] >= Duration::from_secs(80),
        "the fifth fault: {slept:?}"
    );
    assert!(slept[6] > slept[1] * 4, "{slept:?}");
}
