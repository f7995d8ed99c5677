//! A site in one folder, and the real commands in it: the files of `examples/first-update`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Everything in one folder: the signer's workspace, the server's store, the device.
pub(crate) struct Site(tempfile::TempDir);

impl Site {
    /// The product is set up, release 1.0.0 is published, the device is enrolled.
    pub(crate) fn new() -> Self {
        Self::bent(|_| {})
    }

    /// The same, where the files of the example are bent before anything is made of them.
    pub(crate) fn bent(bend: impl FnOnce(&Self)) -> Self {
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
        bend(&site);
        site.signer("init ceremony.toml -w release --generate keys --work-factor 1");
        site.signer("-w release sign --all --yes -k keys/alice.key -k keys/bob.key");
        site.release("release-1.toml");
        let root = site.read("release/published/metadata/1.root.json");
        site.write("1.root.json", &root);
        site.server("dev-ca --dir pki");
        site.server("enroll --config server.toml --dir identity pump-0042");
        site
    }

    pub(crate) fn release(&self, file: &str) {
        self.signer(&format!("-w release add {file}"));
        self.signer("-w release delta");
        self.signer("-w release sign --all --yes -k keys/engineer.key -k keys/safety.key");
        self.signer("-w release publish -k keys/snapshot.key -k keys/timestamp.key");
    }

    pub(crate) fn bundle(&self, output: &str, more: &str) {
        let order = "-w release bundle infusion-pump --hardware pump-mk3 -k keys/snapshot.key";
        self.signer(&format!("{order} {more} {output}"));
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.file(name), bytes).expect("written");
    }

    pub(crate) fn run(&self, program: &str, line: &str) -> Output {
        Command::new(program)
            .args(line.split_whitespace())
            .current_dir(self.path())
            .env("AMPOULE_PASSPHRASE_FILE", self.file("passphrase"))
            .output()
            .expect("it runs")
    }

    pub(crate) fn signer(&self, line: &str) {
        succeeded(
            line,
            &self.run(env!("CARGO_BIN_EXE_signer-under-test"), line),
        );
    }

    pub(crate) fn server(&self, line: &str) -> String {
        succeeded(
            line,
            &self.run(env!("CARGO_BIN_EXE_server-under-test"), line),
        )
    }

    /// The answer of a command that ends well, as JSON.
    pub(crate) fn agent(&self, line: &str) -> Value {
        let line = format!("--config agent.toml --json {line}");
        let output = self.run(env!("CARGO_BIN_EXE_agent-under-test"), &line);
        let text = succeeded(&line, &output);
        serde_json::from_str(&text).expect("one JSON document")
    }

    /// The code with which a command is refused.
    pub(crate) fn refusal(&self, line: &str) -> String {
        let line = format!("--config agent.toml --json {line}");
        let output = self.run(env!("CARGO_BIN_EXE_agent-under-test"), &line);
        assert_eq!(output.status.code(), Some(1), "{line}");
        let told: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
        let fault = [&told["fault"], &told["error"]];
        let code = fault.iter().find_map(|fault| fault["code"].as_str());
        code.expect("a code").to_owned()
    }

    /// From a bundle to the verdict: installs, lets the boot loader choose, finishes the trial.
    pub(crate) fn update_from(&self, bundle: &str) -> Value {
        let armed = self.agent(&format!("install --bundle {bundle}"));
        assert_eq!(armed["result"], "restart-due");
        self.agent("boot");
        self.agent(&format!("install --bundle {bundle}"))
    }
}

pub(crate) fn succeeded(line: &str, output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Bytes that do not repeat, much the same for every seed: a delta between two pays.
pub(crate) fn image(seed: u8) -> Vec<u8> {
    let mut state = 0x1234_5678_u32;
    let mut image = Vec::new();
    while image.len() < 300_000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image.extend_from_slice(&state.to_le_bytes());
    }
    image[150_000..150_100].fill(seed);
    image
}
