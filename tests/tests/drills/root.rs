//! One of three root keys is stolen.

use crate::stage::Stage;
use crate::thief::{CONFIG, Thief};

/// Meant to catch: a new root that the keys of the old one need not sign.
#[test]
fn a_stolen_share_of_root_is_replaced_and_the_device_follows() {
    let mut stage = Stage::alone();
    let thief = Thief::with(&stage, &["alice"]);
    thief.forge_root(&["alice", "mallory"]);
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");

    // The drill: the other two, and a new third, name one another.
    stage.new_key("dave");
    for role in ["root", "targets"] {
        stage.rotate(role, "alice", "dave");
    }
    stage.sign(&["bob", "carol", "dave"]);
    stage.publish(&["snapshot", "timestamp"]);
    stage.release_two(["engineer", "safety"], ["snapshot", "timestamp"]);
    stage.serve("server.toml");
    stage.updates_to("2.0.0");

    // With a second of the old three it would have been a threshold; now it is one of two.
    let thief = Thief::with(&stage, &["alice", "bob"]);
    thief.forge_root(&["alice", "bob", "mallory"]);
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");
}
