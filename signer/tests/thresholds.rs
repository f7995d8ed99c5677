//! Partial signing: any order, by file, on machines that never meet; and nothing below a
//! threshold goes out.

mod common;

use ampoule_protocol::json::{self, Value};
use ampoule_protocol::sign::Sign;
use ampoule_signer::keys::public;
use ampoule_signer::request::Request;
use common::{Ground, PUBLISH, key};

const REQUEST: &str = "w/staging/1.root.request";

#[test]
fn three_holders_sign_copies_in_any_order_and_the_merged_files_are_equal() {
    let orders = [
        ["alice", "bob", "carol"],
        ["carol", "alice", "bob"],
        ["bob", "carol", "alice"],
    ];
    let mut merged = Vec::new();
    let ground = Ground::new();
    let draft = ground.read(REQUEST);
    for order in orders {
        ground.write(REQUEST, &draft);
        let mut merge = vec!["merge".to_owned(), REQUEST.to_owned()];
        for holder in order {
            // Each holder has a copy of the unsigned draft, in a folder of their own.
            let copy = format!("{holder}/copy.request");
            ground.write(&copy, &draft);
            ground.ok(&["sign", &copy, "--yes", "-k", &format!("{holder}.key")]);
            merge.push(copy);
        }
        let merge: Vec<&str> = merge.iter().map(String::as_str).collect();
        let told = ground.ok(&merge);
        assert!(
            told.starts_with("3 new on root version 1: complete"),
            "{told}"
        );
        merged.push(ground.read(REQUEST));
    }
    assert_eq!(merged[0], merged[1]);
    assert_eq!(merged[1], merged[2]);
}

#[test]
fn nothing_is_published_below_a_threshold() {
    let ground = Ground::new();
    ground.build(0);
    ground.release("2.4.0", 16);
    ground.ok(&["-w", "w", "add", "release.toml"]);
    ground.sign_all(&["alice", "bob", "engineer"]);
    let refused = ground.refused(1, &PUBLISH);
    assert!(
        refused.starts_with("error: infusion-pump version 1 is signed by 1 of 2 required keys\n"),
        "{refused}"
    );
    assert!(
        !ground.path("w/published/metadata").exists(),
        "something was published"
    );
    // The same key again changes nothing.
    ground.ok(&["-w", "w", "sign", "--all", "--yes", "-k", "engineer.key"]);
    ground.refused(1, &PUBLISH);
    ground.sign_all(&["safety"]);
    ground.publish();
}

#[test]
fn one_key_under_two_ids_counts_once() {
    let ground = Ground::bare();
    // The engineer hands in their key twice, the second time as another object, so that it gets
    // another id: nothing in TUF forbids a further member.
    let engineer = key("engineer");
    let mut object = engineer.public_key().to_key().object().clone();
    object.insert("comment".into(), Value::from("my other key"));
    ground.write("safety.pub", &json::compact(&Value::Object(object)));
    let refused = ground.refused(1, &["init", "ceremony.toml", "-w", "w"]);
    assert!(
        refused.starts_with(
            "error: \"./engineer.pub\" and \"./safety.pub\" of infusion-pump are one key"
        ),
        "{refused}"
    );
    assert!(!ground.path("w/signer.toml").exists());
}

#[test]
fn one_key_under_two_ids_cannot_sign_twice() {
    let ground = Ground::new();
    // A targets draft that names the engineer's key under two ids, as a careless tool might write.
    let mut request = Request::load(&ground.path("w/staging/1.infusion-pump.request")).unwrap();
    let engineer = key("engineer");
    let mut object = engineer.public_key().to_key().object().clone();
    object.insert("comment".into(), Value::from("my other key"));
    let other = ampoule_protocol::key::Key::from_map(object);
    let targets = json::compact(request.chain[1].unverified());
    let text = String::from_utf8(targets).unwrap();
    let safety = key("safety").public_key().to_key();
    let text = text
        .replace(safety.id().as_str(), other.id().as_str())
        .replace(
            &String::from_utf8(json::compact(&Value::Object(safety.object().clone()))).unwrap(),
            &String::from_utf8(json::compact(&Value::Object(other.object().clone()))).unwrap(),
        );
    request.chain[1] = ampoule_signer::request::unsigned(json::parse(text.as_bytes()).unwrap());
    let keys = common::open(&["engineer"]);
    let ids = ampoule_signer::sign::sign(&mut request, &keys).unwrap();
    assert_eq!(ids.len(), 2, "both ids get the signature");
    let needs = request.needs().unwrap();
    assert_eq!((needs[0].signed.len(), needs[0].threshold), (1, 2));
    assert!(!request.is_complete().unwrap());
}

#[test]
fn a_new_root_needs_the_old_threshold_and_the_new() {
    let ground = Ground::published();
    for name in ["dave", "erin"] {
        ground.make_key(name);
    }
    ground.ok(&[
        "-w", "w", "rotate", "root", "--remove", "alice", "--remove", "bob", "--add", "dave.pub",
        "--add", "erin.pub",
    ]);
    ground.sign_all(&["dave", "erin"]);
    let refused = ground.refused(1, &PUBLISH);
    assert!(
        refused.starts_with(
            "error: root version 2 is signed by 0 of 2 keys required by the root before it\n"
        ),
        "{refused}"
    );
    ground.sign_all(&["alice", "carol"]);
    ground.ok(&PUBLISH);
    ground.ok(&["verify", "w/published"]);
}

