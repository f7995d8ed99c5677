//! The power fails between two metadata writes.
//!
//! Method: count the writes of a clean refresh, then cut before each of them in turn, at every
//! combination of what changed; power comes back and the device refreshes again, first against an
//! attacker who replays the old tree, then against the true one. The floor never falls, and the
//! device always gets to the end. The store is cut at whole files here; torn and unsynced writes
//! are the agent's own tests, on its real store.

use ampoule_protocol::metadata::RoleType;
use ampoule_tests::sim::RepositorySimulator;
use ampoule_tests::world::{Versions, World};

/// A repository with a rotated root and new versions of everything.
fn moved_on(repo: &mut RepositorySimulator) {
    for role in RoleType::ALL {
        repo.rotate(role);
    }
    repo.root.version += 1;
    repo.release();
    // The next root is signed by the new holders alone.
    repo.root.signers.truncate(1);
    repo.release_root();
    repo.release();
}

#[test]
fn between_any_two_writes() {
    let mut clean = World::refreshed();
    let old_tree = clean.repo.tree.clone();
    moved_on(&mut clean.repo);
    let start = clean.clone();
    clean.device.store.writes_left = Some(usize::MAX);
    clean.refresh().expect("sound");
    let writes = usize::MAX - clean.device.store.writes_left.expect("counted");
    assert_eq!(clean.trusted(), Versions::of(3, 3, 3, 3));
    assert_eq!(writes, 5, "two roots, timestamp, snapshot, targets");

    for cut in 0..writes {
        let mut world = start.clone();
        world.device.store.writes_left = Some(cut);
        assert_eq!(world.refusal(), "power-cut");
        world.device.store.writes_left = None;
        let at_cut = world.trusted();

        // The attacker has the old tree; whatever it gives, nothing falls.
        let mut fooled = world.clone();
        let _ = fooled.device.refresh(&old_tree, fooled.now);
        let after = Versions::trusted_by(&fooled.device);
        assert!(
            after.root >= at_cut.root,
            "cut before write {cut}: root fell"
        );
        if at_cut.root == Some(1) {
            assert_eq!(after, at_cut, "cut before write {cut}");
        }

        world
            .refresh()
            .unwrap_or_else(|e| panic!("cut before write {cut}: {}", e.text));
        assert_eq!(world.trusted(), clean.trusted(), "cut before write {cut}");
        assert_eq!(world.device.fingerprint(), clean.device.fingerprint());
    }
}

/// Without rotation: a timestamp that was stored bars the old one even where its snapshot was not.
#[test]
fn leaves_the_floor_that_was_written() {
    for cut in 0..=2 {
        let mut world = World::refreshed();
        let old_tree = world.repo.tree.clone();
        world.repo.release();
        world.device.store.writes_left = Some(cut);
        assert_eq!(world.refusal(), "power-cut");
        world.device.store.writes_left = None;
        let replay = world.device.refresh(&old_tree, world.now);
        if cut == 0 {
            replay.expect("nothing newer was ever stored");
        } else {
            assert_eq!(
                replay.expect_err("older than what was stored").code,
                "metadata-rollback"
            );
        }
        world.refresh().expect("the true tree");
        assert_eq!(world.trusted(), Versions::of(1, 2, 2, 2));
    }
}

/// A stored file that is damaged is no floor and no obstacle; the others still are.
#[test]
fn that_damages_a_file() {
    for file in ["timestamp.json", "snapshot.json", "targets.json"] {
        for damage in [b"".as_slice(), b"{", b"\0\0\0\0"] {
            let mut world = World::refreshed();
            world
                .device
                .store
                .files
                .insert(file.into(), damage.to_vec());
            world
                .refresh()
                .unwrap_or_else(|e| panic!("{file}: {}", e.text));
            assert_eq!(world.trusted(), Versions::of(1, 1, 1, 1), "{file}");
        }
    }
}
