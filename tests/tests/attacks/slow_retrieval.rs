//! Slow retrieval, endless data and torn answers, over real mutual TLS.
//!
//! Method: a server that is genuine in all but its pace, and the agent's own HTTP client, updater
//! and store on disk. Catches: a time-out on each read alone, which a drip never meets; a bound that
//! is checked once all is read; a file stored before it is whole. The pauses are real and short.

use std::io::Read;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ampoule_agent::disk::Disk;
use ampoule_agent::net::{HttpNetwork, HttpSettings, Pace};
use ampoule_agent::ports::Network;
use ampoule_agent::trust::{MetadataStore, Updater};
use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::UpdateStart;
use ampoule_tests::http::{Fault, HttpServer};
use ampoule_tests::sim::{DAWN, RepositorySimulator, Tree};
use ampoule_tests::tls::Pki;

/// A device that knows what is fast enough, in the hands of a slow network.
struct Device {
    folder: tempfile::TempDir,
    network: HttpNetwork,
    _server: HttpServer,
}

const DRIP: Fault = Fault::Drip {
    pause: Duration::from_millis(100),
};
/// Far more than the pause of a drip, also where the machine has other work.
const STALL: Duration = Duration::from_secs(3);
/// Far more than a refusal takes, less than the drip of the smallest file.
const PATIENCE: Duration = Duration::from_secs(40);

impl Device {
    /// Which meets `fault` at each path that ends in `file`.
    fn facing(tree: &Tree, file: &'static str, fault: Fault) -> Self {
        let pki = Pki::new("pump-0001");
        let served = tree.clone();
        let source = move |path: &str| served.get(path.strip_prefix("tuf/image/")?).cloned();
        let faults = move |path: &str| {
            if path.ends_with(file) {
                fault
            } else {
                Fault::None
            }
        };
        let server = HttpServer::start_with(source, faults, pki.wrap());
        let settings = HttpSettings {
            url: format!("https://{}", server.address()),
            connect_timeout: PATIENCE,
            stall_timeout: STALL,
            bytes_per_sec_max: None,
            pace: Pace {
                bytes_per_sec_min: 2_000,
                window: Duration::from_secs(1),
            },
        };
        let network = HttpNetwork::new(settings, &pki.identity());
        let folder = tempfile::tempdir().expect("a folder");
        let device = Self {
            folder,
            network,
            _server: server,
        };
        device
            .store()
            .init(&tree["metadata/1.root.json"])
            .expect("a root");
        device
    }

    fn store(&self) -> MetadataStore {
        MetadataStore::open(Rc::new(Disk), self.folder.path()).expect("a folder")
    }

    /// The code of a refusal, or `done`.
    fn refresh(&mut self) -> &'static str {
        let started = Instant::now();
        let store = self.store();
        let mut updater = Updater::new(&store, &mut self.network, Lengths::DEFAULT);
        let now = UtcTime::parse(DAWN).expect("a time");
        let outcome = updater.refresh(UpdateStart::new(Some(now), UtcTime::EPOCH));
        assert!(
            started.elapsed() < PATIENCE,
            "it hung for {:?}",
            started.elapsed()
        );
        match outcome {
            Ok(_) => "done",
            Err(error) => {
                assert_eq!(error.guilty(), Guilty::Network, "{error}");
                error.code()
            }
        }
    }

    fn trusts(&self) -> Vec<&'static str> {
        let all = [
            "root.json",
            "timestamp.json",
            "snapshot.json",
            "targets.json",
        ];
        all.into_iter()
            .filter(|name| self.folder.path().join(name).exists())
            .collect()
    }
}

fn tree() -> Tree {
    let mut repo = RepositorySimulator::new();
    repo.add_target("file", &vec![7; 100_000]);
    repo.release();
    repo.tree
}

#[test]
fn none_and_all_is_well() {
    let mut device = Device::facing(&tree(), "nothing", Fault::None);
    assert_eq!(device.refresh(), "done");
    assert_eq!(device.trusts().len(), 4);
}

#[test]
fn of_metadata_by_a_drip() {
    for (file, trusted) in [
        ("timestamp.json", 1),
        ("2.snapshot.json", 2),
        ("2.targets.json", 3),
    ] {
        let mut device = Device::facing(&tree(), file, DRIP);
        assert_eq!(device.refresh(), "slow-retrieval", "{file}");
        assert_eq!(device.trusts().len(), trusted, "{file}");
    }
}

#[test]
fn of_metadata_by_silence() {
    let mut device = Device::facing(&tree(), "timestamp.json", Fault::Stall);
    assert_eq!(device.refresh(), "timeout");
    assert_eq!(device.trusts(), ["root.json"]);
}

#[test]
fn endless_metadata() {
    for (file, trusted) in [
        ("2.root.json", 1),
        ("timestamp.json", 1),
        ("2.targets.json", 3),
    ] {
        let mut tree = tree();
        tree.entry(format!("metadata/{file}")).or_default();
        let mut device = Device::facing(&tree, file, Fault::Endless);
        assert_eq!(device.refresh(), "answer-too-long", "{file}");
        assert_eq!(device.trusts().len(), trusted, "{file}");
    }
}

#[test]
fn torn_metadata() {
    let mut device = Device::facing(&tree(), "2.snapshot.json", Fault::Torn);
    let code = device.refresh();
    assert!(
        ["connection", "http", "download-truncated"].contains(&code),
        "{code}"
    );
    assert_eq!(device.trusts(), ["root.json", "timestamp.json"]);
}

#[test]
fn a_server_that_is_down_is_no_missing_file() {
    let mut device = Device::facing(&tree(), "timestamp.json", Fault::Status(503));
    assert_eq!(device.refresh(), "server-failed");
    assert_eq!(device.trusts(), ["root.json"]);
}

#[test]
fn of_a_target() {
    let tree = tree();
    let name = tree
        .keys()
        .find_map(|path| path.strip_prefix("targets/"))
        .expect("a target");
    for (fault, code) in [
        (DRIP, "slow-retrieval"),
        (Fault::Stall, "timeout"),
        (Fault::Torn, "download-truncated"),
    ] {
        let mut device = Device::facing(&tree, "file", fault);
        let started = Instant::now();
        let mut bytes = Vec::new();
        let read = device
            .network
            .target(name, 0, 100_000)
            .and_then(|mut body| Ok(body.read_to_end(&mut bytes)?));
        let error = read.expect_err("this never comes to an end in time");
        assert!(started.elapsed() < PATIENCE, "{fault:?} hung");
        let torn = matches!(fault, Fault::Torn) && ["connection", "http"].contains(&error.code());
        assert!(error.code() == code || torn, "{fault:?}: {}", error.code());
    }
}
