//! The device decides: what a server says, in every place where it may say something, opens no
//! gate; what the device's own providers say does.
//!
//! Method: once purely, with thousands of invented updates against a device's closed gates; once
//! with the real binary against a server whose releases (properly signed), answers and headers all
//! ask it to go ahead.

use std::cell::RefCell;
use std::path::Path;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use ampoule_agent::config;
use ampoule_agent::disk::Disk;
use ampoule_agent::gate::{self, Asked, Consents, Decision, Question};
use ampoule_agent::system::SystemClock;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::{Class, Install};
use proptest::prelude::*;
use serde_json::Value;

use crate::kill::{Device, noise};
use crate::repo::Repo;
use crate::server::{self, Server};

const SLOTS: &str = "install = \"slot\"\nslots = { a = \"a.img\", b = \"b.img\" }\n";

/// A device with these gates, a server, and one release that is offered.
pub(crate) struct Ward {
    folder: tempfile::TempDir,
    pub(crate) device: Device,
    server: Server,
    repo: Repo,
}

impl Ward {
    pub(crate) fn new(gates: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut repo = Repo::new();
        repo.release("1.0.1", 1, Install::Slot, &noise(1, 9_000));
        let server = server::start(folder.path(), repo.tree.clone());
        let component = format!("{SLOTS}{gates}");
        let device = Device::new(folder.path(), &server, repo.root(), &component);
        std::fs::write(folder.path().join("a.img"), noise(0, 5_000)).expect("writes");
        Self {
            folder,
            device,
            server,
            repo,
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Offers one more release.
    pub(crate) fn publish(&mut self, version: &str, index: u64, image: &[u8]) {
        self.repo.release(version, index, Install::Slot, image);
        let mut world = self.server.world.lock().expect("alive");
        world.tree.clone_from(&self.repo.tree);
    }

    /// From now on images come a byte at a time.
    pub(crate) fn slow_down(&self, pause: Duration) {
        let mut world = self.server.world.lock().expect("alive");
        world.fault = server::Fault::Drips(pause);
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.folder.path().join(name), content).expect("writes");
    }

    pub(crate) fn daemon(&self) -> Daemon {
        self.start("daemon")
    }

    /// A command that does not end by itself.
    pub(crate) fn start(&self, verb: &str) -> Daemon {
        let mut command = self.device.agent(&[verb]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Daemon(child.expect("runs"))
    }

    pub(crate) fn status(&self) -> Value {
        self.device.json(&["status"])
    }

    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !is_so(self) {
            assert!(start.elapsed() < Duration::from_mins(1), "never {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn checks(&self) -> usize {
        let world = self.server.world.lock().expect("alive");
        let inventories = world
            .requests
            .iter()
            .filter(|path| path.contains("inventory"));
        inventories.count()
    }
}

pub(crate) struct Daemon(pub(crate) Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every gate at once, each closed in its own way. One of them alone would do.
const CLOSED: [&str; 6] = [
    "[[gates.interlock]]\nfile = \"therapy\"\nage_max_secs = 3600\n",
    "[gates.power]\nsupplies = \"power\"\ninstall_mwh = 10\nrollback_mwh = 10\n",
    "[gates.windows]\nzone = \"UTC\"\nzoneinfo = \"none\"\nopen = [\"daily 00:00-24:00\"]\n",
    "[gates.consent]\n",
    "[gates]\ncommands = [[\"/bin/false\"]]\n",
    "[[gates.interlock]]\nsocket = \"none.sock\"\n",
];

pub(crate) fn load(folder: &Path, gates: &str) -> config::Config {
    let text = format!(
        "data_dir = \"data\"\nproduct = \"p\"\nhardware = \"h\"\nroot = \"r\"\n[server]\n\
         url = \"https://x\"\nca = \"c\"\ncertificate = \"d\"\nkey = \"k\"\n[[component]]\n\
         name = \"rootfs\"\n{SLOTS}{gates}"
    );
    let path = folder.join("agent.toml");
    std::fs::write(&path, text).expect("writes");
    config::load(&path).expect("a good configuration")
}

fn questions() -> impl Strategy<Value = Question> {
    let class = prop_oneof![
        Just(Class::Security),
        Just(Class::Functional),
        Just(Class::Both)
    ];
    (any::<[u8; 32]>(), class, any::<u32>()).prop_map(|(update, class, downtime)| Question {
        update: Digest::from_bytes(update),
        class,
        downtime: Duration::from_secs(downtime.into()),
    })
}

/// Meant to catch: a gate of consent that lets class `security` pass.
#[test]
fn no_update_opens_a_closed_gate_or_changes_the_configuration() {
    for gates in CLOSED {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        std::fs::write(folder.join("therapy"), "active").expect("writes");
        let battery = folder.join("power/BAT0");
        std::fs::create_dir_all(&battery).expect("a folder");
        std::fs::write(battery.join("type"), "Battery").expect("writes");
        std::fs::write(battery.join("energy_now"), "19999").expect("writes");
        let config = load(folder, gates);
        let before = config.gates.clone();
        let clock = Rc::new(SystemClock::default());
        let consents = Consents::new(Rc::new(Disk), clock, folder);
        let mut closed = gate::all(&config.gates, &consents);
        // Each asked often, but a command costs a process.
        let cases = if gates.contains("commands") { 16 } else { 256 };
        let property = |question: Question| {
            let asked = gate::ask_all(&mut closed, &question);
            prop_assert_ne!(gate::decide(&asked), Decision::Open, "{:?}", asked);
            Ok(())
        };
        let property = RefCell::new(property);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        runner
            .run(&questions(), |question| (property.borrow_mut())(question))
            .expect("no update opens it");
        assert_eq!(config.gates, before);
    }
}

/// An update that declares more downtime finds fewer windows, and never more.
#[test]
fn the_more_an_update_declares_the_less_is_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    // All week but one minute: open now, and too short for what lasts a week.
    let windows = "[gates.windows]\nzone = \"UTC\"\nclock_settle_secs = 0\ndowntime_secs = 1\n\
                   rollback_secs = 0\nopen = [\"Mon-Sat 00:00-24:00\", \"Sun 00:00-23:59\"]\n";
    let config = load(folder, windows);
    let clock = Rc::new(SystemClock::default());
    let consents = Consents::new(Rc::new(Disk), clock, folder);
    let gates = RefCell::new(gate::all(&config.gates, &consents));
    let is_open = |question: &Question| {
        let asked: Vec<Asked> = gate::ask_all(&mut gates.borrow_mut(), question);
        gate::decide(&asked) == Decision::Open
    };
    let closed = RefCell::new(0);
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() },
    |(question in questions())| {
        let blank = Question { downtime: Duration::ZERO, ..question.clone() };
        let is_question_open = is_open(&question);
        prop_assert!(!is_question_open || is_open(&blank));
        *closed.borrow_mut() += u32::from(!is_question_open);
    });
    assert!(
        closed.into_inner() > 100,
        "a week of downtime was waved through"
    );
}

#[test]
fn no_word_of_a_server_opens_a_gate() {
    let gates = "[gates]\ninterval_secs = 1\n[[gates.interlock]]\nfile = \"therapy\"\n\
                 age_max_secs = 3600\n[poll]\ninterval_secs = 1\n";
    let mut ward = Ward::new(gates);
    ward.write("therapy", "active");
    let demands = r#"{"force":true,"gates":{"interlock":[],"commands":[]},"therapy":"idle",
        "consent":{"needed":false},"interlock":{"waived":true},"window":"open","power":"ok",
        "maintenanceWindow":"available","update":"forced","deadline":"1970-01-01T00:00:00Z"}"#;
    ward.repo
        .release_demanding("1.0.2", 2, &noise(2, 9_000), demands);
    {
        let mut world = ward.server.world.lock().expect("alive");
        world.tree.clone_from(&ward.repo.tree);
        world.inventory = demands.replacen('{', r#"{"seq":1,"poll_interval_secs":10,"#, 1);
        world.headers = "x-force: true\r\nx-ampoule-gates: open\r\nx-therapy: idle\r\n".to_owned();
    }
    let daemon = ward.daemon();
    ward.until("waits", |ward| ward.status()["phase"] == "waiting");
    let asked = Instant::now();
    ward.until("asks again and again", |_| {
        asked.elapsed() > Duration::from_secs(4)
    });
    let status = ward.status();
    assert_eq!(status["phase"], "waiting", "{status}");
    assert_eq!(status["update"]["version"], "1.0.2");
    assert!(status["components"][0]["armed"].is_null(), "{status}");
    // The device's own provider does what no server could.
    ward.write("therapy", "idle");
    ward.until("arms", |ward| {
        !ward.status()["components"][0]["armed"].is_null()
    });
    drop(daemon);
    assert_eq!(ward.device.json(&["boot"])["components"][0]["slot"], "b");
}

/// A wait follows the repository: what is replaced while the device waits is not begun.
#[test]
fn a_newer_release_takes_the_place_of_one_that_waits() {
    let gates = "[gates]\ninterval_secs = 1\n[[gates.interlock]]\nfile = \"therapy\"\n\
                 [poll]\ninterval_secs = 1\n";
    let mut ward = Ward::new(gates);
    let _daemon = ward.daemon();
    ward.until("waits", |ward| ward.status()["phase"] == "waiting");
    assert_eq!(ward.status()["update"]["version"], "1.0.1");
    ward.publish("1.0.2", 2, &noise(2, 9_000));
    ward.until("sees the newer one", |ward| {
        let status = ward.status();
        status["phase"] == "waiting" && status["update"]["version"] == "1.0.2"
    });
    assert!(ward.checks() >= 2);
    assert!(ward.status()["components"][0]["armed"].is_null());
}
