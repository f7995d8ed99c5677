//! The `tough` crate reads what it can of our tree.
//!
//! It cannot read: targets in folders under consistent snapshots (it asks for `HASH.dir/file`
//! where the specification has `dir/HASH.file`), and succinct bins.

use ampoule_tests::sim::Tree;
use tough::{FilesystemTransport, RepositoryLoader, TargetName};
use url::Url;

use crate::peers::{self, IMAGE, PRODUCT, TOP};

fn read(tree: &Tree, target: &str) -> Result<Option<Vec<u8>>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, bytes) in tree {
        let file = folder.path().join(path);
        std::fs::create_dir_all(file.parent().expect("a parent")).expect("made");
        std::fs::write(file, bytes).expect("written");
    }
    let url = |name: &str| Url::from_directory_path(folder.path().join(name)).expect("a path");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let root = &tree["metadata/1.root.json"];
        let repository = RepositoryLoader::new(root, url("metadata"), url("targets"))
            .transport(FilesystemTransport)
            .load()
            .await
            .map_err(|error| error.to_string())?;
        assert!(
            repository.delegated_role(PRODUCT).is_some(),
            "it loads the product's role"
        );
        let outdir = tempfile::tempdir().expect("a folder");
        let name = TargetName::new(target).map_err(|error| error.to_string())?;
        let saved = repository
            .save_target(&name, outdir.path(), tough::Prefix::None)
            .await;
        match saved {
            Ok(()) => Ok(std::fs::read(outdir.path().join(target)).ok()),
            Err(error) => Err(error.to_string()),
        }
    })
}

#[test]
fn it_downloads_a_top_level_target() {
    let repo = peers::repository();
    let bytes = read(&repo.tree, TOP).expect("readable").expect("saved");
    assert_eq!(bytes, b"Read me first.");
}

#[test]
fn it_follows_a_root_rotation() {
    let mut repo = peers::repository();
    peers::rotate_all(&mut repo);
    let bytes = read(&repo.tree, TOP).expect("readable").expect("saved");
    assert_eq!(bytes, b"Read me first.");
}

#[test]
fn it_looks_for_targets_in_folders_in_the_wrong_place() {
    let mut repo = peers::repository();
    read(&repo.tree, IMAGE).expect_err("it asks for dir/HASH.file by now");
    // Put there as well, it is the file that we signed.
    let image = peers::image();
    let digest = ampoule_protocol::digest::Digest::of(&image);
    repo.tree
        .insert(format!("targets/{digest}.{IMAGE}"), image.clone());
    assert_eq!(
        read(&repo.tree, IMAGE).expect("readable").expect("saved"),
        image
    );
}
