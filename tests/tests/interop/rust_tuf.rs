//! The `tuf` crate (rust-tuf 0.3.0-beta14) reads what it can of our tree.
//!
//! It cannot read: `spec_version` other than "1.0" and "1.0.0"; anything signed where a PEM key
//! stands in it (its canonical form escapes the newlines, so that no signature fits); any delegated
//! target (it finds the role and drops the result).

use ampoule_protocol::metadata::{RoleType, Targets};
use ampoule_tests::device::Device;
use ampoule_tests::sim::{RepositorySimulator, TestKey, Tree};
use futures_util::io::Cursor;
use tuf::client::{Client, Config};
use tuf::crypto::Ed25519PrivateKey;
use tuf::metadata::{RawSignedMetadata, RootMetadata, TargetPath};
use tuf::pouf::Pouf1;
use tuf::repo_builder::RepoBuilder;
use tuf::repository::FileSystemRepository;

use crate::peers::{self, IMAGE, TOP};

/// Refreshes from `tree` and downloads `targets`; gives the bytes back.
fn read(tree: &Tree, target: Option<&str>) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, bytes) in tree {
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        std::fs::write(file, bytes).expect("written");
    }
    let local_folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let root: RawSignedMetadata<Pouf1, RootMetadata> =
            RawSignedMetadata::new(tree["metadata/1.root.json"].clone());
        let remote = FileSystemRepository::<Pouf1>::new(folder.path());
        let local = FileSystemRepository::<Pouf1>::new(local_folder.path());
        let mut client = Client::with_trusted_root(Config::default(), &root, local, remote)
            .await
            .map_err(|error| error.to_string())?;
        client.update().await.map_err(|error| error.to_string())?;
        let Some(target) = target else {
            return Ok(Vec::new());
        };
        let path = TargetPath::new(target).map_err(|error| error.to_string())?;
        client
            .fetch_target_to_local(&path)
            .await
            .map_err(|error| error.to_string())?;
        Ok(std::fs::read(local_folder.path().join("targets").join(target)).expect("downloaded"))
    })
}

/// Our tree, with the one version of the specification that the crate reads and Ed25519 keys.
fn in_its_dialect() -> RepositorySimulator {
    let mut repo = peers::repository();
    let holders = [TestKey::ed25519("ada"), TestKey::ed25519("bob")];
    repo.set_keys(RoleType::Root, &holders, 2);
    for common in [
        &mut repo.root.common,
        &mut repo.timestamp.common,
        &mut repo.snapshot.common,
        &mut repo.targets.common,
    ] {
        common.spec_version = "1.0.0".into();
    }
    for role in repo.delegated.values_mut() {
        let role: &mut Targets = role;
        role.common.spec_version = "1.0.0".into();
    }
    repo.publish();
    repo
}

#[test]
fn it_downloads_a_top_level_target() {
    let repo = in_its_dialect();
    assert_eq!(
        read(&repo.tree, Some(TOP)).expect("readable"),
        b"Read me first."
    );
}

#[test]
fn it_follows_a_root_rotation() {
    let mut repo = in_its_dialect();
    peers::rotate_all(&mut repo);
    assert_eq!(
        read(&repo.tree, Some(TOP)).expect("readable"),
        b"Read me first."
    );
}

#[test]
fn it_refuses_the_specification_that_we_follow() {
    let refused = read(&peers::repository().tree, None).expect_err("it reads 1.0.34 by now");
    assert!(
        refused.contains("1.0.34") || refused.to_lowercase().contains("spec"),
        "{refused}"
    );
}

#[test]
fn it_counts_no_signature_where_a_pem_key_stands() {
    let mut repo = in_its_dialect();
    let holders = [
        TestKey::ed25519("ada"),
        TestKey::ed25519("bob"),
        TestKey::p256("cleo"),
    ];
    repo.set_keys(RoleType::Root, &holders, 2);
    repo.publish();
    let refused = read(&repo.tree, None).expect_err("it reads PEM keys by now");
    assert!(refused.contains("threshold not met: 0/2"), "{refused}");
}

#[test]
fn it_finds_no_delegated_target() {
    let refused = read(&in_its_dialect().tree, Some(IMAGE)).expect_err("it finds them by now");
    assert!(refused.to_lowercase().contains("not found"), "{refused}");
}

/// The same crate as a writer.
#[test]
fn what_it_publishes_is_trusted_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let key = Ed25519PrivateKey::pkcs8().and_then(|key| Ed25519PrivateKey::from_pkcs8(&key));
        let key = key.expect("a new key");
        let path = TargetPath::new("dir/firmware.bin").expect("a path");
        RepoBuilder::create(FileSystemRepository::<Pouf1>::new(folder.path()))
            .trusted_root_keys(&[&key])
            .trusted_targets_keys(&[&key])
            .trusted_snapshot_keys(&[&key])
            .trusted_timestamp_keys(&[&key])
            .stage_root()
            .expect("a root")
            .add_target(path, Cursor::new(b"by rust-tuf"))
            .await
            .expect("a target")
            .commit()
            .await
            .expect("a repository");
    });
    let tree = peers::read_tree(folder.path());
    let mut device = Device::new(&tree["metadata/1.root.json"]);
    let mut trusted = device.refresh(&tree, peers::now()).expect("readable");
    let bytes = device
        .download(&mut trusted, &tree, "dir/firmware.bin")
        .expect("found");
    assert_eq!(bytes, b"by rust-tuf");
}
