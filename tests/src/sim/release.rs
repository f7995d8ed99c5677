//! A release of ours in the simulated repository.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::downgrade::Downgrade;
use ampoule_protocol::metadata::{DelegatedRole, RoleKeys, TargetFile, Trusts};
use ampoule_protocol::name::{ComponentName, HardwareId, ProductName};
use ampoule_protocol::release::{
    Blocks, Class, Component, FORMAT, FileRef, Install, Release, ReleaseVersion,
};
use ampoule_protocol::tree::BlockTree;
use ampoule_protocol::version::RollbackIndex;

use super::{RepositorySimulator, TestKey, role_name, target_path};

/// The smallest block there is, so that small images have several.
pub const BLOCK_LEN: u32 = 4096;

impl RepositorySimulator {
    /// The role of a product, for its paths alone, terminating: the release engineer and the
    /// safety officer both sign it.
    pub fn add_product(&mut self, product: &str) {
        let holders =
            ["engineer", "officer"].map(|holder| TestKey::ed25519(&format!("{product} {holder}")));
        let ids = holders.iter().map(|key| key.id.clone()).collect();
        let role = DelegatedRole {
            name: role_name(product),
            keys: RoleKeys::new(ids, 2),
            trusts: Trusts::Paths(vec![format!("{product}/*")]),
            terminating: true,
        };
        self.delegate_as("targets", role, &holders);
    }

    /// A release of one component, `rootfs`, into the role of its product.
    ///
    /// # Panics
    /// Where there is no such product, or the version is none.
    pub fn add_release(&mut self, product: &str, version: &str, index: u64, image: &[u8]) {
        let file = |name: &str| format!("{product}/{name}");
        let mut builder = BlockTree::builder(BLOCK_LEN).expect("a good block length");
        builder.push(image);
        let tree = builder.finish().expect("a small image");
        let artifact = self.add_file(product, &file(&format!("rootfs-{version}.img")), image);
        let leaves = tree.leaves_bytes();
        let leaves = self.add_file(product, &file(&format!("rootfs-{version}.leaves")), &leaves);
        let release = Release {
            format: FORMAT,
            product: ProductName::parse(product).expect("a product name"),
            version: ReleaseVersion::parse(version).expect("a version"),
            rollback_index: RollbackIndex(index),
            class: Class::Security,
            purpose: format!("Closes what {index} left open."),
            risk_if_not_applied: "It stays open.".into(),
            downtime_secs: 90,
            functions_unavailable: vec!["infusion".into()],
            regions: vec!["EU".into()],
            components: vec![Component {
                name: ComponentName::parse("rootfs").expect("a name"),
                hardware: vec![HardwareId::parse("pump-mk3").expect("a name")],
                install: Install::Slot,
                activation: ampoule_protocol::release::Activation::Restart,
                meta_data: None,
                requires: std::collections::BTreeMap::default(),
                artifact,
                blocks: Blocks {
                    block_len: BLOCK_LEN,
                    root: tree.root(),
                    leaves,
                },
                deltas: Vec::new(),
            }],
            sbom: None,
        };
        let custom = release.to_custom().expect("a good description");
        let text = format!("product = \"{product}\"\nversion = \"{version}\"\n");
        let path = release.path();
        self.add_delegated_target(product, path.as_str(), text.as_bytes());
        let role = self.delegated.get_mut(product).expect("a product");
        let described = role.targets.get_mut(&path).expect("just added");
        *described = described.clone().with_custom(custom);
    }

    /// A downgrade record, into the role of its product.
    ///
    /// # Panics
    /// Where there is no such product, or the record is beyond a bound.
    pub fn add_downgrade(&mut self, record: &Downgrade) {
        let (product, path) = (record.product.as_str(), record.path());
        self.add_delegated_target(product, path.as_str(), b"a record");
        let custom = record.to_custom().expect("a good record");
        let role = self.delegated.get_mut(product).expect("a product");
        let described = role.targets.get_mut(&path).expect("just added");
        *described = described.clone().with_custom(custom);
    }

    fn add_file(&mut self, product: &str, path: &str, content: &[u8]) -> FileRef {
        self.add_delegated_target(product, path, content);
        let TargetFile { length, .. } = self.delegated[product].targets[&target_path(path)];
        FileRef {
            path: target_path(path),
            length,
            sha256: Digest::of(content),
        }
    }
}
