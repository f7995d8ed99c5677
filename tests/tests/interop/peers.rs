//! What all peers are shown: one repository with a bit of everything, by the real clock.

use std::path::Path;
use std::time::SystemTime;

use ampoule_protocol::metadata::RoleType;
use ampoule_protocol::time::UtcTime;
use ampoule_tests::sim::{RepositorySimulator, TestKey, Tree};

/// A role of a product, and a target in a folder.
pub(crate) const PRODUCT: &str = "infusion-pump";
/// Of the product's role.
pub(crate) const IMAGE: &str = "infusion-pump/rootfs-2.4.1.img";
/// Of the top-level targets, in no folder.
pub(crate) const TOP: &str = "notice.txt";

/// The content of [`IMAGE`].
pub(crate) fn image() -> Vec<u8> {
    (0..10_000_u32).flat_map(u32::to_le_bytes).collect()
}

pub(crate) fn now() -> UtcTime {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("after 1970");
    UtcTime::from_unix(i64::try_from(now.as_secs()).expect("seconds"))
}

/// Root 2-of-3 with an ECDSA key among Ed25519 ones, lengths and digests everywhere, a product
/// role 2-of-2 with a release of ours, a target at the top; fresh for a day.
pub(crate) fn repository() -> RepositorySimulator {
    let mut repo = RepositorySimulator::new();
    let holders = [
        TestKey::ed25519("ada"),
        TestKey::p256("bob"),
        TestKey::ed25519("cleo"),
    ];
    repo.set_keys(RoleType::Root, &holders, 2);
    repo.describe_files = true;
    repo.add_product(PRODUCT);
    repo.add_release(PRODUCT, "2.4.1", 17, &image());
    repo.add_target(TOP, b"Read me first.");
    repo.expire_at(now().plus_secs(86_400));
    repo.timestamp.signed_at = Some(now());
    repo.publish();
    repo
}

/// New keys for every role, signed by the old holders too, and new versions of everything.
pub(crate) fn rotate_all(repo: &mut RepositorySimulator) {
    for role in RoleType::ALL {
        repo.rotate(role);
    }
    repo.root.version += 1;
    repo.release();
}

/// The files below `folder`.
pub(crate) fn read_tree(folder: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(here) = folders.pop() {
        for entry in std::fs::read_dir(&here).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below the folder");
                tree.insert(
                    name.to_str().expect("UTF-8").to_owned(),
                    std::fs::read(&path).expect("a file"),
                );
            }
        }
    }
    tree
}
