//! Names that lead astray: out of the folder, onto another file, or to a look-alike.
//!
//! Method: roles and targets with names that file systems, URLs and Unicode treat specially.
//! Names are compared byte by byte; a role's name is percent-encoded whole in file names.
//! Catches: a name joined to a path as it is, Unicode normalised before comparing or signing.

use ampoule_protocol::name::TargetPath;
use ampoule_tests::sim::RepositorySimulator;
use ampoule_tests::world::World;

/// The letter é as one code point, and as e with an accent.
const NFC: &str = "caf\u{e9}";
const NFD: &str = "cafe\u{301}";

#[test]
fn of_roles_are_encoded_in_files_and_requests() {
    for (name, encoded) in [
        ("../evil", "..%2Fevil"),
        ("/etc/passwd", "%2Fetc%2Fpasswd"),
        ("?", "%3F"),
        ("#", "%23"),
        ("a b", "a%20b"),
        ("%2e%2e", "%252e%252e"),
        ("a\\b", "a%5Cb"),
        (NFC, "caf%C3%A9"),
        (NFD, "cafe%CC%81"),
    ] {
        let mut world = World::new();
        world.repo.delegate("targets", name, &["*"], false);
        world.repo.add_delegated_target(name, "file", b"content");
        world.repo.release();
        assert_eq!(
            world.download("file").expect("any name will do"),
            b"content",
            "{name}"
        );
        assert!(
            world.device.requests.contains(&format!("2.{encoded}.json")),
            "{name}"
        );
        let stored: Vec<&String> = world.device.store.files.keys().collect();
        assert!(
            stored.iter().all(|file| !file.contains(['/', '\\'])),
            "{stored:?}"
        );
    }
}

/// A name of dots alone must not become a folder.
#[test]
fn of_dots_alone() {
    for name in [".", ".."] {
        let mut world = World::new();
        world.repo.delegate("targets", name, &["*"], false);
        world.repo.release();
        assert_eq!(world.download_refusal("file"), "target-unknown");
        let stored = world.device.store.files.keys();
        assert!(
            stored.clone().any(|file| file.contains("%2E")),
            "{stored:?}"
        );
    }
}

/// Two targets that look the same to a reader are two targets.
#[test]
fn of_targets_in_two_normal_forms() {
    let mut world = World::new();
    world.repo.add_target(NFC, b"composed");
    world.repo.add_target(NFD, b"decomposed");
    world.repo.release();
    assert_eq!(
        world.download(NFC).expect("there is one of this name"),
        b"composed"
    );
    assert_eq!(world.download(NFD).expect("and one of this"), b"decomposed");
}

/// A delegation for the one form does not cover the other.
#[test]
fn of_paths_in_two_normal_forms() {
    let mut world = World::new();
    world.repo.delegate("targets", "one", &[NFC], false);
    world.repo.add_delegated_target("one", NFD, b"decomposed");
    world.repo.release();
    assert_eq!(world.download_refusal(NFD), "target-unknown");
}

/// Two roles that look the same are two roles with two files.
#[test]
fn of_roles_in_two_normal_forms() {
    let mut world = World::new();
    world.repo.delegate("targets", NFC, &["a"], false);
    world.repo.delegate("targets", NFD, &["b"], false);
    world
        .repo
        .add_delegated_target(NFC, "a", b"by the composed");
    world
        .repo
        .add_delegated_target(NFD, "b", b"by the decomposed");
    world.repo.release();
    assert_eq!(world.download("a").expect("found"), b"by the composed");
    assert_eq!(world.download("b").expect("found"), b"by the decomposed");
    assert_eq!(world.trusted().delegated.len(), 2);
}

/// Case is not folded either.
#[test]
fn in_two_cases() {
    let mut world = World::new();
    world
        .repo
        .delegate("targets", "pump", &["pump/*.img"], false);
    world
        .repo
        .add_delegated_target("pump", "pump/a.IMG", b"content");
    world.repo.release();
    assert_eq!(world.download_refusal("pump/a.IMG"), "target-unknown");
}

/// Paths that would leave a folder are no target paths; metadata that has one is refused whole.
#[test]
fn of_targets_that_lead_out() {
    for path in [
        "../a", "/a", "a/../b", "a//b", "a/", "", ".", "a/./b", "a\\b", "a\0b",
    ] {
        assert!(TargetPath::parse(path).is_err(), "{path:?}");
        let mut world = World::new();
        world.repo.add_target("good", b"content");
        let signed_with = |repo: &mut RepositorySimulator| {
            let text =
                String::from_utf8(ampoule_protocol::json::compact(&repo.targets.to_signed()))
                    .expect("JSON is UTF-8");
            let escaped = format!(
                "\"{}\":",
                path.escape_default()
                    .to_string()
                    .replace("\\u{0}", "\\u0000")
            );
            let signed =
                ampoule_protocol::json::parse(text.replace("\"good\":", &escaped).as_bytes());
            ampoule_tests::sim::sign(&signed.expect("JSON"), &repo.targets.signers)
        };
        let file = signed_with(&mut world.repo);
        world.repo.release();
        world
            .repo
            .tree
            .insert("metadata/2.targets.json".into(), file);
        assert_eq!(world.refusal(), "metadata-malformed", "{path:?}");
        assert_eq!(world.trusted().targets, None, "{path:?}");
    }
}
