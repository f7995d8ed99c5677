//! Unbounded roots: a thief of the root keys feeds the device roots for ever.
//!
//! Method: a source that makes the next root on demand. One refresh must end by itself; what it
//! stored counts, so that a device that honestly missed many roots gets there in a few refreshes.
//! Catches: a loop that only ends at "not found".

use ampoule_protocol::limits::ROOT_STEPS_MAX;
use ampoule_tests::device::Fetched;
use ampoule_tests::sim::RepositorySimulator;
use ampoule_tests::world::World;

/// Serves every root up to `last`, freshly signed, and the rest of the tree.
fn feeding(repo: &RepositorySimulator, last: u64) -> impl FnMut(&str, u64) -> Fetched + use<> {
    let mut repo = repo.clone();
    move |path: &str, _| {
        let stem = path
            .strip_prefix("metadata/")
            .and_then(|p| p.strip_suffix(".root.json"));
        if let Some(version) = stem.and_then(|stem| stem.parse::<u64>().ok()) {
            if version > last {
                return Fetched::NotFound;
            }
            repo.root.version = version;
            return Fetched::Bytes(repo.root.to_file());
        }
        repo.tree
            .get(path)
            .map_or(Fetched::NotFound, |bytes| Fetched::Bytes(bytes.clone()))
    }
}

#[test]
fn one_refresh_ends() {
    let mut world = World::new();
    let source = feeding(&world.repo, u64::MAX);
    let refused = world
        .device
        .refresh(source, world.now)
        .expect_err("this has no end");
    assert_eq!(refused.code, "root-chain-too-long");
    let bound = u64::from(ROOT_STEPS_MAX);
    assert_eq!(
        world.trusted().root,
        Some(1 + bound),
        "each step was stored"
    );
    assert!(world.device.requests.len() as u64 <= bound + 1);
}

#[test]
fn an_honest_long_chain_is_walked_in_several_refreshes() {
    let mut world = World::new();
    let last = 2 * u64::from(ROOT_STEPS_MAX) + 10;
    for _ in 0..2 {
        let source = feeding(&world.repo, last);
        let refused = world
            .device
            .refresh(source, world.now)
            .expect_err("too many for one");
        assert_eq!(refused.code, "root-chain-too-long");
    }
    let source = feeding(&world.repo, last);
    world
        .device
        .refresh(source, world.now)
        .expect("the rest of the chain");
    assert_eq!(world.trusted().root, Some(last));
}
