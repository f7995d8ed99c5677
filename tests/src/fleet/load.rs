//! The load form: many devices with identities of their own poll a real server over real TLS.
//!
//! ```text
//!   N identities, issued and enrolled before ── server-under-test, a process of its own
//!   W threads, each with its share of the devices and the agent's own client:
//!     at its time, whatever went before: inventory, image timestamp, director timestamp
//! ```
//!
//! The loop is open: each device comes at its own times, and its latency counts from when it should
//! have come, so a slow server cannot hide behind the questions that it kept waiting. A device keeps
//! its sessions and its connection, as a daemon does; the server closes idle ones after a second, so
//! that nearly all polls are resumed handshakes and a device's first is a full one.
//!
//! At the end the store is opened, and must have the last inventory that was acknowledged to each
//! device. What devices do with metadata is not in here: that costs the client, who has the second
//! of two processors.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use ampoule_agent::net::{HttpNetwork, HttpSettings, Identity, Pace};
use ampoule_agent::ports::{Fetch as _, Network as _};
use ampoule_protocol::device::Inventory;
use ampoule_protocol::error::Coded as _;
use ampoule_protocol::name::{HardwareId, ProductName};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;
use ampoule_server::config::{self, Enroll};
use ampoule_server::pki::{Authority, KeyKind, make_dev_ca};
use ampoule_server::store::open::Opened;
use ampoule_server::store::{Store as _, Write};

use super::process::{cpu_of, peak_kib};
use super::server::{director_key, director_root};
use super::world::name_of;
use crate::power::repo::{Catalogue, HARDWARE, PRODUCT};
use crate::random::Random;

/// What to do.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Devices.
    pub devices: u32,
    /// Seconds between two polls of a device.
    pub poll_secs: u32,
    /// For how long.
    pub secs: u32,
    /// Threads that poll.
    pub threads: u32,
    /// Where the phases of devices come from.
    pub seed: u64,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Polls that were answered.
    pub polls: u64,
    /// Those that were not, by code.
    pub errors: BTreeMap<String, u64>,
    /// From when a poll should have begun to its end, sorted.
    latencies: Vec<Duration>,
    wall: Duration,
    server_cpu: Duration,
    own_cpu: Duration,
    server_kib: u64,
    /// Devices whose last acknowledged inventory is not in the store.
    pub missing: u32,
}

/// Devices of one group commit of their enrolment.
const GROUP_LEN: usize = 512;

/// Runs it; `server` is the server's program.
///
/// # Errors
/// A file, the server, or the store.
pub fn run(load: &Load, server: &Path) -> io::Result<Loaded> {
    let folder = tempfile::tempdir()?;
    let world = Ground::make(folder.path(), load).map_err(io::Error::other)?;
    let running = Running::start(server, &world.config)?;
    let (process, before) = (running.child.id(), cpu_of(running.child.id())?);
    let (own_before, start) = (cpu_of(std::process::id())?, Instant::now());
    let done = poll_all(load, &world, &running.address, start);
    let (wall, server_cpu) = (start.elapsed(), cpu_of(process)?.saturating_sub(before));
    let own_cpu = cpu_of(std::process::id())?.saturating_sub(own_before);
    let server_kib = peak_kib(process)?;
    running.stop()?;
    let mut loaded = Loaded {
        polls: 0,
        errors: BTreeMap::new(),
        latencies: Vec::new(),
        wall,
        server_cpu,
        own_cpu,
        server_kib,
        missing: 0,
    };
    let store = Opened::open(&world.store, None).map_err(io::Error::other)?;
    let rows = store.devices().map_err(io::Error::other)?;
    for worker in done {
        loaded.polls += worker.latencies.len() as u64;
        loaded.latencies.extend(worker.latencies);
        for (code, count) in worker.errors {
            *loaded.errors.entry(code).or_default() += count;
        }
        for (number, seq) in worker.acknowledged {
            let row = rows.iter().find(|row| row.number == number);
            let stored = row.map_or(0, |row| row.inventory_seq);
            loaded.missing += u32::from(stored < seq);
        }
    }
    loaded.latencies.sort_unstable();
    Ok(loaded)
}

