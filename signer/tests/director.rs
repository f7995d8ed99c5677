//! The director's root is a chain of its own: its keys change, it is renewed, and nothing of it goes
//! out without the keys before.
//!
//! Goal: whoever steals the server's director key loses it by a sequence of commands. Method: the
//! real program, from the ceremony on; what comes out is verified as a device does it, each root by
//! itself and by the one before.

mod common;

use ampoule_protocol::json::{self, Value};
use ampoule_protocol::metadata::{Envelope, Payload, RoleType, Root};
use ampoule_protocol::sign::Sign;
use ampoule_protocol::trust::KeyRing;
use common::{Ground, PUBLISH, key};

const SECOND: &str = "w/staging/director.2.root.request";

fn root(ground: &Ground, version: u64) -> (Envelope, Root) {
    let bytes = ground.read(&format!("w/director/{version}.root.json"));
    let envelope = Envelope::parse(&bytes).unwrap();
    let root = Root::from_signed(envelope.unverified()).unwrap();
    (envelope, root)
}

/// Each root up to `newest` is signed by its own holders and by those before.
fn assert_chain(ground: &Ground, newest: u64) {
    let mut before = root(ground, 1).1;
    for version in 1..=newest {
        let (envelope, this) = root(ground, version);
        assert_eq!(this.common.version.get(), version);
        for signer in [&before, &this] {
            KeyRing::of_root(signer, RoleType::Root)
                .verify::<Root>("root", &envelope)
                .unwrap_or_else(|error| panic!("root {version}: {error}"));
        }
        before = this;
    }
}

fn signers(root: &Root, role: RoleType) -> Vec<String> {
    let ring = KeyRing::of_root(root, role);
    ring.keys().map(|(id, _)| id.to_string()).collect()
}

fn id(name: &str) -> String {
    key(name).public_key().to_key().id().to_string()
}

#[test]
fn a_stolen_online_key_is_left_behind() {
    let ground = Ground::published();
    ground.make_key("clean");
    let rotate = [
        "-w",
        "w",
        "rotate",
        "director.online",
        "--remove",
        "director",
    ];
    ground.ok(&[&rotate[..], &["--add", "clean.pub"]].concat());
    let said = ground.ok(&["-w", "w", "review"]);
    assert!(said.contains("timestamp gets the key of clean"), "{said}");
    assert!(said.contains("targets loses the key of director"), "{said}");
    ground.sign_all(&["alice", "carol"]);
    ground.publish();
    assert_chain(&ground, 2);
    let (_, second) = root(&ground, 2);
    for role in [RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp] {
        assert_eq!(signers(&second, role), [id("clean")], "{role:?}");
    }
    assert_eq!(
        signers(&second, RoleType::Root),
        signers(&root(&ground, 1).1, RoleType::Root)
    );
    assert!(
        !second
            .keys
            .keys()
            .any(|known| known.as_str() == id("director"))
    );
}

#[test]
fn a_holder_of_the_directors_root_is_replaced_and_the_root_is_renewed() {
    let ground = Ground::published();
    ground.make_key("dave");
    let rotate = ["-w", "w", "rotate", "director.root", "--remove", "carol"];
    ground.ok(&[&rotate[..], &["--add", "dave.pub"]].concat());
    // Two of the new ones are one of the old ones.
    ground.sign_all(&["alice", "dave"]);
    let said = ground.publish();
    assert!(
        said.contains("director root version 2"),
        "it stays behind: {said}"
    );
    assert!(!ground.path("w/director/2.root.json").exists());
    ground.sign_all(&["bob"]);
    ground.publish();
    assert_chain(&ground, 2);
    ground.ok(&["-w", "w", "renew", "director.root"]);
    ground.sign_all(&["dave", "bob"]);
    ground.publish();
    assert_chain(&ground, 3);
    // A draft that is thrown away leaves what is signed.
    ground.ok(&["-w", "w", "renew", "director.root"]);
    ground.ok(&["-w", "w", "discard", "director.root"]);
    assert_eq!(ground.ok(&["-w", "w", "review"]), "nothing is drafted\n");
    assert_chain(&ground, 3);
}

#[test]
fn what_is_signed_is_not_changed_and_no_director_has_no_keys() {
    let ground = Ground::published();
    ground.ok(&["-w", "w", "renew", "director.root"]);
    ground.sign_all(&["alice"]);
    let rotate = ["-w", "w", "rotate", "director.root", "--threshold", "3"];
    let said = ground.refused(1, &rotate);
    assert!(
        said.starts_with("error: a draft of director root version 2 is being signed"),
        "{said}"
    );
    let without = Ground::bare();
    let example = ampoule_signer::ceremony::EXAMPLE;
    let at = example.find("[director]").unwrap();
    let end = example.find("[expiry_days]").unwrap();
    let ceremony = [&example[..at], &example[end..]].concat();
    without.write("ceremony.toml", ceremony.as_bytes());
    without.ok(&["init", "ceremony.toml", "-w", "w"]);
    let said = without.refused(1, &rotate);
    assert!(
        said.starts_with("error: there is no role \"director.root\""),
        "{said}"
    );
}

/// The request says that nothing was signed before it. Catches: publication that asks the request,
/// and not the tree, who has to sign.
#[test]
fn a_request_that_forgets_the_root_before_is_not_published_without_its_holders() {
    for (role, draft, published) in [
        ("director.root", SECOND, "w/director/2.root.json"),
        (
            "root",
            "w/staging/2.root.request",
            "w/published/metadata/2.root.json",
        ),
    ] {
        let ground = Ground::published();
        let names = ["mallory", "mike"];
        let mut rotate = vec!["-w", "w", "rotate", role, "--threshold", "2"];
        for holder in ["alice", "bob", "carol"] {
            rotate.extend(["--remove", holder]);
        }
        for name in names {
            ground.make_key(name);
        }
        rotate.extend(["--add", "mallory.pub", "--add", "mike.pub"]);
        ground.ok(&rotate);
        forget_previous(&ground, draft);
        for name in names {
            let key = format!("{name}.key");
            ground.ok(&["sign", draft, "--yes", "-k", &key]);
        }
        forget_previous(&ground, draft);
        ground.run(&PUBLISH);
        assert!(!ground.path(published).exists(), "{role} went out");
        ground.ok(&["verify", "w/published"]);
        ground.ok(&["-w", "w", "review"]);
    }
}

fn forget_previous(ground: &Ground, path: &str) {
    let Ok(Value::Object(mut request)) = json::parse(&ground.read(path)) else {
        panic!("{path} is no object");
    };
    request.remove("previous");
    ground.write(path, &json::compact(&Value::Object(request)));
}

/// Catches: a root that no device finds, since the one before it is not there.
#[test]
fn a_version_that_skips_one_is_not_published() {
    let ground = Ground::published();
    ground.ok(&["-w", "w", "renew", "root"]);
    let draft = "w/staging/2.root.request";
    let text = String::from_utf8(ground.read(draft)).unwrap();
    let leap = text.replacen("\"version\":2", "\"version\":7", 1);
    assert_ne!(text, leap);
    ground.write(draft, leap.as_bytes());
    ground.sign_all(&["alice", "bob"]);
    let said = ground.refused(1, &PUBLISH);
    assert!(said.contains("root version 7"), "{said}");
    assert!(!ground.path("w/published/metadata/7.root.json").exists());
    ground.ok(&["verify", "w/published"]);
}
