//! A device's own key is stolen.

use crate::stage::Stage;

const CLONE: &str = "clone.toml";

/// The thief's device: a folder of its own, and this device's certificate and key.
fn clone_of(stage: &Stage) {
    let site = &stage.site;
    std::fs::create_dir(site.file("stolen")).expect("made");
    for name in ["device.pem", "device.key"] {
        site.write(
            &format!("stolen/{name}"),
            &site.read(&format!("identity/{name}")),
        );
    }
    tell_clone(stage);
}

/// Tells it where the server listens now.
fn tell_clone(stage: &Stage) {
    let site = &stage.site;
    let text = String::from_utf8(site.read("agent.toml")).expect("text");
    let text = text
        .replace("identity/device", "stolen/device")
        .replace("\"data\"", "\"clone-data\"")
        .replace("slot-", "clone-slot-")
        .replace("boot.json", "clone-boot.json");
    site.write(CLONE, text.as_bytes());
}

fn clone_is_refused(stage: &Stage) {
    let output = stage.other_agent(CLONE, "check");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("server-forbids"), "{told}");
}

/// Meant to catch: a revoked device that is served, a key that is good beside the one after it.
#[test]
fn a_stolen_device_key_reads_until_it_is_revoked_and_the_device_comes_back_with_a_new_one() {
    let mut stage = Stage::alone();
    stage.release_two(["engineer", "safety"], ["snapshot", "timestamp"]);
    stage.serve("server.toml");
    clone_of(&stage);
    let told = stage.other_agent_does(CLONE, "check");
    assert_eq!(
        told["update"]["version"], "2.0.0",
        "the thief reads: {told}"
    );

    stage.server("device revoke pump-0042 --config serving-server.toml");
    clone_is_refused(&stage);
    assert_eq!(stage.refuses(), "server-forbids", "they are one device");

    // Somebody goes to the device, and brings it a new identity.
    stage.server("enroll --config serving-server.toml --dir new pump-0042");
    for name in ["device.pem", "device.key"] {
        let (new, old) = (format!("new/{name}"), format!("identity/{name}"));
        stage.site.write(&old, &stage.site.read(&new));
    }
    stage.updates_to("2.0.0");
    clone_is_refused(&stage);
    // After a restart too.
    stage.serve("server.toml");
    tell_clone(&stage);
    clone_is_refused(&stage);
    assert_eq!(stage.offered(), None, "nothing is newer");
}
