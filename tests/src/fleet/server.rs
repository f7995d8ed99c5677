//! The server: its real parts, without sockets. It dies, and comes back from what was durable.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ampoule_protocol::device::{Acknowledged, CheckedIn, Inventory, Receipt};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::director::{Issue, Issued, Terms};
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::metadata::{Payload as _, RoleKeys, RoleType, Root};
use ampoule_protocol::name::{DeviceId, HardwareId};
use ampoule_protocol::release::{FileRef, Release};
use ampoule_protocol::sign::{Ed25519Key, Sign as _};
use ampoule_protocol::time::UtcTime;
use ampoule_server::config;
use ampoule_server::director::Director;
use ampoule_server::fleet::Fleet;
use ampoule_server::http::inventory_write;
use ampoule_server::rollout::cohort::CohortKey;
use ampoule_server::rollout::permits::Cap;
use ampoule_server::rollout::plan::RolloutId;
use ampoule_server::rollout::waits::waits;
use ampoule_server::rollout::{Phase, Plan, ReleaseFacts, Rollout, Stage, Tally};
use ampoule_server::rollouts::{Heard, Rollouts};
use ampoule_server::store::open::Opened;
use ampoule_server::store::writer::{Writer, Writing};
use ampoule_server::store::{Store, StoreError, Write, Written};
use tokio::runtime::Runtime;

use super::Mistake;
use crate::power::repo::HARDWARE;
use crate::sim::{TestKey, sign};

/// Devices with one value of the tag `ward`, and how many of them may be away at once.
pub(super) const WARD_LEN: u32 = 4;
const CAP: u32 = 1;
/// How long the director's timestamp and content hold; both are signed anew at half of it.
const FRESH_SECS: u64 = 86_400;
const CONTENT_SECS: u64 = 4 * 3600;

/// The server and what outlives it.
pub(super) struct Server {
    folder: tempfile::TempDir,
    runtime: Runtime,
    director: Director,
    director_key: Ed25519Key,
    /// The root that devices leave the factory with.
    pub(super) director_root: Vec<u8>,
    alive: Option<Alive>,
    mistake: Option<Mistake>,
    /// A mistake: receipts that were acknowledged and not written.
    unwritten: Vec<Write>,
    /// How often it died.
    pub(super) deaths: u32,
}

struct Alive {
    store: Arc<Opened>,
    fleet: Arc<Fleet>,
    writer: Writer,
    writing: Writing,
    rollouts: Rollouts,
}

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody listens.
    Away,
    /// There is no such file.
    NotFound,
    /// It is not taken.
    Bad,
}

/// What a server knows of a device's offer.
pub(super) enum Known {
    /// It cannot be asked.
    Away,
    /// There was none.
    NoOffer,
    /// There was one; from this time on nobody counts with it any more.
    Offer { lease_until: i64 },
}

