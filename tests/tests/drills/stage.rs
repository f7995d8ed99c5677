//! A site, its server, and one device.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use ampoule_protocol::digest::Digest;
use serde_json::Value;

use crate::site::{Site, succeeded};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// What the examples listen on.
const EXAMPLE: &str = "127.0.0.1:8443";

/// Unix time.
fn now_secs() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Asks until it is so; nothing here waits for a fixed time.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A running server; killed when dropped.
pub(crate) struct Running {
    child: Child,
    address: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The product, its keys, its server and its device; release 1.0.0 runs.
pub(crate) struct Stage {
    pub(crate) site: Site,
    /// `agent.toml`, before it is told where the server listens.
    agent: String,
    /// Whoever listens where the device asks.
    server: Option<Running>,
}

impl Stage {
    /// A device that lives alone.
    pub(crate) fn alone() -> Self {
        let stage = Self::of(Site::new());
        stage.first()
    }

    /// A device in a fleet, whose director offers it 1.0.0.
    pub(crate) fn in_fleet() -> Self {
        let more = |site: &Site, file: &str, lines: &str| {
            let text = String::from_utf8(site.read(file)).expect("text");
            site.write(file, format!("{text}\n{lines}").as_bytes());
        };
        let site = Site::bent(|site| {
            more(
                site,
                "ceremony.toml",
                "[director]\nonline = [\"director.pub\"]",
            );
            let section = "[director]\nkey = \"keys/director.key\"\nroots = \"release/director\"";
            more(site, "server.toml", section);
            more(
                site,
                "agent.toml",
                "[fleet]\ndirector_root = \"director.root.json\"",
            );
        });
        let root = site.read("release/director/1.root.json");
        site.write("director.root.json", &root);
        let mut stage = Self::of(site);
        stage.place("server.toml");
        stage.offer("server.toml", "1.0.0", "release-1.toml");
        stage.first()
    }

    fn of(site: Site) -> Self {
        let agent = String::from_utf8(site.read("agent.toml")).expect("text");
        let mut stage = Self {
            site,
            agent,
            server: None,
        };
        stage.serve("server.toml");
        stage
    }

    fn first(self) -> Self {
        self.updates_to("1.0.0");
        self
    }

    /// Ends whoever listens.
    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// Ends whoever listens, and starts the server of `config` in its place.
    pub(crate) fn serve(&mut self, config: &str) {
        self.server = None;
        let server = self.try_serve(config);
        self.server = Some(server.unwrap_or_else(|said| panic!("{config}: {said}")));
    }

    fn try_serve(&self, config: &str) -> Result<Running, String> {
        let text = String::from_utf8(self.site.read(config)).expect("text");
        let serving = format!("serving-{config}");
        let text = text.replace(EXAMPLE, "127.0.0.1:0");
        // The tests ask as often as they like.
        let limits = "[limits]\nrequests_per_minute = 1000000\nrequests_burst = 1000000\n";
        let text = format!("{text}\n{limits}");
        self.site.write(&serving, text.as_bytes());
        let log = std::fs::File::create(self.site.file("server.log")).expect("a file");
        let mut child = Command::new(env!("CARGO_BIN_EXE_server-under-test"))
            .args(["run", "--config", &serving])
            .current_dir(self.site.path())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it runs");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        for line in out.lines() {
            let line = line.expect("text");
            if let Some(address) = line.strip_prefix("listening on ") {
                let address = address.to_owned();
                let text = self.agent.replace(EXAMPLE, &address);
                self.site.write("agent.toml", text.as_bytes());
                return Ok(Running { child, address });
            }
        }
        let _ = child.wait();
        Err(String::from_utf8_lossy(&self.site.read("server.log")).into_owned())
    }

    /// Where the server listens now.
    pub(crate) fn address(&self) -> &str {
        &self.server.as_ref().expect("one runs").address
    }

    /// Changes what the device is told about itself.
    pub(crate) fn configure(&mut self, bend: impl FnOnce(String) -> String) {
        self.agent = bend(std::mem::take(&mut self.agent));
        let text = self.agent.replace(EXAMPLE, self.address());
        self.site.write("agent.toml", text.as_bytes());
    }

    /// The fleet of the server of `config`, which is about to run, learns of the device: where it is from
    /// its operator, what it is from itself.
    pub(crate) fn place(&mut self, config: &str) {
        self.serve(config);
        self.site.server(&format!(
            "device tag pump-0042 region=EU --config serving-{config}"
        ));
        // Versions of a director are times: where it decided before, the device calls it old.
        until("the clock is past what the device has seen", || {
            self.director_seen() < now_secs()
        });
        let _ = self.other_agent("agent.toml", "install");
    }

