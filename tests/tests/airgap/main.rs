//! A device that never sees a network: a bundle brings releases, a file takes receipts back.
//!
//! Method: the files of `examples/first-update`, the real commands, one folder. Nothing listens
//! anywhere. After each step the test asserts what the device runs and what waits for the server.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Everything in one folder: the signer's workspace, the server's store, the device.
struct Site(tempfile::TempDir);

impl Site {
    /// The product is set up, release 1.0.0 is published, the device is enrolled.
    fn new() -> Self {
        let site = Self(tempfile::tempdir().expect("a folder"));
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/first-update");
        for entry in std::fs::read_dir(examples).expect("the examples") {
            let entry = entry.expect("an entry");
            let to = site.path().join(entry.file_name());
            std::fs::copy(entry.path(), to).expect("copied");
        }
        for (name, seed) in [("pump-1.img", 1), ("pump-2.img", 2)] {
            site.write(name, &image(seed));
        }
        site.write("slot-a.img", b"as it left the factory");
        site.signer("init ceremony.toml -w release --generate keys --work-factor 1");
        site.signer("-w release sign --all --yes -k keys/alice.key -k keys/bob.key");
        site.release("release-1.toml");
        let root = site.read("release/published/metadata/1.root.json");
        site.write("1.root.json", &root);
        site.server("dev-ca --dir pki");
        site.server("enroll --config server.toml --dir identity pump-0042");
        site
    }

    fn release(&self, file: &str) {
        self.signer(&format!("-w release add {file}"));
        self.signer("-w release delta");
        self.signer("-w release sign --all --yes -k keys/engineer.key -k keys/safety.key");
        self.signer("-w release publish -k keys/snapshot.key -k keys/timestamp.key");
    }

    fn bundle(&self, output: &str, more: &str) {
        let order = "-w release bundle infusion-pump --hardware pump-mk3 -k keys/snapshot.key";
        self.signer(&format!("{order} {more} {output}"));
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.file(name), bytes).expect("written");
    }

    fn run(&self, program: &str, line: &str) -> Output {
        Command::new(program)
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env("AMPOULE_PASSPHRASE_FILE", self.file("passphrase"))
            .output()
            .expect("it runs")
    }

    fn signer(&self, line: &str) {
        succeeded(
            line,
            &self.run(env!("CARGO_BIN_EXE_signer-under-test"), line),
        );
    }

    fn server(&self, line: &str) -> String {
        succeeded(
            line,
            &self.run(env!("CARGO_BIN_EXE_server-under-test"), line),
        )
    }

    /// The answer of a command that ends well, as JSON.
    fn agent(&self, line: &str) -> Value {
        let line = format!("--config agent.toml --json {line}");
        let output = self.run(env!("CARGO_BIN_EXE_agent-under-test"), &line);
        let text = succeeded(&line, &output);
        serde_json::from_str(&text).expect("one JSON document")
    }

    /// The code with which a command is refused.
    fn refusal(&self, line: &str) -> String {
        let line = format!("--config agent.toml --json {line}");
        let output = self.run(env!("CARGO_BIN_EXE_agent-under-test"), &line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        let told: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
        let fault = [&told["fault"], &told["error"]];
        let code = fault.iter().find_map(|fault| fault["code"].as_str());
        code.expect("a code").to_owned()
    }

    /// From a bundle to the verdict: installs, lets the boot loader choose, finishes the trial.
    fn update_from(&self, bundle: &str) -> Value {
        let armed = self.agent(&format!("install --bundle {bundle}"));
        assert_eq!(armed["result"], "restart-due");
        self.agent("boot");
        self.agent(&format!("install --bundle {bundle}"))
    }
}

fn succeeded(line: &str, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Bytes that do not repeat, much the same for every seed: a delta between two pays.
fn image(seed: u8) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    let mut image = Vec::new();
    while image.len() < 300_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image.extend_from_slice(&state.to_le_bytes());
    }
    image[150_000..150_100].fill(seed);
    image
}

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
