//! The signer works on machines without a network, so nothing that speaks one may come into its
//! tree, by whatever way.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand, PackageId};

/// Crates that open sockets, or that exist for crates that do.
const NETWORK: [&str; 22] = [
    "tokio",
    "hyper",
    "hyper-util",
    "reqwest",
    "ureq",
    "ureq-proto",
    "rustls",
    "native-tls",
    "openssl",
    "mio",
    "socket2",
    "http",
    "httparse",
    "h2",
    "quinn",
    "curl",
    "async-std",
    "smol",
    "hickory-resolver",
    "trust-dns-resolver",
    "tungstenite",
    "webpki",
];

#[test]
fn no_network_crate_is_in_the_tree_of_the_signer() {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata");
    let resolve = metadata.resolve.as_ref().expect("a resolved tree");
    let nodes: BTreeMap<&PackageId, _> = resolve.nodes.iter().map(|n| (&n.id, n)).collect();
    let named = |id: &PackageId| metadata[id].name.to_string();
    let signer = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "ampoule-signer")
        .expect("this crate");
    let mut seen = BTreeSet::new();
    let mut open = vec![(&signer.id, vec!["ampoule-signer".to_owned()])];
    while let Some((id, way)) = open.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let name = named(id);
        assert!(
            !NETWORK.contains(&name.as_str()),
            "{name} comes in by {}",
            way.join(" -> ")
        );
        for dependency in &nodes[id].deps {
            let built_in = dependency
                .dep_kinds
                .iter()
                .any(|kind| matches!(kind.kind, DependencyKind::Normal | DependencyKind::Build));
            if built_in {
                let mut way = way.clone();
                way.push(named(&dependency.pkg));
                open.push((&dependency.pkg, way));
            }
        }
    }
    assert!(seen.len() > 20, "the walk saw {} crates only", seen.len());
}
