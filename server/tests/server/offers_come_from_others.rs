//! What one server offers, the others serve, though they have not thought about the device yet.

use std::sync::Arc;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::time::UtcTime;
use ampoule_server::fleet::Fleet;
use ampoule_server::rollout::cohort::CohortKey;
use ampoule_server::rollout::{Plan, ReleaseFacts, Rollout};
use ampoule_server::rollouts::{HOLD_SECS, Rollouts};
use ampoule_server::store::postgres::{Database, PostgresStore};
use ampoule_server::store::writer::Writer;
use ampoule_server::store::{Capacity, Store, Write};

use crate::common::World;
use crate::postgres::Cluster;

const NOW: i64 = 1_900_000_000;

/// What a server among others has, without its listeners: looks come when the test says so.
struct Among {
    store: Arc<dyn Store>,
    writer: Writer,
    rollouts: Rollouts,
    runtime: tokio::runtime::Runtime,
}

impl Among {
    fn start(database: &str) -> Self {
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
            writer,
            rollouts,
            runtime,
        }
    }

    fn write(&self, writes: Vec<Write>) {
        let written = self.writer.write_all(writes);
        self.runtime.block_on(written).unwrap();
    }

    fn look(&self, now: i64) -> usize {
        let look = self.rollouts.tick(&self.writer, UtcTime::from_unix(now));
        self.runtime.block_on(look).unwrap()
    }
}

fn rollout() -> Rollout {
    let digest = Digest::of(b"release");
    let plan = format!(
        "name = \"r1\"\nrelease = \"infusion-pump/release-2.4.1.toml\"\nsha256 = \"{digest}\"\n\
         filter = \"hardware = pump-mk3\"\nauthor = \"alice\"\n[[step]]\nshare = \"100%\"\n"
    );
    let release: ReleaseFacts = serde_json::from_value(serde_json::json!({
        "target": {
            "path": "infusion-pump/release-2.4.1.toml",
            "length": 17,
            "sha256": digest.to_string(),
        },
        "product": "infusion-pump",
        "version": "2.4.1",
        "rollback_index": 17,
        "downtime_secs": 60,
        "regions": ["EU"],
        "components": [{
            "name": "rootfs",
            "hardware": ["pump-mk3"],
            "sha256": Digest::of(b"next").to_string(),
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

/// Goal: a device that reports for the first time while a rollout goes on is told the same by every
/// server. Catches: a server that hears of an offer before it has looked at what the device said of
/// itself, takes it for a device without hardware, and says for ever, and under the same version as
/// the others, that nothing is assigned.
#[test]
fn a_device_that_was_new_a_moment_ago_is_told_the_same_by_all() {
    let device = World::new().enroll("pump-1");
    let database = Cluster::shared().database_text();
    let servers = [(); 2].map(|()| Among::start(&database));
    let [one, two] = &servers;
    one.write(vec![
        Write::Enroll {
            device: device.id.clone(),
            certificate: Digest::of(b"certificate"),
            not_after: NOW + 400 * 86_400,
            at: NOW,
        },
        Write::Tags {
            device: device.id.clone(),
            bytes: br#"{"region":"EU"}"#.to_vec(),
        },
    ]);
    let added = one.rollouts.add(&one.writer, rollout());
    one.runtime.block_on(added).unwrap();
    assert_eq!(
        [one.look(NOW), two.look(NOW)],
        [0, 0],
        "it said nothing yet"
    );
    one.write(vec![Write::Inventory {
        device: device.id.clone(),
        at: NOW + 1,
        seq: 1,
        time: NOW + 1,
        digest: Digest::of(b"inventory"),
        bytes: device.inventory(1),
    }]);
    assert_eq!(one.look(NOW + 2), 1, "it is offered the release");
    assert_eq!(two.look(NOW + 2), 0, "the other hears both at once");

    let row = one.store.devices().unwrap().remove(0);
    let later = UtcTime::from_unix(NOW + 3 + HOLD_SECS);
    let told = servers.each_ref().map(|server| {
        let told = server.rollouts.assigned(&row, later);
        told.expect("the hold is over")
    });
    assert!(told[0].offer.is_some(), "{told:?}");
    assert_eq!(told[0], told[1]);
}