/// The server's folder, and the devices' identities.
struct Ground {
    folder: PathBuf,
    config: PathBuf,
    store: config::Store,
}

impl Ground {
    fn make(folder: &Path, load: &Load) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        make_dev_ca(folder, &["localhost".into(), "127.0.0.1".into()], 30)?;
        for (path, bytes) in Catalogue::of_rootfs(1).publish().tree.iter() {
            let path = folder.join("published").join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(folder))?;
            std::fs::write(path, bytes)?;
        }
        let key = director_key();
        std::fs::create_dir(folder.join("director"))?;
        std::fs::write(folder.join("director/1.root.json"), director_root(&key))?;
        std::fs::write(folder.join("director.key"), key.to_pkcs8_pem().as_bytes())?;
        let config = folder.join("server.toml");
        std::fs::write(
            &config,
            "[devices]\nlisten = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
             client_ca = \"ca.pem\"\nthreads = 1\n[admin]\nsocket = \"admin.sock\"\n\
             [tree]\npath = \"published\"\n[store]\npath = \"state\"\n[director]\nkey = \"director.key\"\n\
             roots = \"director\"\n[limits]\nheader_timeout_secs = 1\n",
        )?;
        let parsed = config::Config::load(&config)?;
        let ground = Self {
            folder: folder.to_owned(),
            config,
            store: parsed.store,
        };
        ground.enrol(load)?;
        Ok(ground)
    }

    fn enrol(&self, load: &Load) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let authority = Authority::load(&Enroll::of_dev_ca(&self.folder, 30), None)?;
        let store = Opened::open(&self.store, None)?;
        let mut group = Vec::with_capacity(GROUP_LEN);
        for number in 0..load.devices {
            let issued = authority.issue(&name_of(number), KeyKind::P256, 30)?;
            std::fs::write(self.file(number, "pem"), &issued.certificate_pem)?;
            std::fs::write(self.file(number, "key"), issued.key_pem.as_bytes())?;
            group.push(Write::Enroll {
                device: issued.certificate.device,
                certificate: issued.certificate.digest,
                not_after: issued.certificate.not_after,
                at: 1,
            });
            if group.len() == GROUP_LEN || number + 1 == load.devices {
                store.commit(&group)?;
                group.clear();
            }
        }
        store.close();
        Ok(())
    }

    fn file(&self, number: u32, kind: &str) -> PathBuf {
        self.folder.join(format!("device-{number}.{kind}"))
    }

    fn client(&self, number: u32, address: &str) -> Option<HttpNetwork> {
        let (pem, key) = (self.file(number, "pem"), self.file(number, "key"));
        let identity = Identity::load(&pem, &key, &self.folder.join("ca.pem")).ok()?;
        let settings = HttpSettings {
            url: format!("https://{address}"),
            connect_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_secs(30),
            pace: Pace {
                bytes_per_sec_min: 0,
                window: Duration::from_mins(1),
            },
            bytes_per_sec_max: None,
        };
        Some(HttpNetwork::new(settings, &identity))
    }
}

/// What one thread came to.
#[derive(Default)]
struct Worker {
    latencies: Vec<Duration>,
    errors: BTreeMap<String, u64>,
    acknowledged: BTreeMap<u32, u64>,
}

fn poll_all(load: &Load, ground: &Ground, address: &str, start: Instant) -> Vec<Worker> {
    std::thread::scope(|scope| {
        let worker = |thread: u32| move || work(load, ground, address, (thread, start));
        let workers: Vec<_> = (0..load.threads)
            .map(|thread| scope.spawn(worker(thread)))
            .collect();
        let done = workers.into_iter().map(ScopedJoinHandle::join);
        done.map(|done| done.expect("a worker does not panic"))
            .collect()
    })
}