impl Server {
    pub(super) fn new(mistake: Option<Mistake>) -> Self {
        // Where there is memory for it: what is proven here is not the disk.
        let fast = PathBuf::from("/dev/shm");
        let folder = if fast.is_dir() {
            tempfile::tempdir_in(fast)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.expect("a folder");
        let director_key = director_key();
        let director_root = director_root(&director_key);
        let roots = folder.path().join("director");
        std::fs::create_dir(&roots).expect("makes a folder");
        std::fs::write(roots.join("1.root.json"), &director_root).expect("writes");
        let key = folder.path().join("director.key");
        std::fs::write(&key, director_key.to_pkcs8_pem().as_bytes()).expect("writes");
        let director = Director::load(&config::Director {
            key,
            roots,
            expiry: Duration::from_secs(FRESH_SECS),
            content_expiry: Duration::from_secs(CONTENT_SECS),
            signed_for_max: 1 << 20,
            lock: Duration::from_hours(1),
            caps: caps(),
        });
        Self {
            folder,
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            director: director.expect("its own key"),
            director_key,
            director_root,
            alive: None,
            mistake,
            unwritten: Vec::new(),
            deaths: 0,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.alive.is_some()
    }

    /// Comes up with what is durable.
    pub(super) fn start(&mut self) {
        let config = config::Store {
            path: self.folder.path().join("state"),
            engine: config::Engine::Sled,
            queue_len: 1 << 16,
            group_len_max: 512,
            receipts_max: 256,
            events_max: 8,
            cache_mib: 64,
        };
        let store = Arc::new(open(&config));
        assert!(
            store.damaged.is_none() && store.lost.is_none(),
            "nothing was lost"
        );
        let fleet = Arc::new(Fleet::new(store.devices().expect("it can be read")));
        let following = fleet.clone();
        let (writer, writing) = Writer::start(
            store.clone(),
            config.queue_len,
            config.group_len_max,
            move |written| following.follow(written),
            |error| panic!("the store failed: {error}"),
        )
        .expect("a thread");
        if self.mistake == Some(Mistake::PermitsLostAtDeath) {
            self.forget_permits(&store, &writer);
        }
        let rollouts = Rollouts::load(&*store, caps()).expect("it can be read");
        self.alive = Some(Alive {
            store,
            fleet,
            writer,
            writing,
            rollouts,
        });
    }

    /// Ends without a word; what waits in memory is gone.
    pub(super) fn die(&mut self) {
        self.unwritten.clear();
        if let Some(alive) = self.alive.take() {
            let Alive {
                writer, writing, ..
            } = alive;
            drop(writer);
            writing.join();
            self.deaths += 1;
        }
    }

    /// A mistake: what was open when it died counts as done, so nobody holds a permit for it.
    fn forget_permits(&self, store: &Opened, writer: &Writer) {
        let mut writes = Vec::new();
        for bytes in store.rollouts().expect("it can be read") {
            let rollout: Rollout = serde_json::from_slice(&bytes).expect("its own");
            let name = rollout.plan.name;
            for (device, bytes) in store.deployments(&name).expect("it can be read") {
                let mut row: serde_json::Value = serde_json::from_slice(&bytes).expect("its own");
                if row["phase"] == "offered" {
                    row["phase"] = "committed".into();
                    writes.push(Write::Deployment {
                        rollout: name.clone(),
                        device,
                        bytes: row.to_string().into_bytes(),
                    });
                }
            }
        }
        self.runtime
            .block_on(writer.write_all(writes))
            .expect("it is durable");
    }

    fn write(&self, alive: &Alive, write: Write) -> Written {
        let written = self.runtime.block_on(alive.writer.write(write));
        written.expect("the store is whole")
    }

    /// Enrols a device; its number.
    pub(super) fn enrol(&self, device: &DeviceId, number: u32, now: i64) {
        let alive = self.alive.as_ref().expect("it runs");
        let enroll = Write::Enroll {
            device: device.clone(),
            certificate: Digest::of(device.as_str().as_bytes()),
            not_after: now + 400 * 86_400,
            at: now,
        };
        let ward = number / WARD_LEN;
        let tags = serde_json::json!({"ward": ward.to_string(), "region": "EU"});
        let tags = Write::Tags {
            device: device.clone(),
            bytes: tags.to_string().into_bytes(),
        };
        let written = self
            .runtime
            .block_on(alive.writer.write_all(vec![enroll, tags]));
        let written = written.expect("the store is whole");
        let Written::Done(row) = &written[0] else {
            panic!("{written:?}");
        };
        assert_eq!(row.number, number, "numbers come in order");
    }

    /// Begins a rollout.
    pub(super) fn add(&self, plan: &str, target: &FileRef, release: &Release, now: i64) {
        let alive = self.alive.as_ref().expect("it runs");
        let plan = Plan::parse(plan).expect("a good plan");
        let key = CohortKey::new(*Digest::of(plan.name.as_str().as_bytes()).as_bytes());
        let facts = ReleaseFacts::of(target.clone(), release);
        let rollout = Rollout::new(plan, facts, key, UtcTime::from_unix(now));
        let added = alive.rollouts.add(&alive.writer, rollout);
        self.runtime.block_on(added).expect("it is taken");
    }

    /// One look at the fleet.
    pub(super) fn look(&mut self, now: i64) {
        let Some(alive) = &self.alive else { return };
        let now = UtcTime::from_unix(now);
        // A server does so once a second: what does not fit into one look is done in the next.
        loop {
            let ticked = alive.rollouts.tick(&alive.writer, now);
            if self.runtime.block_on(ticked).expect("the store is whole") == 0 {
                break;
            }
        }
        for write in std::mem::take(&mut self.unwritten) {
            self.write(alive, write);
        }
    }

    /// What the director says to a device.
    pub(super) fn director(
        &self,
        device: &DeviceId,
        name: &str,
        now: i64,
    ) -> Result<Vec<u8>, Refusal> {
        let alive = self.alive.as_ref().ok_or(Refusal::Away)?;
        let row = alive.fleet.find(device).ok_or(Refusal::Bad)?.row();
        let now = UtcTime::from_unix(now);
        let assigned = alive.rollouts.assigned(&row, now).ok_or(Refusal::Away)?;
        let path = format!("metadata/{name}");
        let found = self.director.find(device, &assigned, &path, now);
        let found = found.expect("its key signs").ok_or(Refusal::NotFound)?;
        if found.tells {
            alive.rollouts.hear_taken(row.number, &assigned);
            if self.mistake == Some(Mistake::SilenceIsConsent) && assigned.offer.is_some() {
                take_for_granted(alive, row.number, now);
            }
        }
        Ok(found.document.plain.bytes.to_vec())
    }

    /// Takes an inventory, as the device listener does.
    pub(super) fn inventory(
        &self,
        device: &DeviceId,
        body: &[u8],
        now: i64,
    ) -> Result<Vec<u8>, Refusal> {
        let alive = self.alive.as_ref().ok_or(Refusal::Away)?;
        let inventory = Inventory::parse(body).map_err(|_| Refusal::Bad)?;
        if inventory.device != *device {
            return Err(Refusal::Bad);
        }
        let write = inventory_write(&inventory, body, UtcTime::from_unix(now));
        let seq = inventory.seq;
        if let Written::Done(row) = self.write(alive, write) {
            let heard = Heard::Inventory(row.number, Box::new(inventory));
            alive.rollouts.hear(heard);
        }
        let answer = CheckedIn {
            seq,
            poll_interval_secs: None,
        };
        Ok(serde_json::to_vec(&answer).expect("plain data"))
    }

    /// Takes a receipt, as the device listener does.
    pub(super) fn receipt(
        &mut self,
        device: &DeviceId,
        key: &PublicKey,
        body: &[u8],
        now: i64,
    ) -> Result<Vec<u8>, Refusal> {
        let alive = self.alive.as_ref().ok_or(Refusal::Away)?;
        let receipt = Receipt::verify(body, key).map_err(|_| Refusal::Bad)?;
        if receipt.device != *device {
            return Err(Refusal::Bad);
        }
        let digest = Digest::of(body);
        let write = Write::Receipt {
            device: device.clone(),
            at: now,
            digest,
            bytes: body.to_vec(),
        };
        if self.mistake == Some(Mistake::AcknowledgesTooEarly) {
            let number = alive.fleet.find(device).ok_or(Refusal::Bad)?.row().number;
            alive
                .rollouts
                .hear(Heard::Receipt(number, Box::new(receipt), None));
            self.unwritten.push(write);
        } else if let Written::Done(row) = self.write(alive, write) {
            let heard = Heard::Receipt(row.number, Box::new(receipt), None);
            alive.rollouts.hear(heard);
        }
        let acknowledged = vec![digest];
        Ok(serde_json::to_vec(&Acknowledged { acknowledged }).expect("plain data"))
    }

    /// What a thief of the director's key says to a device: this release, and not as it is.
    pub(super) fn forge(&self, device: &DeviceId, target: &FileRef, now: i64) -> Issued {
        let hardware = HardwareId::parse(HARDWARE).expect("a name");
        let offered = FileRef {
            sha256: Digest::of(b"something else"),
            ..target.clone()
        };
        let terms = Terms {
            format: 1,
            device: device.clone(),
            hardware,
            rollback_index: None,
            rollout: None,
            begin_before: None,
        };
        let at = UtcTime::from_unix(now);
        let issue = Issue {
            device,
            offer: Some((&offered, terms)),
            content_at: at,
            content_secs: 3600,
            fresh_at: at,
            fresh_secs: 3600,
        };
        issue.sign(&self.director_key).expect("a key in memory")
    }

    /// Where a rollout stands; nothing while the server is away.
    pub(super) fn status(&self, name: &str) -> Option<(Stage, Tally)> {
        let state = self.alive.as_ref()?.rollouts.state();
        let name = RolloutId::parse(name).expect("a name");
        let rollout = state.book().rollout(&name)?;
        Some((rollout.status.stage.clone(), rollout.tally()))
    }

    /// What a rollout that runs waits for.
    pub(super) fn waits(&self, name: &str, now: i64) -> Option<String> {
        let name = RolloutId::parse(name).expect("a name");
        let rollouts = &self.alive.as_ref()?.rollouts;
        let waits = rollouts.told(UtcTime::from_unix(now), |book, devices, agenda| {
            Some(waits(book.rollout(&name)?, (book, devices), agenda))
        })?;
        let waits: Vec<String> = waits.iter().map(ToString::to_string).collect();
        (!waits.is_empty()).then(|| format!("waits for {}", waits.join("; for ")))
    }

    /// What the book knows of an offer of this release to this device.
    pub(super) fn offer(&self, number: u32, release: &Digest) -> Known {
        let Some(alive) = &self.alive else {
            return Known::Away;
        };
        let state = alive.rollouts.state();
        let of = |rollout: &Rollout| {
            let is_it = rollout.release.target.sha256 == *release;
            let row = rollout.deployment(number).filter(|_| is_it)?;
            Some(row.lease_until)
        };
        let lease_until = state.book().rollouts().filter_map(of).max();
        lease_until.map_or(Known::NoOffer, |lease_until| Known::Offer { lease_until })
    }

    /// Deployments that are open.
    pub(super) fn open_offers(&self) -> usize {
        let Some(alive) = &self.alive else { return 0 };
        let state = alive.rollouts.state();
        let rows = state.book().rollouts().flat_map(Rollout::deployments);
        rows.filter(|(_, row)| row.phase == Phase::Offered).count()
    }

    /// The digests of the receipts that the store has of a device.
    pub(super) fn receipts(&self, device: &DeviceId) -> Vec<Digest> {
        let alive = self.alive.as_ref().expect("it runs");
        let row = alive.fleet.find(device).expect("it is enrolled").row();
        let receipts = alive.store.receipts(&row).expect("it can be read");
        receipts.into_iter().map(|receipt| receipt.digest).collect()
    }
}

/// A mistake: who was handed an offer has carried it out.
fn take_for_granted(alive: &Alive, number: u32, now: UtcTime) {
    let state = alive.rollouts.state();
    let Some((rollout, _)) = state.book().offer(number) else {
        return;
    };
    let receipt = serde_json::json!({
        "_type": ampoule_protocol::device::RECEIPT_TYPE, "format": 1,
        "device": state.world().0[number as usize].device, "seq": 1,
        "product": rollout.release.product, "hardware": HARDWARE, "outcome": "committed",
        "release": rollout.release.version, "before": [], "after": [], "floor": 0,
        "bytes_fetched": 0, "attempts": 1, "started": now, "finished": now,
    });
    drop(state);
    let receipt: Receipt = serde_json::from_value(receipt).expect("a receipt");
    alive
        .rollouts
        .hear(Heard::Receipt(number, Box::new(receipt), None));
}

/// Opens the store. The one before lets go of its folder when its own threads have ended, which they
/// do a moment after everybody else has.
fn open(config: &config::Store) -> Opened {
    let patience = Instant::now() + Duration::from_mins(2);
    loop {
        match Opened::open(config, None) {
            Err(StoreError::Busy(_)) if Instant::now() < patience => std::thread::yield_now(),
            opened => return opened.expect("a whole store"),
        }
    }
}

fn caps() -> Vec<Cap> {
    vec![Cap {
        tag: "ward".into(),
        max: CAP,
    }]
}

/// The director's online key.
pub(super) fn director_key() -> Ed25519Key {
    let seed = Digest::of(b"director");
    Ed25519Key::from_seed(seed.as_bytes()).expect("a digest is a seed")
}

/// The root that names it for all roles but root.
pub(super) fn director_root(online: &Ed25519Key) -> Vec<u8> {
    let root_key = TestKey::ed25519("director root");
    let dawn = UtcTime::parse(crate::sim::DAWN).expect("a time");
    let mut root = Root::new(dawn.plus_secs(300 * 86_400));
    for role in RoleType::ALL {
        let key = match role {
            RoleType::Root => root_key.object.clone(),
            _ => online.public_key().to_key(),
        };
        let keys = RoleKeys::new(vec![key.id()], 1);
        root.roles.insert(role, keys);
        root.keys.insert(key.id(), key);
    }
    sign(&root.to_signed(), &[root_key])
}
