//! The director's online key is stolen, alone and with the whole server.

use crate::online::on_a_clean_server;
use crate::stage::Stage;
use crate::thief::{CONFIG, Thief};

/// Release 2.0.0 is published, and offered to nobody.
fn published() -> Stage {
    let mut stage = Stage::in_fleet();
    stage.release_two(["engineer", "safety"], ["snapshot", "timestamp"]);
    stage.serve("server.toml");
    assert_eq!(stage.offered(), None, "the director does not offer it");
    stage
}

/// The online key is replaced by the holders of the director's root, and goes to the server.
fn replace_director(stage: &mut Stage) {
    stage.new_key("director-2");
    stage.rotate("director.online", "director", "director-2");
    let site = &stage.site;
    let text = String::from_utf8(site.read("server.toml")).expect("text");
    let text = text.replace("keys/director.key", "keys/director-2.key");
    site.write("server.toml", text.as_bytes());
}

/// Meant to catch: a later root of the director that no device gets to see.
#[test]
fn a_stolen_directors_key_chooses_among_signed_releases_until_it_is_replaced() {
    let mut stage = published();
    let _thief = Thief::with(&stage, &[]);
    stage.place(CONFIG);
    stage.offer(CONFIG, "2.0.0", "release-2.toml");
    assert_eq!(stage.offered().as_deref(), Some("2.0.0"), "the thief can");

    replace_director(&mut stage);
    stage.sign(&["alice", "bob"]);
    stage.publish(&[]);
    assert!(stage.site.file("release/director/2.root.json").is_file());
    stage.serve("server.toml");
    assert_eq!(
        stage.offered(),
        None,
        "the device is back with its director"
    );
    // The thief's rollout still runs, and the root is public.
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");

    stage.serve("server.toml");
    stage.offer("server.toml", "2.0.0", "release-2.toml");
    stage.updates_to("2.0.0");
}

/// The server was stolen with all its keys: both repositories get new ones in one ceremony.
/// Meant to catch: one of both repositories whose floor outlives its key.
#[test]
fn a_stolen_server_is_left_behind_by_new_keys_of_both_repositories() {
    let mut stage = published();
    let thief = Thief::with(&stage, &["timestamp"]);
    thief.drive_timestamp();
    stage.place(CONFIG);
    stage.offer(CONFIG, "2.0.0", "release-2.toml");
    assert_eq!(stage.offered().as_deref(), Some("2.0.0"), "the thief can");
    stage.serve("server.toml");
    assert_eq!(stage.refuses(), "metadata-rollback", "the honest look old");

    stage.new_key("timestamp-2");
    stage.rotate("timestamp", "timestamp", "timestamp-2");
    replace_director(&mut stage);
    stage.sign(&["alice", "bob"]);
    stage.publish(&["timestamp-2"]);
    on_a_clean_server(&mut stage);
    stage.place("server.toml");
    stage.offer("server.toml", "2.0.0", "release-2.toml");
    stage.updates_to("2.0.0");

    let thief = Thief::with(&stage, &["timestamp"]);
    thief.drive_timestamp();
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");
}