#[test]
fn a_request_that_changed_on_the_way_is_not_merged() {
    let ground = Ground::new();
    let text = String::from_utf8(ground.read(REQUEST)).unwrap();
    ground.write(
        "copy.request",
        text.replacen("\"threshold\":2", "\"threshold\":1", 1)
            .as_bytes(),
    );
    ground.ok(&["sign", "copy.request", "--yes", "-k", "alice.key"]);
    let before = ground.read(REQUEST);
    let refused = ground.refused(1, &["merge", REQUEST, "copy.request"]);
    assert!(
        refused.contains("are not the same request: signed bytes"),
        "{refused}"
    );
    assert_eq!(ground.read(REQUEST), before);
}

#[test]
fn a_signature_made_elsewhere_comes_in_and_a_wrong_one_does_not() {
    let ground = Ground::new();
    ground.ok(&["payload", REQUEST, "payload.bin"]);
    let signature = key("bob").sign(&ground.read("payload.bin")).unwrap();
    let hex = ampoule_protocol::hex::encode(&signature);
    ground.write("bob.sig", &signature);
    ground.ok(&[
        "attach",
        REQUEST,
        "--public",
        "bob.pub",
        "--signature",
        &hex,
    ]);
    ground.ok(&[
        "attach",
        REQUEST,
        "--public",
        "bob.pub",
        "--signature-file",
        "bob.sig",
    ]);
    let request = Request::load(&ground.path(REQUEST)).unwrap();
    assert_eq!(request.needs().unwrap()[0].signed.len(), 1);

    let before = ground.read(REQUEST);
    let wrong = hex.replacen(&hex[..2], if &hex[..2] == "00" { "01" } else { "00" }, 1);
    let refused = ground.refused(
        1,
        &[
            "attach",
            REQUEST,
            "--public",
            "bob.pub",
            "--signature",
            &wrong,
        ],
    );
    assert!(
        refused.starts_with("error: the signature does not verify with key"),
        "{refused}"
    );
    let refused = ground.refused(
        1,
        &[
            "attach",
            REQUEST,
            "--public",
            "safety.pub",
            "--signature",
            &hex,
        ],
    );
    assert!(
        refused.contains("is none of those that root version 1 asks for"),
        "{refused}"
    );
    assert_eq!(ground.read(REQUEST), before);
    assert_eq!(
        public::read(&ground.path("bob.pub")).unwrap().id(),
        request.envelope.signatures()[0].keyid
    );
}

#[test]
fn a_holder_is_warned_when_the_last_version_in_the_file_was_not_signed() {
    // Whoever carries the request hides a bad release by putting it into the last version too.
    let ground = Ground::published();
    ground.build(5);
    ground.write(
        "release.toml",
        common::release_toml("2.4.1", 17)
            .replace("[component.delta]\nbases = \"last:3\"\n", "")
            .as_bytes(),
    );
    ground.ok(&["-w", "w", "add", "release.toml"]);
    let path = ground.path("w/staging/2.infusion-pump.request");
    let honest = ground.ok(&["review", path.to_str().unwrap()]);
    assert!(
        honest.contains("release 2.4.1 of infusion-pump is added"),
        "{honest}"
    );
    assert!(!honest.contains("caution"), "{honest}");

    let mut request = Request::load(&path).unwrap();
    request.previous = Some(request.envelope.clone());
    ground.write("forged.request", &request.to_bytes());
    let forged = ground.ok(&["review", "forged.request"]);
    assert!(!forged.contains("is added"), "{forged}");
    assert!(
        forged.contains("caution: the last version in this file is not signed"),
        "{forged}"
    );
}

#[test]
fn a_holder_with_their_own_root_signs_nothing_for_another() {
    let ground = Ground::published();
    let own = "w/published/metadata/1.root.json";
    ground.ok(&[
        "-w",
        "w",
        "rotate",
        "snapshot",
        "--remove",
        "snapshot",
        "--add",
        "director.pub",
    ]);
    let request = "w/staging/2.root.request";
    ground.ok(&["sign", request, "-y", "-k", "alice.key", "--root", own]);
    // The other root was made by the same holders, but it is another: of another date.
    let mut root = ampoule_signer::verify::read(&ground.path(own)).unwrap();
    let text = String::from_utf8(json::compact(root.unverified())).unwrap();
    let moved = text.replacen("\"expires\":\"2", "\"expires\":\"3", 1);
    root = ampoule_signer::request::unsigned(json::parse(moved.as_bytes()).unwrap());
    ground.write("other.root.json", &root.to_bytes());
    let before = ground.read(request);
    let refused = ground.refused(
        1,
        &[
            "sign",
            request,
            "-y",
            "-k",
            "bob.key",
            "--root",
            "other.root.json",
        ],
    );
    assert!(
        refused.contains("does not follow from your root version 1"),
        "{refused}"
    );
    assert_eq!(ground.read(request), before);
}
