//! Delegations bent: cycles, crossings, floods, and trust that leaks from one parent to another.
//!
//! Method: graphs of roles, each asked for one path; the requests show the order of the walk.
//! Catches: a walk without an end, trust in a role that follows its name instead of its delegator,
//! a target believed outside the paths it was delegated for, a terminating role passed over.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::limits::DELEGATED_ROLES_MAX;
use ampoule_protocol::metadata::{DelegatedRole, RoleKeys, Trusts};
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_tests::sim::TestKey;
use ampoule_tests::world::World;

/// The delegated roles that were asked for, in order.
fn walked(world: &World) -> Vec<String> {
    let roles = world.device.requests.iter().filter_map(|file| {
        let stem = file.strip_suffix(".json")?.split_once('.')?.1;
        (!["root", "snapshot", "targets"].contains(&stem)).then(|| stem.to_owned())
    });
    roles.collect()
}

#[test]
fn in_a_circle() {
    let mut world = World::new();
    world.repo.delegate("targets", "a", &["*"], false);
    world.repo.delegate("a", "b", &["*"], false);
    let back = world.repo.delegated["a"].signers.clone();
    let role = DelegatedRole {
        name: RoleName::parse("a").expect("a name"),
        keys: RoleKeys::new(vec![back[0].id.clone()], 1),
        trusts: Trusts::Paths(vec!["*".into()]),
        terminating: false,
    };
    world.repo.delegate_as("b", role, &back);
    world
        .repo
        .delegated
        .get_mut("a")
        .expect("a")
        .signers
        .truncate(1);
    world.repo.release();
    assert_eq!(world.download_refusal("nowhere"), "target-unknown");
    assert_eq!(walked(&world), ["a", "b"]);
}

#[test]
fn without_end() {
    let mut world = World::new();
    let mut parent = "targets".to_owned();
    for n in 0..=DELEGATED_ROLES_MAX {
        let name = format!("r{n}");
        world.repo.delegate(&parent, &name, &["*"], false);
        parent = name;
    }
    world.repo.add_delegated_target(&parent, "deep", b"content");
    world.repo.release();
    assert_eq!(world.download_refusal("deep"), "too-many-roles");
    assert_eq!(walked(&world).len(), DELEGATED_ROLES_MAX);
}

#[test]
fn as_deep_as_allowed() {
    let mut world = World::new();
    let mut parent = "targets".to_owned();
    for n in 0..DELEGATED_ROLES_MAX {
        let name = format!("r{n}");
        world.repo.delegate(&parent, &name, &["*"], false);
        parent = name;
    }
    world.repo.add_delegated_target(&parent, "deep", b"content");
    world.repo.release();
    assert_eq!(
        world.download("deep").expect("the last role allowed"),
        b"content"
    );
}

/// Preorder, depth first, in the order of the delegator's list.
#[test]
fn are_walked_in_the_order_of_their_delegators() {
    let mut world = World::new();
    for (parent, name) in [
        ("targets", "a"),
        ("targets", "d"),
        ("a", "b"),
        ("a", "c"),
        ("d", "e"),
    ] {
        world.repo.delegate(parent, name, &["*"], false);
    }
    world.repo.release();
    assert_eq!(world.download_refusal("nowhere"), "target-unknown");
    assert_eq!(walked(&world), ["a", "b", "c", "d", "e"]);
}

/// The first role that has the target wins, so that a later one cannot replace it.
#[test]
fn the_first_in_order_describes_the_target() {
    let mut world = World::new();
    world.repo.delegate("targets", "first", &["*"], false);
    world.repo.delegate("targets", "second", &["*"], false);
    world
        .repo
        .add_delegated_target("second", "file", b"by the second");
    world
        .repo
        .add_delegated_target("first", "file", b"by the first");
    world.repo.release();
    assert_eq!(
        world.download("file").expect("described twice"),
        b"by the first"
    );
    assert_eq!(walked(&world), ["first"]);
}

#[test]
fn a_terminating_one_ends_the_search() {
    let mut world = World::new();
    world.repo.delegate("targets", "final", &["pump/*"], true);
    world.repo.delegate("final", "child", &["pump/*"], false);
    world
        .repo
        .delegate("targets", "later", &["*", "pump/*"], false);
    world
        .repo
        .add_delegated_target("later", "pump/a", b"by a role that must not be asked");
    world
        .repo
        .add_delegated_target("later", "other", b"content");
    world.repo.release();
    assert_eq!(world.download_refusal("pump/a"), "target-unknown");
    assert_eq!(walked(&world), ["final", "child"]);
    assert_eq!(
        world
            .download("other")
            .expect("not covered by the terminating role"),
        b"content"
    );
}

/// Below a role that has siblings, too.
#[test]
fn a_terminating_one_further_down_ends_the_search() {
    let mut world = World::new();
    world.repo.delegate("targets", "first", &["pump/*"], false);
    world.repo.delegate("first", "final", &["pump/*"], true);
    world.repo.delegate("targets", "later", &["pump/*"], false);
    world
        .repo
        .add_delegated_target("later", "pump/a", b"by a role that must not be asked");
    world.repo.release();
    assert_eq!(world.download_refusal("pump/a"), "target-unknown");
    assert_eq!(walked(&world), ["first", "final"]);
}

/// A role describes a target that lies outside what it was trusted for.
#[test]
fn a_target_outside_its_paths_is_not_believed() {
    let mut world = World::new();
    world.repo.delegate("targets", "pump", &["pump/*"], false);
    world
        .repo
        .add_delegated_target("pump", "monitor/a", b"not yours");
    world
        .repo
        .add_delegated_target("pump", "pump/deep/a", b"not yours either");
    world.repo.release();
    assert_eq!(world.download_refusal("monitor/a"), "target-unknown");
    assert_eq!(world.download_refusal("pump/deep/a"), "target-unknown");
    assert!(walked(&world).is_empty());
}

