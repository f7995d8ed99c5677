//! For each key that may be stolen: the rotation that ends the thief's power, and devices that
//! were attacked before live on.

use std::collections::BTreeSet;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::metadata::RoleType;
use ampoule_tests::sim::{RepositorySimulator, TestKey};

use crate::attacker::{ATTACKS, Power, comes_to_it};
use crate::fleet::Fleet;

/// Names a new key for `role` in a new root, signed by the holders of root.
fn replace(repo: &mut RepositorySimulator, role: RoleType, name: &str) {
    let key = TestKey::ed25519(name);
    let signers = repo.root.signers.clone();
    repo.set_keys(role, std::slice::from_ref(&key), 1);
    repo.root.signers = signers;
    match role {
        RoleType::Targets => repo.targets.signers = vec![key],
        RoleType::Snapshot => repo.snapshot.signers = vec![key],
        RoleType::Timestamp => repo.timestamp.signers = vec![key],
        RoleType::Root => repo.root.signers = vec![key],
    }
}

/// The recovery for one power.
fn recover(fleet: &mut Fleet, power: Power) {
    let online = [RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
    match power {
        Power::Targets => replace(&mut fleet.image, RoleType::Targets, "targets again"),
        Power::Snapshot => replace(&mut fleet.image, RoleType::Snapshot, "snapshot again"),
        Power::Timestamp => replace(&mut fleet.image, RoleType::Timestamp, "timestamp again"),
        Power::Director => {
            for role in online {
                replace(&mut fleet.director, role, "director again");
            }
        }
        Power::RootShare => {
            let shares = ["root b", "root c", "root d"].map(TestKey::ed25519);
            let old = fleet.image.root.signers.clone();
            fleet.image.set_keys(RoleType::Root, &shares, 2);
            fleet.image.root.signers = old;
            fleet.image.root.signers.push(TestKey::ed25519("root d"));
        }
        // Machines and certificates are replaced; what they knew is replaced with them.
        Power::Server => {
            recover(fleet, Power::Timestamp);
            recover(fleet, Power::Director);
            return;
        }
        Power::TlsCa | Power::Network | Power::OldCopy => return,
    }
    let repo = if power == Power::Director {
        &mut fleet.director
    } else {
        &mut fleet.image
    };
    repo.root.version += 1;
    repo.release();
}

/// With everything but root, the thief ships what they like. After the drill for any one of the
/// keys that it takes, with all the others still stolen, they do not.
#[test]
fn replacing_any_one_key_ends_the_thiefs_releases() {
    let held = BTreeSet::from([
        Power::Targets,
        Power::Snapshot,
        Power::Timestamp,
        Power::Director,
        Power::TlsCa,
        Power::Network,
    ]);
    let (name, arbitrary) = ATTACKS[0];
    assert_eq!(name, "arbitrary software");
    let fleet = Fleet::new();
    assert!(comes_to_it(&fleet, &held, arbitrary), "the thief can");
    for power in [
        Power::Targets,
        Power::Snapshot,
        Power::Timestamp,
        Power::Director,
    ] {
        let mut fleet = Fleet::new();
        let stolen = stolen_before(&fleet);
        recover(&mut fleet, power);
        let updated = fleet.device.update(&fleet.served(), fleet.now);
        assert_eq!(
            updated,
            Ok(Some(Digest::of(b"release three"))),
            "{power:?}: honest devices go on"
        );
        let again = stolen.again(&fleet);
        assert!(!again, "{power:?} was replaced, and the thief still ships");
    }
}

/// What the thief signs with, as it was when it was stolen.
struct Stolen {
    image: RepositorySimulator,
    director: RepositorySimulator,
}

fn stolen_before(fleet: &Fleet) -> Stolen {
    Stolen {
        image: fleet.image.clone(),
        director: fleet.director.clone(),
    }
}

impl Stolen {
    /// Tries once more: the newest roots are public, the keys are those of before.
    fn again(&self, fleet: &Fleet) -> bool {
        let mut image = self.image.clone();
        let mallory = vec![TestKey::ed25519("mallory")];
        let keys = mallory.iter();
        let delegations = image.delegations("targets");
        for key in keys {
            delegations.keys.insert(key.id.clone(), key.object.clone());
        }
        if let ampoule_protocol::metadata::Listing::Roles(roles) = &mut delegations.roles {
            for role in roles {
                role.keys.keyids = vec![mallory[0].id.clone()];
                role.keys.threshold = 1;
            }
        }
        for role in image.delegated.values_mut() {
            role.signers.clone_from(&mallory);
        }
        image.add_release(crate::fleet::PRODUCT, "9.9.9", 99, b"evil");
        for _ in 0..3 {
            image.release();
        }
        let mut director = self.director.clone();
        director.targets.targets.clear();
        crate::fleet::offer(&mut director, &image, "9.9.9", crate::fleet::OWN);
        for _ in 0..3 {
            director.release();
        }
        let mut served = crate::fleet::Served {
            image: image.tree,
            director: director.tree,
        };
        for (served, honest) in [
            (&mut served.image, &fleet.image.tree),
            (&mut served.director, &fleet.director.tree),
        ] {
            let roots = honest
                .iter()
                .filter(|(name, _)| name.ends_with("root.json"));
            served.extend(roots.map(|(name, file)| (name.clone(), file.clone())));
        }
        let installed = fleet.device.clone().update(&served, fleet.now);
        installed.is_ok_and(|image| image == Some(Digest::of(b"evil")))
    }
}

/// The server was stolen: its keys drove both timestamps far ahead. New keys bring every device
/// back, since what the old ones vouched for is forgotten with them.
#[test]
fn a_stolen_server_is_left_behind() {
    let mut fleet = Fleet::new();
    let mut ahead = (fleet.image.clone(), fleet.director.clone());
    ahead.0.timestamp.version = 1 << 50;
    ahead.0.publish_timestamp();
    ahead.1.timestamp.version = 1 << 50;
    ahead.1.publish_timestamp();
    let driven = crate::fleet::Served {
        image: ahead.0.tree,
        director: ahead.1.tree,
    };
    fleet
        .device
        .update(&driven, fleet.now)
        .expect("it is signed");
    let refused = fleet
        .device
        .update(&fleet.served(), fleet.now)
        .expect_err("it looks old");
    assert_eq!(refused.code, "metadata-rollback");
    recover(&mut fleet, Power::Server);
    let updated = fleet.device.update(&fleet.served(), fleet.now);
    assert_eq!(updated, Ok(Some(Digest::of(b"release three"))));
}

/// One share of root was stolen: the other two replace it, and devices follow.
#[test]
fn a_stolen_root_share_is_replaced() {
    let mut fleet = Fleet::new();
    recover(&mut fleet, Power::RootShare);
    let updated = fleet.device.update(&fleet.served(), fleet.now);
    assert_eq!(updated, Ok(Some(Digest::of(b"release three"))));
    // The old share and any one of the others are two of the old three, and no threshold now.
    let mut forged = fleet.image.clone();
    forged.root.signers = ["root a", "root b"].map(TestKey::ed25519).to_vec();
    forged.release_root();
    let served = crate::fleet::Served {
        image: forged.tree,
        director: fleet.director.tree.clone(),
    };
    let refused = fleet
        .device
        .update(&served, fleet.now)
        .expect_err("one of two");
    assert_eq!(refused.code, "metadata-unsigned");
}