    /// The version of the director's timestamp that the device trusts.
    fn director_seen(&self) -> u64 {
        let stored = std::fs::read(self.site.file("data/director/timestamp.json"));
        let stored = stored
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let version = stored.and_then(|stored| stored["signed"]["version"].as_u64());
        version.unwrap_or(0)
    }

    /// Offers a release to all devices of the server of `config`, which runs.
    pub(crate) fn offer(&self, config: &str, version: &str, file: &str) {
        let sha256 = Digest::of(&self.site.read(file));
        let plan = format!(
            "name = \"to-{version}\"\nrelease = \"infusion-pump/release-{version}.toml\"\n\
             sha256 = \"{sha256}\"\nauthor = \"alice\"\nfilter = 'all'\n[[step]]\nshare = \"100%\"\n"
        );
        self.site.write("plan.toml", plan.as_bytes());
        self.site.server(&format!(
            "rollout create plan.toml --config serving-{config}"
        ));
        until("it is offered", || {
            let output = self.other_agent("agent.toml", "check");
            let told = serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default();
            told["update"]["version"] == version
        });
    }

    /// The version that the device would take now.
    pub(crate) fn offered(&self) -> Option<String> {
        let told = self.site.agent("check");
        told["update"]["version"].as_str().map(str::to_owned)
    }

    /// One update to its end.
    pub(crate) fn updates_to(&self, version: &str) {
        let armed = self.site.agent("install");
        assert_eq!(armed["result"], "restart-due", "{armed}");
        self.site.agent("boot");
        let done = self.site.agent("install");
        assert_eq!(
            (&done["result"], &done["version"]),
            (&"committed".into(), &version.into())
        );
    }

    /// The code by which the device refuses what it is served, and that it runs what it ran.
    pub(crate) fn refuses(&self) -> String {
        let before = self.runs();
        let code = self.site.refusal("check");
        assert_eq!(self.runs(), before, "a refusal changes nothing");
        code
    }

    /// What stands in the slot that runs.
    pub(crate) fn runs(&self) -> Value {
        self.site.agent("status")["components"].clone()
    }

    /// Signs with these holders' keys; those of the ceremony lie in `keys/`.
    pub(crate) fn sign(&self, holders: &[&str]) {
        let keys = holders.iter().map(|name| format!(" -k keys/{name}.key"));
        let keys: String = keys.collect();
        self.site
            .signer(&format!("-w release sign --all --yes{keys}"));
    }

    /// Publishes with the keys of snapshot and timestamp that are good now.
    pub(crate) fn publish(&self, holders: &[&str]) {
        let keys = holders.iter().map(|name| format!(" -k keys/{name}.key"));
        let keys: String = keys.collect();
        self.site.signer(&format!("-w release publish{keys}"));
    }

    /// A new key, as its holder makes it.
    pub(crate) fn new_key(&self, name: &str) {
        self.site
            .signer(&format!("key generate keys/{name}.key --unencrypted"));
    }

    /// Replaces a holder of a role by another, in a draft.
    pub(crate) fn rotate(&self, role: &str, gone: &str, new: &str) {
        self.site.signer(&format!(
            "-w release rotate {role} --remove {gone} --add keys/{new}.pub"
        ));
    }

    /// Drafts, signs and publishes release 2.0.0.
    pub(crate) fn release_two(&self, holders: [&str; 2], online: [&str; 2]) {
        self.site.signer("-w release add release-2.toml");
        self.site.signer("-w release delta");
        self.sign(&holders);
        self.publish(&online);
    }

    /// A command of the server's program.
    pub(crate) fn server(&self, line: &str) -> String {
        self.site.server(line)
    }

    /// The agent with another configuration, as JSON.
    pub(crate) fn other_agent(&self, config: &str, line: &str) -> Output {
        let line = format!("--config {config} --json {line}");
        let program = env!("CARGO_BIN_EXE_agent-under-test");
        self.site.run(program, &line)
    }

    /// The same, where it ends well.
    pub(crate) fn other_agent_does(&self, config: &str, line: &str) -> Value {
        let output = self.other_agent(config, line);
        serde_json::from_str(&succeeded(line, &output)).expect("one JSON document")
    }
}
