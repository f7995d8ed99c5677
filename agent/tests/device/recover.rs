//! The recovery image's command, as it is run.

use serde_json::Value;

use crate::gates::{Ward, load};
use crate::kill::noise;

pub(crate) const IMAGE: &str = "[recovery]\nimage = true\n";

/// A device that came to 1.0.1 in b, and knows no image in a.
pub(crate) fn settled(more: &str) -> Ward {
    let ward = Ward::new("");
    ward.device.settle();
    let path = ward.folder().join("agent.toml");
    let config = std::fs::read_to_string(&path).expect("there");
    std::fs::write(path, config + more).expect("writes");
    ward
}

fn slot(ward: &Ward, name: &str) -> Vec<u8> {
    std::fs::read(ward.folder().join(name)).expect("a slot")
}

#[test]
fn a_slot_that_runs_is_no_recovery_image() {
    let ward = settled("");
    let refused = ward.device.json(&["recover"]);
    assert_eq!(refused["error"]["code"], "no-recovery-image");
}

#[test]
fn a_device_with_no_whole_slot_is_filled_and_runs_again() {
    let mut ward = settled(IMAGE);
    let said = ward.device.json(&["recover"]);
    assert_eq!(said["result"], "not-needed", "{said}");
    ward.publish("1.0.2", 2, &noise(2, 9_000));
    let mut damaged = slot(&ward, "b.img");
    damaged[100] ^= 1;
    std::fs::write(ward.folder().join("b.img"), &damaged).expect("writes");
    let said = ward.device.json(&["recover"]);
    assert_eq!(said["result"], "restart-due", "{said}");
    let holds = |name: &str| {
        let slots = said["slots"].as_array().expect("slots");
        let slot = slots.iter().find(|slot| slot["slot"] == name);
        slot.map_or(Value::Null, |slot| slot["holds"].clone())
    };
    assert_eq!(
        (holds("a"), holds("b")),
        ("unknown".into(), "damaged".into())
    );
    assert_eq!(slot(&ward, "b.img"), damaged, "the default is not written");
    assert_eq!(slot(&ward, "a.img")[..9_000], noise(2, 9_000));
    // The slot starts, with its own configuration, and commits.
    let path = ward.folder().join("agent.toml");
    let config = std::fs::read_to_string(&path).expect("there");
    std::fs::write(path, config.replace(IMAGE, "")).expect("writes");
    ward.device.settle();
    let status = ward.device.json(&["status"]);
    assert_eq!(status["components"][0]["version"], "1.0.2", "{status}");
}

/// Meant to catch a drug library that is tried, and refused, while the recovery image runs.
#[test]
fn nothing_is_live_in_a_recovery_image() {
    let library = "[[component]]\nname = \"library\"\ninstall = \"file\"\npath = \"library.db\"\nlive = true\n";
    let folder = tempfile::tempdir().expect("a folder");
    let is_live = |more: &str| {
        let config = load(folder.path(), &format!("{library}{more}"));
        config.places[1].options.live
    };
    assert!(is_live(""));
    assert!(!is_live(IMAGE));
}
