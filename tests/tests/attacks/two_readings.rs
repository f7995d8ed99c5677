//! Two readings: bytes that two parsers would understand differently.
//!
//! Method: the rightful keys sign a payload whose text has a second reading, as a thief of one
//! parser's blind spot would have them do. The device refuses the text. Catches: a parser that
//! takes the last of two members, a float for a whole number, bad UTF-8, trailing bytes.

use ampoule_tests::world::{Versions, World};

/// The file, with `from` replaced by `to` in its text; its signatures are as they were.
fn served(world: &mut World, from: &str, to: &[u8]) {
    let text = String::from_utf8(world.repo.timestamp.to_file()).expect("JSON is UTF-8");
    let (head, tail) = text.split_once(from).expect("the text has it");
    let file = [head.as_bytes(), to, tail.as_bytes()].concat();
    world
        .repo
        .tree
        .insert("metadata/timestamp.json".into(), file);
}

#[test]
fn of_timestamp() {
    let cases: [(&str, &[u8]); 9] = [
        ("\"version\":2}", b"\"version\":2,\"version\":2}"),
        ("\"version\":2}", b"\"version\":2,\"\\u0076ersion\":2}"),
        ("\"version\":2}", b"\"version\":2.0}"),
        ("\"version\":2}", b"\"version\":2e0}"),
        ("\"version\":2}", b"\"version\":2,}"),
        ("\"_type\"", b"\"a\":\"\xff\",\"_type\""),
        ("\"_type\"", b"\"a\":\"\\ud800\",\"_type\""),
        ("\"signatures\"", b"\"signatures\":[],\"signatures\""),
        ("{\"signatures\"", b"\xef\xbb\xbf{\"signatures\""),
    ];
    for (from, to) in cases {
        let mut world = World::refreshed();
        world.repo.release();
        served(&mut world, from, to);
        assert_eq!(
            world.refusal(),
            "metadata-malformed",
            "{}",
            String::from_utf8_lossy(to)
        );
        assert_eq!(world.trusted(), Versions::of(1, 1, 1, 1));
    }
}

#[test]
fn behind_the_end() {
    let mut world = World::refreshed();
    world.repo.release();
    let file = world
        .repo
        .tree
        .get_mut("metadata/timestamp.json")
        .expect("published");
    file.extend_from_slice(b"{}");
    assert_eq!(world.refusal(), "metadata-malformed");
}

/// White space and the order of members are no reading: signatures cover the canonical form.
#[test]
fn white_space_is_harmless() {
    let mut world = World::refreshed();
    world.repo.release();
    let file = world
        .repo
        .tree
        .get_mut("metadata/timestamp.json")
        .expect("published");
    let text = String::from_utf8(file.clone()).expect("JSON is UTF-8");
    *file = text.replace(":{", " :\n\t{ ").into_bytes();
    let served = file.clone();
    world.refresh().expect("the same value");
    assert_eq!(
        world.device.store.files["timestamp.json"], served,
        "stored as it was served"
    );
}

/// A time has one form.
#[test]
fn of_a_time() {
    for time in [
        "2030-01-31T12:00:00+00:00",
        "2030-01-31T12:00:00.0Z",
        "2030-01-31 12:00:00Z",
        "2030-02-30T12:00:00Z",
        "30-01-31T12:00:00Z",
    ] {
        let mut world = World::refreshed();
        world.repo.release();
        served(&mut world, "2030-01-31T12:00:00Z", time.as_bytes());
        let code = world.refusal();
        // The change broke the signature as well; either refusal is right, and both are stable.
        assert!(
            code == "metadata-malformed" || code == "metadata-unsigned",
            "{time}: {code}"
        );
        assert_eq!(world.trusted(), Versions::of(1, 1, 1, 1));
    }
}
