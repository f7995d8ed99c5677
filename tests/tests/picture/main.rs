//! The dependency picture of the house stays true.
//!
//! ```text
//!   tests  examples  fuzz  xtask           may use everything; nothing uses them
//!   -----------------------------------
//!   signer         server         agent    never use one another
//!     |   \           |           /   |
//!     |    +------ protocol ------+    |   uses nothing of ours
//!     |                                |
//!     +------------- delta ------------+   uses nothing of ours
//! ```
//!
//! Method: `cargo metadata` gives the edges between our own packages, `cargo tree` what each of
//! them pulls in when built alone (the metadata's resolve unites the features of all members, so
//! it would show the server's crates in the agent). The rules are functions over names; planted
//! edges show that they can fail.

mod rules;
mod threats;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use cargo_metadata::{DependencyKind, MetadataCommand};
use rules::{Edge, Kind};

fn workspace_root() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .expect("tests/ lies in the workspace")
        .to_owned()
}

/// Edges between our own packages, by short name (`ampoule-` left off).
fn own_edges() -> Vec<Edge> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace_root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    let names: BTreeSet<String> = metadata
        .packages
        .iter()
        .map(|package| package.name.to_string())
        .collect();
    let mut edges = Vec::new();
    for package in &metadata.packages {
        for dependency in package
            .dependencies
            .iter()
            .filter(|d| names.contains(&d.name))
        {
            let kind = match dependency.kind {
                DependencyKind::Development => Kind::Dev,
                _ => Kind::Normal,
            };
            edges.push(Edge::new(&package.name, &dependency.name, kind));
        }
    }
    edges
}

/// Names of all crates that `package` links when built alone.
fn tree(package: &str) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
        ])
        .args([
            "--format",
            "{p}",
            "--target",
            "x86_64-unknown-linux-gnu",
            "--package",
            package,
        ])
        .current_dir(workspace_root())
        .output()
        .expect("cargo tree runs");
    assert!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("cargo tree writes UTF-8");
    text.lines()
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_crates_use_each_other_as_drawn() {
    let edges = own_edges();
    assert!(edges.contains(&Edge::new(
        "ampoule-agent",
        "ampoule-protocol",
        Kind::Normal
    )));
    assert_eq!(rules::picture_faults(&edges), Vec::<String>::new());
}

#[test]
fn a_planted_edge_is_seen() {
    for (from, to, kind) in [
        ("ampoule-agent", "ampoule-server", Kind::Normal),
        ("ampoule-signer", "ampoule-agent", Kind::Dev),
        ("ampoule-protocol", "ampoule-delta", Kind::Normal),
        ("ampoule-delta", "ampoule-protocol", Kind::Dev),
        ("ampoule-server", "ampoule-tests", Kind::Normal),
        ("ampoule-server", "ampoule-delta", Kind::Normal),
        ("ampoule-agent", "xtask", Kind::Normal),
        ("ampoule-agent", "ampoule-newcomer", Kind::Normal),
    ] {
        let edge = Edge::new(from, to, kind);
        assert_eq!(
            rules::picture_faults(&[edge]).len(),
            1,
            "{from} -> {to} went unseen"
        );
    }
}

#[test]
fn the_signer_links_no_network() {
    assert_eq!(
        rules::network_in(&tree("ampoule-signer")),
        Vec::<String>::new()
    );
}

#[test]
fn the_agent_links_no_async_runtime() {
    assert_eq!(
        rules::runtimes_in(&tree("ampoule-agent")),
        Vec::<String>::new()
    );
}

#[test]
fn protocol_links_neither_network_nor_runtime_nor_clock() {
    let tree = tree("ampoule-protocol");
    assert_eq!(rules::network_in(&tree), Vec::<String>::new());
    assert_eq!(rules::runtimes_in(&tree), Vec::<String>::new());
    let lib = std::fs::read_to_string(workspace_root().join("protocol/src/lib.rs"))
        .expect("protocol has a lib.rs");
    assert!(
        lib.contains("\n#![no_std]\n"),
        "protocol is no_std, so it has no clock and no file"
    );
}

/// The lists of names would pass anything if they were mistyped: a crate that does have a network
/// and a runtime must show both.
#[test]
fn the_server_shows_that_the_lists_bite() {
    let tree = tree("ampoule-server");
    assert!(rules::network_in(&tree).contains(&"rustls".to_owned()));
    assert!(rules::runtimes_in(&tree).contains(&"tokio".to_owned()));
}

#[test]
fn every_member_takes_the_lints_of_the_workspace() {
    let root = workspace_root();
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata runs");
    for package in metadata.workspace_packages() {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest");
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{} has own lints",
            package.name
        );
    }
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}
