//! python-tuf, the reference implementation, in both directions.
//!
//! The interpreter comes from the environment (`AMPOULE_PYTHON`, set by `cargo xtask test`, which
//! makes a private one with the pinned packages of `tests/interop/requirements.txt`). Without it
//! these tests fail and say so; they are skipped only where `AMPOULE_TEST_OFFLINE=1` says that
//! there is no network to install from.

use std::path::{Path, PathBuf};
use std::process::Command;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::json::{self, Value};
use ampoule_tests::device::Device;
use ampoule_tests::http::HttpServer;
use ampoule_tests::sim::Tree;
use ampoule_tests::world::Versions;

use crate::peers::{self, IMAGE, TOP};

/// The interpreter; none where the tests run without a network.
pub(crate) fn python() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("AMPOULE_PYTHON") {
        return Some(path.into());
    }
    let offline = std::env::var("AMPOULE_TEST_OFFLINE").is_ok_and(|value| value == "1");
    assert!(
        offline,
        "AMPOULE_PYTHON is not set: run `cargo xtask test`, or name a Python that has the packages \
         of tests/interop/requirements.txt, or set AMPOULE_TEST_OFFLINE=1 to skip this"
    );
    eprintln!("skipped: AMPOULE_TEST_OFFLINE=1 and no AMPOULE_PYTHON");
    None
}

/// Runs `interop/peer.py` and reads what it prints.
pub(crate) fn peer(python: &Path, arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/peer.py");
    let output = Command::new(python)
        .arg(script)
        .args(arguments)
        .output()
        .expect("Python runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "peer.py {}: {errors}",
        arguments[0]
    );
    json::parse(&output.stdout).expect("peer.py prints JSON")
}

fn serve(tree: &Tree) -> HttpServer {
    let tree = tree.clone();
    HttpServer::start(move |path| tree.get(path).cloned())
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder with a plain name")
}

/// Refreshes, downloads and returns the root version that python-tuf trusts afterwards.
pub(crate) fn read(python: &Path, work: &Path, tree: &Tree, targets: &[(&str, Digest)]) -> u64 {
    let root = work.join("shipped-root.json");
    std::fs::write(&root, &tree["metadata/1.root.json"]).expect("written");
    let server = serve(tree);
    let metadata_url = format!("{}/metadata/", server.url());
    let targets_url = format!("{}/targets/", server.url());
    let mut arguments = vec!["read", text(work), &metadata_url, &targets_url, text(&root)];
    arguments.extend(targets.iter().map(|(path, _)| *path));
    let answer = peer(python, &arguments);
    for (path, digest) in targets {
        let got = answer
            .member("targets")
            .and_then(|t| t.member(path)?.as_str());
        assert_eq!(got, Some(digest.to_string().as_str()), "{path}");
    }
    answer
        .member("root")
        .and_then(Value::as_u64)
        .expect("a version")
}

#[test]
fn python_tuf_downloads_from_our_tree_and_follows_a_rotation() {
    let Some(python) = python() else { return };
    let work = tempfile::tempdir().expect("a folder");
    let mut repo = peers::repository();
    let targets = [
        (IMAGE, Digest::of(&peers::image())),
        (TOP, Digest::of(b"Read me first.")),
    ];
    assert_eq!(read(&python, work.path(), &repo.tree, &targets), 1);
    peers::rotate_all(&mut repo);
    repo.add_target("second.txt", b"after the rotation");
    repo.release();
    let second = [("second.txt", Digest::of(b"after the rotation"))];
    assert_eq!(read(&python, work.path(), &repo.tree, &second), 2);
}

/// Succinct bins (TAP 15) are read by python-tuf as by us.
#[test]
fn python_tuf_finds_targets_in_our_bins() {
    let Some(python) = python() else { return };
    let work = tempfile::tempdir().expect("a folder");
    let mut repo = ampoule_tests::sim::RepositorySimulator::new();
    let bins = repo.delegate_to_bins(5, "bin");
    let path = "files/a.bin";
    let bin = bins.bin_of(&ampoule_protocol::name::TargetPath::parse(path).expect("a path"));
    repo.add_delegated_target(bin.as_str(), path, b"in a bin");
    repo.expire_at(peers::now().plus_secs(86_400));
    repo.release();
    let targets = [(path, Digest::of(b"in a bin"))];
    assert_eq!(read(&python, work.path(), &repo.tree, &targets), 1);
}

/// No member of ours is lost on python-tuf, and it signs over the same bytes.
#[test]
fn python_tuf_reads_every_member_we_write() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let mut repo = peers::repository();
    peers::rotate_all(&mut repo);
    repo.dump(folder.path()).expect("dumped");
    let answer = peer(&python, &["check", text(&folder.path().join("metadata"))]);
    let count = repo
        .tree
        .keys()
        .filter(|path| path.starts_with("metadata/"))
        .count() as u64;
    assert_eq!(answer.member("files").and_then(Value::as_u64), Some(count));
}

/// The other way: what securesystemslib signs, with each kind of key, verifies here.
#[test]
fn what_python_tuf_publishes_is_trusted_here() {
    let Some(python) = python() else { return };
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let folder = tempfile::tempdir().expect("a folder");
        let answer = peer(&python, &["write", text(folder.path()), kind]);
        let tree = peers::read_tree(folder.path());
        let mut device = Device::new(&tree["metadata/1.root.json"]);
        let mut trusted = device.refresh(&tree, peers::now()).expect(kind);
        let targets = answer.as_object().expect("targets by path");
        assert_eq!(targets.len(), 3);
        for (path, digest) in targets {
            let bytes = device.download(&mut trusted, &tree, path).expect(path);
            assert_eq!(
                digest.as_str(),
                Some(Digest::of(&bytes).to_string().as_str())
            );
        }
        assert_eq!(
            Versions::trusted_by(&device).root,
            Some(2),
            "{kind}: the rotation was followed"
        );
        assert_eq!(Versions::trusted_by(&device).delegated.len(), 2, "{kind}");
    }
}
