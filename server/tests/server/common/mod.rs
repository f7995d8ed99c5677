//! A server, its folder, its authority, a published tree, and devices: all real, on loopback.
//!
//! The server is the binary itself; the client is rustls with a few lines of HTTP/1.1, so that a
//! test can stall, cut and resume where it likes.

pub mod bucket;
pub mod client;
pub mod enrol;
pub mod people;
pub mod tree;

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ampoule_protocol::device::{Installed, Inventory, Outcome, RECEIPT_TYPE, Receipt};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::{ComponentName, DeviceId, HardwareId, ProductName};
use ampoule_protocol::release::ReleaseVersion;
use ampoule_protocol::sign;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;

use self::client::Client;
use self::tree::Tree;

pub const BINARY: &str = env!("CARGO_BIN_EXE_ampoule-server");

/// A folder with an authority, a tree and a configuration; no server runs yet.
pub struct World {
    folder: tempfile::TempDir,
    pub tree: Tree,
    /// More lines for a section of `server.toml`.
    pub devices: String,
    pub timestamp: String,
    pub store: String,
    pub limits: String,
    /// Whole sections: for a server that directs a fleet, that lets devices enrol.
    pub director: String,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = run(&["dev-ca", "--dir", text(folder.path())]);
        assert!(output.status.success(), "{}", said(&output));
        let tree = Tree::publish(&folder.path().join("published"));
        std::fs::write(
            folder.path().join("timestamp.key"),
            tree::key(2).to_pkcs8_pem().as_bytes(),
        )
        .unwrap();
        let (devices, timestamp, store, limits, director) = Default::default();
        Self {
            folder,
            tree,
            devices,
            timestamp,
            store,
            limits,
            director,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn config(&self) -> PathBuf {
        let Self {
            devices,
            timestamp,
            store,
            limits,
            director,
            ..
        } = self;
        let config = format!(
            r#"[devices]
listen = "127.0.0.1:0"
certificate = "server.pem"
key = "server.key"
client_ca = "ca.pem"
{devices}
[admin]
socket = "admin.sock"
[tree]
path = "published"
[timestamp]
key = "timestamp.key"
{timestamp}
[store]
path = "state"
{store}
[limits]
{limits}
{director}
"#
        );
        let path = self.path("server.toml");
        std::fs::write(&path, config).unwrap();
        path
    }

    /// Issues a certificate, enrols the device, and gives it.
    pub fn enroll(&self, device: &str) -> Device {
        self.enroll_with(device, &[])
    }

    pub fn enroll_with(&self, device: &str, more: &[&str]) -> Device {
        let dir = tempfile::tempdir_in(self.folder.path()).unwrap().keep();
        let config = self.config();
        let mut args = vec![
            "enroll",
            "--config",
            text(&config),
            "--dir",
            text(&dir),
            device,
        ];
        args.extend(more);
        let output = run(&args);
        assert!(output.status.success(), "{}", said(&output));
        Device {
            id: DeviceId::parse(device).unwrap(),
            dir,
        }
    }

    pub fn start(&self) -> Server {
        Server::start(&self.config())
    }
}

/// A running server; killed when dropped.
pub struct Server {
    pub child: Child,
    pub address: SocketAddr,
    /// Where devices enrol, if they may.
    pub enrolment: Option<SocketAddr>,
    pub operators: Option<SocketAddr>,
    log: PathBuf,
}

impl Server {
    pub fn start(config: &Path) -> Self {
        Self::try_start(config).unwrap_or_else(|said| panic!("the server did not start: {said}"))
    }

    pub fn try_start(config: &Path) -> Result<Self, String> {
        Self::try_start_with(config, &[])
    }

    /// With these variables in its environment.
    pub fn try_start_with(config: &Path, variables: &[(&str, &str)]) -> Result<Self, String> {
        let log = config.with_extension("log");
        let mut child = Command::new(BINARY)
            .args(["run", "--config", text(config)])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let (mut enrolment, mut operators) = (None, None);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some(address) = line.strip_prefix("enrolling on ") {
                enrolment = Some(address.parse().unwrap());
            }
            if let Some(address) = line.strip_prefix("operators on ") {
                operators = Some(address.parse().unwrap());
            }
            if let Some(address) = line.strip_prefix("listening on ") {
                return Ok(Self {
                    address: address.parse().unwrap(),
                    enrolment,
                    operators,
                    child,
                    log,
                });
            }
        }
        child.wait().unwrap();
        Err(std::fs::read_to_string(log).unwrap())
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// What was said on standard error so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for the end and gives what was said on standard error.
    pub fn ended(mut self) -> (Option<i32>, String) {
        let deadline = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let said = self.said();
        (status.code(), said)
    }

    pub fn stop(self) -> String {
        self.signal("TERM");
        let (code, said) = self.ended();
        assert_eq!(code, Some(0), "{said}");
        said
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A device's identity.
pub struct Device {
    pub id: DeviceId,
    pub dir: PathBuf,
}

impl Device {
    pub fn client(&self, server: &Server) -> Client {
        Client::new(server.address, &self.dir)
    }

    pub fn inventory(&self, seq: u64) -> Vec<u8> {
        let inventory = Inventory {
            device: self.id.clone(),
            product: ProductName::parse("infusion-pump").unwrap(),
            hardware: HardwareId::parse("pump-mk3").unwrap(),
            components: vec![Installed {
                name: ComponentName::parse("rootfs").unwrap(),
                version: None,
                sha256: Some(Digest::of(b"image")),
            }],
            floor: RollbackIndex(16),
            agent_version: "0.1.0".into(),
            patch_caps: vec!["code".into(), "xz".into()],
            time: UtcTime::EPOCH,
            seq,
            boot_probes: Vec::new(),
        };
        serde_json::to_vec(&inventory).unwrap()
    }

    pub fn receipt(&self, seq: u64) -> Vec<u8> {
        self.receipt_of(seq, None, Outcome::Committed)
    }

    /// How an update to `release` ended.
    pub fn receipt_of(&self, seq: u64, release: Option<&str>, outcome: Outcome) -> Vec<u8> {
        let receipt = Receipt {
            kind: RECEIPT_TYPE.into(),
            format: 1,
            device: self.id.clone(),
            seq,
            product: ProductName::parse("infusion-pump").unwrap(),
            hardware: HardwareId::parse("pump-mk3").unwrap(),
            outcome,
            release: release.map(|version| ReleaseVersion::parse(version).unwrap()),
            before: Vec::new(),
            after: Vec::new(),
            floor: RollbackIndex(17),
            via: None,
            bytes_fetched: seq,
            attempts: 1,
            gates: Vec::new(),
            health: Vec::new(),
            code: None,
            detail: None,
            started: UtcTime::EPOCH,
            finished: UtcTime::EPOCH,
            bake_secs: 0,
            clock_sane: true,
        };
        let pem = std::fs::read_to_string(self.dir.join("device.key")).unwrap();
        receipt.sign(&*sign::from_pkcs8_pem(&pem).unwrap()).unwrap()
    }
}

pub fn run(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).output().unwrap()
}

pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Asks until it is so; nothing here waits for a fixed time.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
