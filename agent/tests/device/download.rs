//! Downloads that go wrong, each by the code that the machine decides by.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use ampoule_agent::net::{HttpNetwork, HttpSettings, Identity, NetError, Pace};
use ampoule_agent::ports::{Fetch, Network};
use ampoule_protocol::error::Coded;

use crate::repo::Tree;
use crate::server::{self, Fault, Server};

struct Ground {
    _folder: tempfile::TempDir,
    server: Server,
    network: HttpNetwork,
}

fn image() -> Vec<u8> {
    (0..50_000u32).map(|n| n.to_be_bytes()[3]).collect()
}

fn ground() -> Ground {
    let folder = tempfile::tempdir().expect("a folder");
    let tree = Tree::from([
        ("targets/x.img".to_owned(), image()),
        ("metadata/timestamp.json".to_owned(), vec![b' '; 100]),
    ]);
    let server = server::start(folder.path(), tree);
    let identity = identity(folder.path());
    assert_eq!(identity.device.as_str(), "pump-7");
    let settings = HttpSettings {
        url: format!("https://{}", server.address),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_millis(700),
        bytes_per_sec_max: None,
        pace: Pace {
            bytes_per_sec_min: 10_000,
            window: Duration::from_secs(1),
        },
    };
    let network = HttpNetwork::new(settings, &identity);
    Ground {
        _folder: folder,
        server,
        network,
    }
}

fn identity(folder: &Path) -> Identity {
    let path = |name| folder.join(name);
    Identity::load(&path("device.pem"), &path("device.key"), &path("ca.pem")).expect("our own")
}

impl Ground {
    fn fault(&self, fault: Fault) {
        self.server.world.lock().expect("alive").fault = fault;
    }

    fn read(&mut self, offset: u64) -> Result<Vec<u8>, NetError> {
        let mut bytes = Vec::new();
        let mut body = self.network.target("x.img", offset, 50_000)?;
        body.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn code(&mut self, offset: u64) -> &'static str {
        self.read(offset).expect_err("the server misbehaves").code()
    }
}

#[test]
fn a_download_goes_on_where_it_stopped() {
    let mut ground = ground();
    assert_eq!(ground.read(0).expect("the whole"), image());
    assert_eq!(ground.read(40_000).expect("the rest"), image()[40_000..]);
    let last = ground.server.world.lock().expect("alive").requests.pop();
    assert_eq!(last.as_deref(), Some("/tuf/image/targets/x.img 40000-"));
    ground.fault(Fault::IgnoresRanges);
    assert_eq!(ground.read(40_000).expect("read over"), image()[40_000..]);
}

#[test]
fn an_answer_that_was_not_asked_for_is_refused() {
    let mut ground = ground();
    for (fault, code) in [
        (Fault::WrongRange, "range-mismatch"),
        (Fault::WrongLength, "length-mismatch"),
        (Fault::Truncates(10), "connection"),
    ] {
        ground.fault(fault);
        assert_eq!(ground.code(40_000), code, "{fault:?}");
    }
    ground.fault(Fault::None);
    assert_eq!(ground.read(0).expect("the next one is fine"), image());
}

#[test]
fn a_drip_and_a_stall_are_cut_off() {
    let mut ground = ground();
    let start = Instant::now();
    ground.fault(Fault::Drips(Duration::from_millis(2)));
    assert_eq!(ground.code(0), "slow-retrieval");
    ground.fault(Fault::Stalls(100));
    assert_eq!(ground.code(0), "timeout");
    assert!(
        start.elapsed() < Duration::from_secs(15),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_busy_server_says_when_to_come_again() {
    let mut ground = ground();
    for (asked, obeyed) in [(17, 17), (1 << 40, 86_400)] {
        ground.fault(Fault::TooBusy(asked));
        let error = ground.read(0).expect_err("busy");
        assert_eq!(
            (error.code(), error.retry_after_secs),
            ("server-too-busy", Some(obeyed))
        );
        assert_eq!(
            error.to_string(),
            "the server answered 429: too many requests"
        );
    }
}

#[test]
fn metadata_is_read_to_its_bound() {
    let mut ground = ground();
    let found = ground.network.fetch("timestamp.json", 100).expect("fits");
    assert_eq!(found.map(|bytes| bytes.len()), Some(100));
    let error = ground
        .network
        .fetch("timestamp.json", 99)
        .expect_err("endless data");
    assert_eq!(error.code(), "answer-too-long");
    assert_eq!(
        ground.network.fetch("2.root.json", 100).expect("an answer"),
        None
    );
}

/// Catches: a timestamp that is fetched whole at each poll; one that is never fetched again; a known
/// one that is longer than what is asked for.
#[test]
fn a_timestamp_that_is_known_is_not_sent_again() {
    let mut ground = ground();
    let fetch = |ground: &mut Ground| {
        let found = ground.network.fetch("timestamp.json", 200);
        let asked = ground.server.world.lock().expect("alive").requests.pop();
        (found.expect("it is there"), asked.expect("it was asked"))
    };
    let path = "/tuf/image/metadata/timestamp.json";
    let (first, asked) = fetch(&mut ground);
    assert_eq!(asked, path);
    let (again, asked) = fetch(&mut ground);
    assert_eq!((&again, asked), (&first, format!("{path} if another")));
    let newer = vec![b'n'; 150];
    {
        let mut world = ground.server.world.lock().expect("alive");
        let name = "metadata/timestamp.json".into();
        world.tree.insert(name, newer.clone());
    }
    assert_eq!(fetch(&mut ground).0, Some(newer));
    let error = ground.network.fetch("timestamp.json", 149);
    assert_eq!(error.expect_err("longer").code(), "answer-too-long");
}