/// A child is trusted for no more than its parent was.
#[test]
fn a_child_inherits_no_more_than_its_parent_has() {
    let mut world = World::new();
    world.repo.delegate("targets", "pump", &["pump/*"], false);
    world.repo.delegate("pump", "greedy", &["*", "*/*"], false);
    world
        .repo
        .add_delegated_target("greedy", "monitor/a", b"not yours");
    world.repo.release();
    assert_eq!(world.download_refusal("monitor/a"), "target-unknown");
}

/// One role name, two delegators with different keys: what one vouches for says nothing to the
/// other, not even in one run with the file already in the store.
#[test]
fn trust_in_a_role_belongs_to_its_delegator() {
    let mut world = World::new();
    for (parent, paths) in [("team-a", "team-a/*"), ("team-b", "team-b/*")] {
        world.repo.delegate("targets", parent, &[paths], false);
        let key = TestKey::ed25519(&format!("release key of {parent}"));
        let role = DelegatedRole {
            name: RoleName::parse("release").expect("a name"),
            keys: RoleKeys::new(vec![key.id.clone()], 1),
            trusts: Trusts::Paths(vec![paths.into()]),
            terminating: false,
        };
        world.repo.delegate_as(parent, role, &[key]);
    }
    // Only the key that team A named signs.
    world
        .repo
        .delegated
        .get_mut("release")
        .expect("release")
        .signers
        .truncate(1);
    world
        .repo
        .add_delegated_target("release", "team-a/x", b"for a");
    world
        .repo
        .add_delegated_target("release", "team-b/x", b"for b");
    world.repo.release();
    let mut trusted = world.refresh().expect("sound");
    let a = world
        .device
        .download(&mut trusted, &world.repo.tree, "team-a/x");
    assert_eq!(a.expect("team A named this key"), b"for a");
    let b = world
        .device
        .download(&mut trusted, &world.repo.tree, "team-b/x");
    assert_eq!(b.expect_err("team B did not").code, "metadata-unsigned");
}

#[test]
fn hash_prefixes() {
    let mut world = World::new();
    let hash = Digest::of(b"file").to_string();
    for (name, prefix) in [("wrong", "zz"), ("other", "0000"), ("right", &hash[..3])] {
        let key = TestKey::ed25519(name);
        let role = DelegatedRole {
            name: RoleName::parse(name).expect("a name"),
            keys: RoleKeys::new(vec![key.id.clone()], 1),
            trusts: Trusts::HashPrefixes(vec![prefix.into()]),
            terminating: false,
        };
        world.repo.delegate_as("targets", role, &[key]);
        world
            .repo
            .add_delegated_target(name, "file", name.as_bytes());
    }
    world.repo.release();
    assert_eq!(
        world.download("file").expect("its hash begins so"),
        b"right"
    );
    assert_eq!(walked(&world), ["right"]);
}

/// TAP 15: one bin by the first bits of the hash, and no other, however generous it is.
#[test]
fn succinct_bins() {
    for bits in [1, 4, 5, 8] {
        let mut world = World::new();
        let bins = world.repo.delegate_to_bins(bits, "bin");
        let names: Vec<String> = world.repo.delegated.keys().cloned().collect();
        for bin in &names {
            // Every bin claims the file; only the right one is asked.
            world.repo.add_delegated_target(bin, "file", b"content");
        }
        world.repo.release();
        assert_eq!(world.download("file").expect("one bin has it"), b"content");
        let right = bins.bin_of(&TargetPath::parse("file").expect("a path"));
        assert_eq!(walked(&world), [right.to_string()], "{bits} bits");
    }
}

#[test]
fn succinct_bins_that_nobody_signed() {
    let mut world = World::new();
    let bins = world.repo.delegate_to_bins(2, "bin");
    let bin = bins
        .bin_of(&TargetPath::parse("file").expect("a path"))
        .to_string();
    world.repo.add_delegated_target(&bin, "file", b"content");
    world.repo.delegated.get_mut(&bin).expect("a bin").signers = vec![TestKey::ed25519("mallory")];
    world.repo.release();
    assert_eq!(world.download_refusal("file"), "metadata-unsigned");
    assert!(world.trusted().delegated.is_empty());
}

/// 0, 33 and huge numbers of bits are refused as text, before they cost anything.
#[test]
fn succinct_bins_without_measure() {
    for bits in [0, 33, u32::MAX] {
        let mut world = World::new();
        let bins = world.repo.delegate_to_bins(1, "bin");
        world.repo.delegations("targets").roles =
            ampoule_protocol::metadata::Listing::Bins(ampoule_protocol::metadata::SuccinctBins {
                bit_length: bits,
                ..bins
            });
        world.repo.release();
        assert_eq!(world.refusal(), "metadata-malformed", "{bits} bits");
    }
}

/// A delegated role that takes the name of a top-level one would overwrite it in the store.
#[test]
fn a_role_named_like_a_top_level_one() {
    for name in ["root", "timestamp", "snapshot", "targets"] {
        let mut world = World::new();
        world.repo.delegate("targets", "decoy", &["*"], false);
        let ampoule_protocol::metadata::Listing::Roles(roles) =
            &mut world.repo.delegations("targets").roles
        else {
            panic!("roles are listed")
        };
        roles[0].name = RoleName::parse(name).expect("a name");
        world.repo.release();
        assert_eq!(world.refusal(), "metadata-malformed", "{name}");
        assert_eq!(world.trusted().targets, None, "{name}");
    }
}
