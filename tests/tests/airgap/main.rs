//! A device that never sees a network: a bundle brings releases, a file takes receipts back.
//!
//! Method: the files of `examples/first-update`, the real commands, one folder. Nothing listens
//! anywhere. After each step the test asserts what the device runs and what waits for the server.

mod site;

use site::{Site, image};

#[test]
fn two_updates_come_by_bundle_and_their_receipts_go_back_in_a_file() {
    let site = Site::new();
    site.bundle("first.bundle", "--device pump-0042");
    let first = site.update_from("first.bundle");
    assert_eq!(
        (&first["result"], &first["version"]),
        (&"committed".into(), &"1.0.0".into())
    );

    site.release("release-2.toml");
    site.bundle("second.bundle", "");
    let second = site.update_from("second.bundle");
    assert_eq!(
        (&second["result"], &second["version"]),
        (&"committed".into(), &"2.0.0".into())
    );
    assert_eq!(second["via"], "delta");
    assert_eq!(site.read("slot-a.img")[..300_000], image(2)[..]);

    let written = site.agent("receipts out.receipts");
    assert_eq!(written["written"], 2);
    site.server("receipts --config server.toml out.receipts --acknowledged back.json");
    let again = "receipts --config server.toml out.receipts --acknowledged again.json";
    site.server(again);
    assert_eq!(site.read("back.json"), site.read("again.json"));
    let done = site.agent("receipts --acknowledged back.json");
    assert_eq!(
        (&done["acknowledged"], &done["waiting"]),
        (&2.into(), &0.into())
    );
    let shown = site.server("device show --config server.toml pump-0042");
    assert!(shown.contains("2.0.0"), "{shown}");
}

#[test]
fn a_bundle_for_others_and_one_that_was_changed_install_nothing() {
    let site = Site::new();
    site.bundle("others.bundle", "--device pump-0666");
    assert_eq!(
        site.refusal("install --bundle others.bundle"),
        "bundle-for-others"
    );
    site.bundle("good.bundle", "");
    let mut bytes = site.read("good.bundle");
    let at = bytes
        .windows(9)
        .position(|nine| nine == b"signed_at")
        .expect("the statement");
    bytes[at + 13] ^= 1;
    site.write("bad.bundle", &bytes);
    assert_eq!(
        site.refusal("install --bundle bad.bundle"),
        "metadata-unsigned"
    );
    site.write("cut.bundle", &site.read("good.bundle")[..20_000]);
    assert_eq!(
        site.refusal("install --bundle cut.bundle"),
        "bundle-unreadable"
    );
    assert_eq!(site.read("slot-a.img"), b"as it left the factory");
    let first = site.update_from("good.bundle");
    assert_eq!(first["result"], "committed");
}

#[test]
fn receipts_that_were_changed_or_are_another_devices_are_not_acknowledged() {
    let site = Site::new();
    site.bundle("first.bundle", "");
    site.update_from("first.bundle");
    site.agent("receipts out.receipts");
    let text = String::from_utf8(site.read("out.receipts")).expect("text");
    let server = env!("CARGO_BIN_EXE_server-under-test");
    for (name, bad) in [
        ("changed", text.replace("committed", "reverted!")),
        ("renamed", text.replace("pump-0042", "pump-0043")),
    ] {
        assert_ne!(text, bad);
        site.write(name, bad.as_bytes());
        let line = format!("receipts --config server.toml {name} --acknowledged none.json");
        let output = site.run(server, &line);
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(!site.file("none.json").exists(), "{name}: half an answer");
    }
}
