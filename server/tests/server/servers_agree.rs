//! Whatever happens to a fleet, and whichever server a device asks, versions do not fall, and one
//! version says one thing.

use std::collections::HashMap;

use ampoule_protocol::device::{Inventory, Outcome, Receipt};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::HardwareId;
use ampoule_server::director::Assigned;
use ampoule_server::rollout::{Act, RolloutId};
use ampoule_server::rollouts::{AHEAD_MAX_SECS, HOLD_SECS};
use ampoule_server::store::Write;
use proptest::prelude::*;

use crate::among::{Among, NOW, image, rollout};
use crate::common::{Device, World};
use crate::postgres::Cluster;

const SERVERS: usize = 3;
const DEVICES: usize = 3;
/// A server that heard nothing for longer is deaf, and serves nothing.
const UNHEARD_MAX: i64 = 2;
const ROLLOUTS: [(&str, &str); 3] = [("r1", "2.4.1"), ("r2", "2.4.2"), ("r3", "2.4.1")];

#[derive(Debug, Clone)]
enum Step {
    /// A second passes; these servers look, and those that must.
    Second {
        looks: [bool; SERVERS],
    },
    /// Minutes or days pass, with all servers looking at their end.
    Long {
        secs: i64,
    },
    Poll {
        device: usize,
        server: usize,
    },
    /// It runs the image of this rollout's release, or an older one.
    Report {
        device: usize,
        server: usize,
        hardware: bool,
        runs: usize,
    },
    Ends {
        device: usize,
        server: usize,
        rollout: usize,
        outcome: Outcome,
        withdrawn: bool,
    },
    Tag {
        device: usize,
        server: usize,
        region: bool,
    },
    Add {
        server: usize,
        rollout: usize,
    },
    Act {
        server: usize,
        rollout: usize,
        act: Act,
    },
    Restart {
        server: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let (device, server, which) = (0..DEVICES, 0..SERVERS, 0..ROLLOUTS.len());
    let outcome = prop::sample::select(vec![
        Outcome::Committed,
        Outcome::Reverted,
        Outcome::Refused,
        Outcome::Failed,
    ]);
    let act = prop::sample::select(vec![Act::Pause, Act::Resume, Act::Abort, Act::Retry]);
    prop_oneof![
        8 => any::<[bool; SERVERS]>().prop_map(|looks| Step::Second { looks }),
        1 => prop::sample::select(vec![60, 3_600, 90_000]).prop_map(|secs| Step::Long { secs }),
        8 => (device.clone(), server.clone())
            .prop_map(|(device, server)| Step::Poll { device, server }),
        3 => (device.clone(), server.clone(), any::<bool>(), 0..=ROLLOUTS.len()).prop_map(
            |(device, server, hardware, runs)| Step::Report { device, server, hardware, runs }
        ),
        4 => (device.clone(), server.clone(), which.clone(), outcome, any::<bool>()).prop_map(
            |(device, server, rollout, outcome, withdrawn)| {
                Step::Ends { device, server, rollout, outcome, withdrawn }
            }
        ),
        1 => (device, server.clone(), prop::bool::weighted(0.8))
            .prop_map(|(device, server, region)| Step::Tag { device, server, region }),
        1 => (server.clone(), which.clone())
            .prop_map(|(server, rollout)| Step::Add { server, rollout }),
        2 => (server.clone(), which, act)
            .prop_map(|(server, rollout, act)| Step::Act { server, rollout, act }),
        1 => server.prop_map(|server| Step::Restart { server }),
    ]
}

/// A fleet, its servers, and all that devices were told.
struct Fleet {
    database: String,
    servers: Vec<Among>,
    devices: Vec<Device>,
    clock: i64,
    /// When each server heard the others last.
    heard_at: [i64; SERVERS],
    seq: u64,
    added: [bool; ROLLOUTS.len()],
    /// By device: the newest version that it was told.
    newest: [i64; DEVICES],
    /// What each version said.
    told: HashMap<(usize, i64), Assigned>,
}

impl Fleet {
    /// Each device has reported, and one rollout runs.
    fn start(world: &World, database: String) -> Self {
        let servers: Vec<_> = (0..SERVERS).map(|_| Among::start(&database)).collect();
        let devices: Vec<_> = (0..DEVICES)
            .map(|number| world.enroll(&format!("pump-{number}")))
            .collect();
        let mut fleet = Self {
            database,
            servers,
            devices,
            clock: NOW,
            heard_at: [NOW; SERVERS],
            seq: 0,
            added: [false; ROLLOUTS.len()],
            newest: [0; DEVICES],
            told: HashMap::new(),
        };
        for device in 0..DEVICES {
            let id = fleet.devices[device].id.clone();
            fleet.servers[0].enroll(&id, NOW);
            fleet.report(device, 0, false, ROLLOUTS.len());
        }
        fleet.add(0, 0);
        fleet
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Second { looks } => self.second(looks),
            Step::Long { secs } => {
                self.clock += secs;
                self.second([true; SERVERS]);
            }
            Step::Poll { device, server } => drop(self.poll(device, server)),
            Step::Report {
                device,
                server,
                hardware,
                runs,
            } => {
                self.report(device, server, hardware, runs);
            }
            Step::Ends {
                device,
                server,
                rollout,
                outcome,
                withdrawn,
            } => {
                self.ends(device, server, rollout, (outcome, withdrawn));
            }
            Step::Tag {
                device,
                server,
                region,
            } => self.tag(device, server, region),
            Step::Add { server, rollout } => self.add(server, rollout),
            Step::Act {
                server,
                rollout,
                ref act,
            } => {
                let name: RolloutId = ROLLOUTS[rollout].0.parse().unwrap();
                self.servers[server].act(&name, act, self.clock);
                self.heard_at[server] = self.clock;
            }
            Step::Restart { server } => {
                self.servers[server] = Among::start(&self.database);
                self.heard_at[server] = self.clock;
            }
        }
    }

