//! The keys of timestamp and snapshot are stolen.

use crate::stage::Stage;
use crate::thief::{CONFIG, Thief};

/// Names a new timestamp key in a new root, which needs these holders too, and gives it to the
/// server. The old one, which the thief has, signs nothing any more.
fn replace_timestamp(stage: &mut Stage) {
    stage.new_key("timestamp-2");
    stage.rotate("timestamp", "timestamp", "timestamp-2");
}

/// The same for snapshot and timestamp; signed by two holders of root and by these.
pub(crate) fn replace_online(stage: &mut Stage, more: &[&str]) -> [&'static str; 2] {
    replace_timestamp(stage);
    stage.new_key("snapshot-2");
    stage.rotate("snapshot", "snapshot", "snapshot-2");
    stage.sign(&[&["alice", "bob"], more].concat());
    let online = ["snapshot-2", "timestamp-2"];
    stage.publish(&online);
    on_a_clean_server(stage);
    online
}

/// The new timestamp key goes to a server that starts from nothing.
pub(crate) fn on_a_clean_server(stage: &mut Stage) {
    stage.stop();
    let site = &stage.site;
    let text = String::from_utf8(site.read("server.toml")).expect("text");
    let text = text
        .replace("keys/timestamp.key", "keys/timestamp-2.key")
        .replace("path = \"store\"", "path = \"store-2\"");
    site.write("server.toml", text.as_bytes());
    site.server("enroll --certificate identity/device.pem --config server.toml pump-0042");
}

/// Meant to catch: a floor that outlives the key which signed it.
#[test]
fn a_stolen_timestamp_key_freezes_and_installs_nothing_until_it_is_replaced() {
    let mut stage = Stage::alone();
    let thief = Thief::with(&stage, &["timestamp"]);
    thief.drive_timestamp();
    stage.serve(CONFIG);
    assert_eq!(stage.offered(), None, "believed, and nothing comes of it");
    thief.forge_release(&["mallory"]);
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");
    stage.release_two(["engineer", "safety"], ["snapshot", "timestamp"]);
    stage.serve("server.toml");
    assert_eq!(stage.refuses(), "metadata-rollback", "the honest look old");

    replace_timestamp(&mut stage);
    stage.sign(&["alice", "bob"]);
    stage.publish(&["timestamp-2"]);
    on_a_clean_server(&mut stage);
    stage.serve("server.toml");
    stage.updates_to("2.0.0");

    let thief = Thief::with(&stage, &["timestamp"]);
    thief.drive_timestamp();
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");
}

/// Meant to catch: the same for the snapshot that it names.
#[test]
fn stolen_keys_of_snapshot_and_timestamp_sign_no_release_and_are_replaced() {
    let mut stage = Stage::alone();
    let thief = Thief::with(&stage, &["snapshot", "timestamp"]);
    thief.drive_snapshot();
    stage.serve(CONFIG);
    assert_eq!(stage.offered(), None, "believed, and nothing comes of it");
    stage.serve("server.toml");
    assert_eq!(stage.refuses(), "metadata-rollback", "the honest look old");

    let online = replace_online(&mut stage, &[]);
    stage.release_two(["engineer", "safety"], online);
    stage.serve("server.toml");
    stage.updates_to("2.0.0");

    let thief = Thief::with(&stage, &["snapshot", "timestamp"]);
    thief.forge_release(&["mallory"]);
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");
}
