//! A delta that is cut in its middle goes on at the last finished window, in another process.

use ampoule_protocol::device::Via;
use ampoule_protocol::release::Install;

use ampoule_agent::machine::Phase;

use crate::repo::Item;
use crate::world::{World, noise};

const LEN: usize = 8 << 20;

fn is_patch(path: &str) -> bool {
    path.contains("rootfs-1.0.0.delta")
}

/// Planted: a patcher that begins anew after a restart asks for offset 0 here.
#[test]
fn a_cut_delta_goes_on_at_the_last_finished_window() {
    let old = noise(0, LEN);
    // Something new between the MiBs, and so much that the patch has several windows.
    let mut new = Vec::new();
    for (seed, piece) in (1..).zip(old.chunks(1 << 20)) {
        new.extend_from_slice(piece);
        new.extend_from_slice(&noise(seed, 384 << 10));
    }
    let mut world = World::new(&old);
    let item = Item {
        base: Some(("0.9.0", &old)),
        ..Item::new("rootfs", Install::Slot, &new)
    };
    world.repo.release_of("1.0.0", 1, &[item]);
    world.serve();
    let patch_len = world.repo.tree.iter();
    let patch_len = patch_len.filter(|(path, _)| is_patch(path));
    let patch_len = patch_len.map(|(_, patch)| patch.len() as u64).sum::<u64>();
    let cut_at = patch_len * 9 / 10;
    world.bends.borrow_mut().cut = Some((".delta", cut_at));
    world.boot();
    let mut driver = world.driver();
    driver.start().expect("starts");
    driver.check().expect("the network fails");
    let Phase::Filling(filling) = &driver.state().phase else {
        panic!("{:?}", driver.state().phase);
    };
    println!("durable {} of {}", filling.mark.done, new.len());
    drop(driver);
    let state = world.settle();
    assert_eq!(state.facts.floor.0, 1);
    let bends = world.bends.borrow();
    let asked = bends.asked.iter().filter(|(path, _)| is_patch(path));
    let offsets: Vec<u64> = asked.map(|(_, offset)| *offset).collect();
    let [0, resumed @ ..] = offsets.as_slice() else {
        panic!("{offsets:?}");
    };
    // It may read the map again, at the beginning, before it leaps.
    let leap = *resumed.last().expect("it was asked for again");
    println!("patch {patch_len}, cut after {cut_at}, went on from {resumed:?}");
    assert!(leap > patch_len / 4 && leap < cut_at, "{offsets:?}");
    let receipt = bends.receipts.last().expect("told");
    assert_eq!(receipt["via"], serde_json::json!(Via::Delta));
    let fetched = receipt["bytes_fetched"].as_u64().expect("a number");
    assert!(
        fetched >= patch_len && fetched < patch_len + cut_at,
        "{fetched} bytes of a patch of {patch_len}"
    );
}