    fn second(&mut self, looks: [bool; SERVERS]) {
        self.clock += 1;
        for (number, server) in self.servers.iter().enumerate() {
            if looks[number] || self.clock - self.heard_at[number] > UNHEARD_MAX {
                server.look(self.clock);
                self.heard_at[number] = self.clock;
            }
        }
    }

    /// What the device is told; nothing where it must come again.
    fn poll(&mut self, device: usize, server: usize) -> Option<Assigned> {
        let told = self.servers[server].told(&self.devices[device].id, self.clock)?;
        let version = told.changed_at;
        assert!(
            version >= self.newest[device],
            "device {device} knows version {}, server {server} says {told:?}",
            self.newest[device]
        );
        self.newest[device] = version;
        let said = self
            .told
            .entry((device, version))
            .or_insert_with(|| told.clone());
        assert_eq!(
            *said, told,
            "one version says two things, the second by server {server}"
        );
        Some(told)
    }

    fn report(&mut self, device: usize, server: usize, hardware: bool, runs: usize) {
        self.seq += 1;
        let bytes = self.devices[device].inventory(self.seq);
        let mut inventory = Inventory::parse(&bytes).unwrap();
        let hardware = if hardware { "pump-mk4" } else { "pump-mk3" };
        inventory.hardware = HardwareId::parse(hardware).unwrap();
        if let Some((_, version)) = ROLLOUTS.get(runs) {
            inventory.components[0].sha256 = Some(image(version));
        }
        self.servers[server].report(&inventory, self.clock);
    }

    fn ends(&mut self, device: usize, server: usize, of: usize, how: (Outcome, bool)) {
        self.seq += 1;
        let (outcome, withdrawn) = how;
        let device = &self.devices[device];
        let bytes = device.receipt_of(self.seq, Some(ROLLOUTS[of].1), outcome);
        let bytes = if withdrawn {
            heard_of_withdrawal(&bytes)
        } else {
            bytes
        };
        self.servers[server].write(vec![Write::Receipt {
            device: device.id.clone(),
            at: self.clock,
            digest: Digest::of(&bytes),
            bytes,
        }]);
    }

    fn tag(&mut self, device: usize, server: usize, region: bool) {
        let region = if region { "EU" } else { "US" };
        self.servers[server].write(vec![Write::Tags {
            device: self.devices[device].id.clone(),
            bytes: format!("{{\"region\":\"{region}\"}}").into(),
        }]);
    }

    fn add(&mut self, server: usize, which: usize) {
        if !std::mem::replace(&mut self.added[which], true) {
            let (name, version) = ROLLOUTS[which];
            self.servers[server].add(rollout(name, version));
            self.heard_at[server] = self.clock;
        }
    }

    /// When nothing happens any more, all servers say the same, and so does one that begins now.
    fn comes_to_rest(&mut self) {
        for _ in 0..HOLD_SECS + AHEAD_MAX_SECS + 5 {
            self.second([true; SERVERS]);
        }
        self.servers.push(Among::start(&self.database));
        for device in 0..DEVICES {
            let told: Vec<_> = (0..=SERVERS)
                .map(|server| self.poll(device, server))
                .collect();
            let first = told[0].as_ref().expect("the hold is over");
            assert!(
                first.changed_at <= self.clock,
                "{first:?} at {}",
                self.clock
            );
            assert!(
                told.iter().all(|said| said.as_ref() == Some(first)),
                "{told:#?}"
            );
        }
    }
}

/// The receipt of a device that heard in time that the offer was taken back.
fn heard_of_withdrawal(receipt: &[u8]) -> Vec<u8> {
    let mut receipt: serde_json::Value = serde_json::from_slice(receipt).unwrap();
    receipt["signed"]["outcome"] = serde_json::to_value(Outcome::Refused).unwrap();
    receipt["signed"]["code"] = ampoule_protocol::director::WITHDRAWN_CODE.into();
    let bytes = serde_json::to_vec(&receipt).unwrap();
    // Signatures are checked where receipts come in, which is before this.
    let read: Result<Receipt, _> = serde_json::from_value(receipt["signed"].take());
    read.map(|_| bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Goal: a device may ask any server at any moment. Catches: a version that another server or a
    /// restart lets fall, one that says two things because a report came in between, one that is
    /// ahead of the clock for ever because several servers decide each second.
    #[test]
    fn a_device_may_ask_any_server_at_any_moment(
        steps in prop::collection::vec(step(), 1..160),
    ) {
        let world = World::new();
        let mut fleet = Fleet::start(&world, Cluster::shared().database_text());
        for step in &steps {
            fleet.take(step);
        }
        fleet.comes_to_rest();
    }
}
