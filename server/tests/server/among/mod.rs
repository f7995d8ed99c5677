//! Servers among others in this process, without their listeners: they look when the test says so.

use std::sync::Arc;

use ampoule_protocol::device::Inventory;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use ampoule_server::director::Assigned;
use ampoule_server::fleet::Fleet;
use ampoule_server::rollout::cohort::CohortKey;
use ampoule_server::rollout::{Act, Plan, ReleaseFacts, Rollout, RolloutId};
use ampoule_server::rollouts::Rollouts;
use ampoule_server::store::postgres::{Database, PostgresStore};
use ampoule_server::store::writer::Writer;
use ampoule_server::store::{Capacity, Store, Write};

/// The clock when a test begins.
pub const NOW: i64 = 1_900_000_000;

pub struct Among {
    pub store: Arc<dyn Store>,
    pub fleet: Arc<Fleet>,
    pub writer: Writer,
    pub rollouts: Rollouts,
    runtime: tokio::runtime::Runtime,
}

impl Among {
    pub fn start(database: &str) -> Self {
        let database = Database {
            config: database.parse().unwrap(),
            tls: None,
        };
        let capacity = Capacity {
            receipts_max: 4,
            events_max: 4,
        };
        let store: Arc<dyn Store> = Arc::new(PostgresStore::open(database, capacity).unwrap());
        let fleet = Arc::new(Fleet::new(store.devices().unwrap()));
        let following = fleet.clone();
        let (writer, _writing) = Writer::start(
            store.clone(),
            64,
            64,
            move |written| following.follow(written),
            |error| panic!("{error}"),
        )
        .unwrap();
        let rollouts = Rollouts::among_others(&store, &fleet, Vec::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            store,
            fleet,
            writer,
            rollouts,
            runtime,
        }
    }

    pub fn write(&self, writes: Vec<Write>) {
        let written = self.writer.write_all(writes);
        self.runtime.block_on(written).unwrap();
    }

    pub fn enroll(&self, device: &DeviceId, at: i64) {
        self.write(vec![
            Write::Enroll {
                device: device.clone(),
                certificate: Digest::of(b"certificate"),
                not_after: NOW + 400 * 86_400,
                at,
            },
            Write::Tags {
                device: device.clone(),
                bytes: br#"{"region":"EU"}"#.to_vec(),
            },
        ]);
    }

    pub fn report(&self, inventory: &Inventory, at: i64) {
        let bytes = serde_json::to_vec(inventory).unwrap();
        self.write(vec![Write::Inventory {
            device: inventory.device.clone(),
            at,
            seq: inventory.seq,
            time: at,
            digest: Digest::of(&bytes),
            bytes,
        }]);
    }

    /// What a device is told; nothing where it must come again.
    pub fn told(&self, device: &DeviceId, now: i64) -> Option<Assigned> {
        let row = self.fleet.find(device)?.row();
        let told = self.rollouts.assigned(&row, UtcTime::from_unix(now))?;
        self.rollouts.hear_taken(row.number, &told);
        Some(told)
    }

    pub fn add(&self, rollout: Rollout) {
        let added = self.rollouts.add(&self.writer, rollout);
        self.runtime.block_on(added).unwrap();
    }

    /// Whether it was done.
    pub fn act(&self, name: &RolloutId, act: &Act, now: i64) -> bool {
        let now = UtcTime::from_unix(now);
        let done = self.rollouts.act(&self.writer, name, act, now);
        self.runtime.block_on(done).is_ok()
    }

    pub fn look(&self, now: i64) -> usize {
        let look = self.rollouts.tick(&self.writer, UtcTime::from_unix(now));
        self.runtime.block_on(look).unwrap()
    }
}

/// A rollout to all, of a release for two kinds of hardware.
pub fn rollout(name: &str, version: &str) -> Rollout {
    let digest = Digest::of(version.as_bytes());
    let path = format!("infusion-pump/release-{version}.toml");
    let plan = format!(
        "name = \"{name}\"\nrelease = \"{path}\"\nsha256 = \"{digest}\"\nattempts = 3\n\
         filter = \"hardware = pump-mk3 or hardware = pump-mk4\"\nauthor = \"alice\"\n\
         [[step]]\nshare = \"100%\"\nfailures_max = 1000\n"
    );
    let release: ReleaseFacts = serde_json::from_value(serde_json::json!({
        "target": { "path": path, "length": 17, "sha256": digest.to_string() },
        "product": "infusion-pump",
        "version": version,
        "rollback_index": 17,
        "downtime_secs": 60,
        "regions": ["EU"],
        "components": [{
            "name": "rootfs",
            "hardware": ["pump-mk3", "pump-mk4"],
            "sha256": image(version).to_string(),
        }],
    }))
    .unwrap();
    let key = CohortKey::new([7; 32]);
    Rollout::new(
        Plan::parse(&plan).unwrap(),
        release,
        key,
        UtcTime::from_unix(NOW),
    )
}

/// What runs on a device with this release.
pub fn image(version: &str) -> Digest {
    Digest::of(format!("image {version}").as_bytes())
}
