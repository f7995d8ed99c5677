//! Endless data: an answer longer than it may be.
//!
//! Method: each file in turn has white space behind it (which changes neither its JSON nor its
//! signatures) up to its bound and one byte more. The source sees the bound that the device asks
//! with; a reader stops there. Catches: a bound that is only checked after reading, a signed length
//! that is not used as the bound. The same over a real socket stands with the agent's HTTP client.

use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::RoleType;
use ampoule_tests::world::{Versions, World};

fn padded(world: &mut World, file: &str, len: u64) {
    let bytes = world
        .repo
        .tree
        .get_mut(&format!("metadata/{file}"))
        .expect("published");
    bytes.resize(usize::try_from(len).expect("a length in memory"), b' ');
}

#[test]
fn of_every_role() {
    let cases = [
        (
            RoleType::Root,
            "2.root.json",
            Lengths::DEFAULT.root,
            Versions::of(1, 1, 1, 1),
        ),
        (
            RoleType::Timestamp,
            "timestamp.json",
            Lengths::DEFAULT.timestamp,
            Versions::of(2, 1, 1, 1),
        ),
        (
            RoleType::Snapshot,
            "2.snapshot.json",
            Lengths::DEFAULT.snapshot,
            Versions::of(2, 2, 1, 1),
        ),
        (
            RoleType::Targets,
            "2.targets.json",
            Lengths::DEFAULT.targets,
            Versions::of(2, 2, 2, 1),
        ),
    ];
    for (role, file, bound, trusted) in cases {
        let mut world = World::refreshed();
        world.repo.root.version += 1;
        world.repo.release();
        padded(&mut world, file, bound + 1);
        assert_eq!(world.refusal(), "metadata-too-long", "{role}");
        assert_eq!(world.trusted(), trusted, "{role}");
        padded(&mut world, file, bound);
        world
            .refresh()
            .unwrap_or_else(|e| panic!("{role} of just the bound: {}", e.text));
    }
}

/// A signed length is the bound, far below the general one.
#[test]
fn beyond_the_signed_length() {
    for file in ["2.snapshot.json", "2.targets.json"] {
        let mut world = World::new();
        world.repo.describe_files = true;
        world.repo.release();
        let length = world.repo.tree[&format!("metadata/{file}")].len() as u64;
        padded(&mut world, file, length + 1);
        assert_eq!(world.refusal(), "metadata-too-long", "{file}");
    }
}

#[test]
fn of_a_target() {
    let mut world = World::new();
    world.repo.add_target("file", b"content");
    world.repo.release();
    let path = world.repo.content_path("file");
    world
        .repo
        .tree
        .insert(path.clone(), b"content and more".to_vec());
    assert_eq!(world.download_refusal("file"), "target-too-long");
    world.repo.tree.insert(path, b"conten".to_vec());
    assert_eq!(world.download_refusal("file"), "target-mismatch");
}

/// Nesting without end is refused as text, before it costs a stack.
#[test]
fn in_depth() {
    let mut world = World::refreshed();
    let mut deep = vec![b'['; 16_000];
    deep.push(b'1');
    world
        .repo
        .tree
        .insert("metadata/timestamp.json".into(), deep);
    assert_eq!(world.refusal(), "metadata-malformed");
    assert_eq!(world.trusted(), Versions::of(1, 1, 1, 1));
}

/// Signatures without end: each could cost a verification.
#[test]
fn in_signatures() {
    let mut world = World::refreshed();
    world.device.lengths.timestamp = 1 << 20;
    let signed = world.repo.timestamp.to_signed();
    let signatures = (0..2000)
        .map(|n| ampoule_tests::sim::signature(&format!("key {n}"), &[0; 64]))
        .collect();
    let file = ampoule_tests::sim::envelope(signatures, signed);
    world
        .repo
        .tree
        .insert("metadata/timestamp.json".into(), file);
    assert_eq!(world.refusal(), "metadata-malformed");
}
