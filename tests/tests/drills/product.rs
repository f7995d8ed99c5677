//! Keys of a product are stolen: one of two, and both. The thief has the server's place, and the keys
//! of snapshot and timestamp besides, without which nobody would read what they sign.

use crate::online::replace_online;
use crate::stage::Stage;
use crate::thief::{CONFIG, Thief};

/// Meant to catch: a threshold that is not counted.
#[test]
fn one_stolen_key_of_a_product_signs_nothing_and_is_replaced() {
    let mut stage = Stage::alone();
    let thief = Thief::with(&stage, &["engineer", "snapshot", "timestamp"]);
    thief.forge_release(&["engineer", "mallory"]);
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");

    stage.new_key("engineer-2");
    stage.rotate("infusion-pump", "engineer", "engineer-2");
    let online = replace_online(&mut stage, &["engineer-2", "safety"]);
    stage.release_two(["engineer-2", "safety"], online);
    stage.serve("server.toml");
    stage.updates_to("2.0.0");

    // With the other holder's key it would have been a threshold.
    let thief = Thief::with(&stage, &["engineer", "safety", "snapshot-2", "timestamp-2"]);
    thief.forge_release(&["engineer", "safety"]);
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");
}

/// Meant to catch: keys of a product that stay good beside those that replaced them.
#[test]
fn a_stolen_threshold_of_a_product_ships_until_targets_replaces_it() {
    let mut stage = Stage::alone();
    let thief = Thief::with(&stage, &["engineer", "safety", "snapshot", "timestamp"]);
    thief.forge_release(&["engineer", "safety"]);
    stage.serve(CONFIG);
    assert_eq!(stage.offered().as_deref(), Some("9.9.9"), "the thief can");

    for (gone, new) in [("engineer", "engineer-2"), ("safety", "safety-2")] {
        stage.new_key(new);
        stage.rotate("infusion-pump", gone, new);
    }
    let online = replace_online(&mut stage, &["engineer-2", "safety-2"]);
    stage.release_two(["engineer-2", "safety-2"], online);
    stage.serve("server.toml");
    stage.updates_to("2.0.0");

    // All that was stolen before, and the new online keys too.
    let thief = Thief::with(&stage, &["engineer", "safety", "snapshot-2", "timestamp-2"]);
    thief.forge_release(&["engineer", "safety"]);
    stage.serve(CONFIG);
    assert_eq!(stage.refuses(), "metadata-unsigned");
}