fn work(load: &Load, ground: &Ground, address: &str, (thread, start): (u32, Instant)) -> Worker {
    let mut random = Random::new(load.seed ^ u64::from(thread));
    let interval = Duration::from_secs(load.poll_secs.into());
    let end = Duration::from_secs(load.secs.into());
    let mut clients: BTreeMap<u32, HttpNetwork> = BTreeMap::new();
    let mut due = std::collections::BinaryHeap::new();
    for number in (thread..load.devices).step_by(load.threads as usize) {
        let millis = random.below(load.poll_secs as usize * 1000);
        let at = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        due.push(std::cmp::Reverse((at, number, 1_u64)));
    }
    let mut worker = Worker::default();
    while let Some(std::cmp::Reverse((at, number, seq))) = due.pop() {
        if at >= end {
            break;
        }
        std::thread::sleep(at.saturating_sub(start.elapsed()));
        if !clients.contains_key(&number) {
            clients.extend(
                ground
                    .client(number, address)
                    .map(|client| (number, client)),
            );
        }
        if let Some(client) = clients.get_mut(&number) {
            match poll(client, number, seq) {
                Ok(()) => {
                    worker.latencies.push(start.elapsed().saturating_sub(at));
                    worker.acknowledged.insert(number, seq);
                }
                Err(code) => *worker.errors.entry(code).or_default() += 1,
            }
        }
        due.push(std::cmp::Reverse((at + interval, number, seq + 1)));
    }
    worker
}

/// What a device asks for when nothing is new.
fn poll(client: &mut HttpNetwork, number: u32, seq: u64) -> Result<(), String> {
    let inventory = Inventory {
        device: name_of(number),
        product: ProductName::parse(PRODUCT).expect("a name"),
        hardware: HardwareId::parse(HARDWARE).expect("a name"),
        components: Vec::new(),
        floor: RollbackIndex(0),
        agent_version: "0.1.0".into(),
        patch_caps: Vec::new(),
        time: UtcTime::EPOCH,
        seq,
        boot_probes: Vec::new(),
    };
    let body = serde_json::to_vec(&inventory).expect("plain data");
    let said = |error: ampoule_agent::net::NetError| error.code().to_owned();
    client.post("inventory", &body).map_err(said)?;
    let timestamp = client.fetch("timestamp.json", 1 << 16).map_err(said)?;
    let director = client.director("timestamp.json", 1 << 16).map_err(said)?;
    timestamp
        .and(director)
        .map(drop)
        .ok_or_else(|| "not-found".to_owned())
}

struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(program: &Path, config: &Path) -> io::Result<Self> {
        let mut child = Command::new(program)
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        for line in BufReader::new(out).lines() {
            if let Some(address) = line?.strip_prefix("listening on ") {
                let address = address.replace("127.0.0.1", "localhost");
                return Ok(Self { child, address });
            }
        }
        Err(io::Error::other("the server did not start"))
    }

    fn stop(mut self) -> io::Result<()> {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-s", "TERM", &id]).status()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // After `stop` there is nothing left to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |per_mille: usize| {
            let last = self.latencies.len().saturating_sub(1);
            let at = (self.latencies.len() * per_mille / 1000).min(last);
            self.latencies.get(at).copied().unwrap_or_default()
        };
        let polls = u32::try_from(self.polls).unwrap_or(u32::MAX).max(1);
        let failed: u64 = self.errors.values().sum();
        writeln!(f, "{:>10} polls answered, {failed} not", self.polls)?;
        for (code, count) in &self.errors {
            writeln!(f, "{count:>10} {code}")?;
        }
        writeln!(
            f,
            "{:>10.1} polls a second",
            f64::from(polls) / self.wall.as_secs_f64()
        )?;
        writeln!(
            f,
            "latency from when it was due: p50 {:.1?}, p99 {:.1?}, p99.9 {:.1?}, most {:.1?}",
            at(500),
            at(990),
            at(999),
            at(1000)
        )?;
        writeln!(
            f,
            "CPU of a poll: server {:.0?}, devices {:.0?}; server busy {:.0} %",
            self.server_cpu / polls,
            self.own_cpu / polls,
            100.0 * self.server_cpu.as_secs_f64() / self.wall.as_secs_f64()
        )?;
        writeln!(
            f,
            "{:>10} MiB of the server at most",
            self.server_kib / 1024
        )?;
        writeln!(
            f,
            "{:>10} devices whose acknowledged inventory is missing",
            self.missing
        )
    }
}
