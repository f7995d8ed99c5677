//! What was acknowledged is there: after 200 kills in mid-write, and enrolments after damage.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ampoule_protocol::digest::Digest;
use serde_json::Value;

use crate::common::{Server, World, run, text, until};

const RECEIPTS: &str = "/device/v1/receipts";
const KILLS: u64 = 200;

/// Goal: no acknowledged receipt is lost by SIGKILL. Method: a device sends receipts as fast as
/// they are acknowledged while the server is killed at a moment that differs from round to round;
/// the next round opens the store again. Catches: acknowledging before the store has the write.
#[test]
fn no_acknowledged_receipt_is_lost_in_200_kills() {
    let mut world = World::new();
    world.limits = "requests_burst = 1000000\nrequests_per_minute = 1000000".into();
    world.store = "receipts_max = 65536".into();
    let device = world.enroll("pump-1");
    let config = world.config();

    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let mut seq = 0;
    for round in 0..KILLS {
        let server = Server::start(&config);
        let client = device.client(&server);
        let receipts: Vec<_> = (0..64).map(|n| device.receipt(seq + n)).collect();
        seq += 64;
        let before = acknowledged.lock().unwrap().len();
        let sender = {
            let acknowledged = acknowledged.clone();
            std::thread::spawn(move || {
                let Ok(mut connection) = client.connect() else {
                    return;
                };
                for receipt in &receipts {
                    let Ok(answer) = connection.ask("POST", RECEIPTS, &[], receipt) else {
                        return;
                    };
                    assert_eq!(answer.status, 200, "{answer:?}");
                    acknowledged.lock().unwrap().push(Digest::of(receipt));
                }
            })
        };
        // Not before some were acknowledged, however slow the machine is; then at another moment
        // each time.
        let some = before + usize::try_from(round % 6).unwrap();
        until("receipts are acknowledged", || {
            acknowledged.lock().unwrap().len() >= some
        });
        std::thread::sleep(Duration::from_micros(37 * 11 * (round % 40)));
        server.kill();
        sender.join().unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap();
    assert!(
        acknowledged.len() > 200,
        "only {} receipts were sent",
        acknowledged.len()
    );
    let server = Server::start(&config);
    let said = server.stop();
    assert!(!said.contains("damaged"), "{said}");
    let kept = kept(&world);
    let lost: Vec<_> = acknowledged
        .iter()
        .filter(|digest| !kept.contains(*digest))
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} are lost",
        lost.len(),
        acknowledged.len()
    );
    println!("{KILLS} kills, {} acknowledged, 0 lost", acknowledged.len());
}

fn kept(world: &World) -> BTreeSet<Digest> {
    use ampoule_server::store::sled::SledStore;
    use ampoule_server::store::{Capacity, Store};
    let capacity = Capacity {
        receipts_max: 1,
        events_max: 1,
    };
    let store = SledStore::open(&world.path("state/store"), capacity, 64).unwrap();
    let row = store.devices().unwrap().remove(0);
    store
        .receipts(&row)
        .unwrap()
        .into_iter()
        .map(|receipt| receipt.digest)
        .collect()
}

#[test]
fn a_damaged_store_is_moved_aside_and_enrolments_come_back() {
    let world = World::new();
    let (device, revoked) = (world.enroll("pump-1"), world.enroll("pump-2"));
    let config = world.config();
    assert!(
        run(&["device", "revoke", "pump-2", "--config", text(&config)])
            .status
            .success()
    );
    let server = world.start();
    let receipt = device.receipt(1);
    assert_eq!(device.client(&server).post(RECEIPTS, &receipt).status, 200);
    server.kill();
    let log = world.path("state/store/db");
    let whole = fs::read(&log).unwrap();

    for (number, damage) in ["cut", "zeroed", "noise"].into_iter().enumerate() {
        let mut bytes = whole.clone();
        match damage {
            "cut" => bytes.truncate(100),
            "zeroed" => bytes.fill(0),
            _ => bytes.iter_mut().step_by(7).for_each(|byte| *byte ^= 0x55),
        }
        // As after a crash, with the log damaged and nothing else there to help.
        for entry in fs::read_dir(world.path("state/store")).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() && !path.ends_with("conf") {
                fs::remove_file(path).unwrap();
            }
        }
        fs::write(&log, &bytes).unwrap();
        fs::write(world.path("state/running"), "").unwrap();
        let server = world.start();
        let client = device.client(&server);
        assert_eq!(
            client.get("/device/v1/self").status,
            200,
            "{damage}: it is enrolled"
        );
        let refused = revoked.client(&server).get("/device/v1/self");
        assert_eq!(
            refused.problem(),
            "device-revoked",
            "{damage}: it stays revoked"
        );
        let said = server.stop();
        assert!(said.contains("was moved to"), "{damage}: {said}");
        assert!(!said.contains("panicked"), "{damage}: {said}");
        let aside = world.path(&format!("state/store.damaged-{}", number + 1));
        assert!(aside.join("db").exists(), "{damage}: nothing is deleted");
    }
    let output = run(&[
        "device",
        "show",
        "pump-1",
        "--config",
        text(&config),
        "--json",
    ]);
    let details: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(details["row"]["standing"], "enrolled");
}
