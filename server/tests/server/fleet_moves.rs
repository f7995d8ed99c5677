//! The operator's side of `export` and `import`: a backup while the server runs, and the drill.

use serde_json::Value;

use crate::common::{run, text};
use crate::devices_take_permits::locks;
use crate::postgres::Cluster;
use crate::rollout_reaches_devices::{ctl, with_director};

const RECEIPTS: &str = "/device/v1/receipts";

/// Goal: a backup that a running server made brings the fleet back, on the other engine, with every
/// receipt that was acknowledged before it. Catches: a backup that misses what is in memory only,
/// an import that forgets enrolments or revocations.
#[test]
fn a_backup_of_a_running_server_is_restored_on_the_other_engine() {
    let mut world = with_director();
    let (device, revoked) = (world.enroll("pump-1"), world.enroll("pump-2"));
    let config = world.config();
    let server = world.start();
    assert_eq!(locks(&device.client(&server)), 200);
    for number in 0..5 {
        let answer = device
            .client(&server)
            .post(RECEIPTS, &device.receipt(number));
        assert_eq!(answer.status, 200);
    }
    let revoke = run(&["device", "revoke", "pump-2", "--config", text(&config)]);
    assert!(revoke.status.success());
    let backup = world.path("fleet.jsonl");
    let exported = run(&["export", text(&backup), "--config", text(&config), "--json"]);
    let said: Value = serde_json::from_slice(&exported.stdout).unwrap();
    assert_eq!(
        (&said["devices"], &said["receipts"]),
        (&2.into(), &5.into())
    );
    let again = run(&["export", text(&backup), "--config", text(&config)]);
    assert_eq!(again.status.code(), Some(1), "no backup is written over");
    server.kill();

    // The machine burned down: another state folder, another engine.
    std::fs::rename(world.path("state"), world.path("burned")).unwrap();
    let database = Cluster::shared().database_text();
    world.store = format!("engine = \"postgres\"\ndatabase = \"{database}\"");
    let config = world.config();
    let imported = run(&["import", text(&backup), "--config", text(&config)]);
    let said = String::from_utf8_lossy(&imported.stdout);
    assert!(said.starts_with("imported 2 devices, 5 receipts"), "{said}");
    let server = world.start();
    let view = device.client(&server).get("/device/v1/self");
    assert_eq!(view.status, 200);
    let view: Value = serde_json::from_slice(&view.body).unwrap();
    assert_eq!(view["receipts"].as_array().unwrap().len(), 5);
    let refused = revoked.client(&server).get("/device/v1/self");
    assert_eq!(refused.problem(), "device-revoked");
    let again = device.client(&server).post(RECEIPTS, &device.receipt(4));
    assert_eq!(again.status, 200);
    let held = ctl(&world, &["rollout", "permits"]).unwrap();
    assert_eq!(held[0]["device"], "pump-1", "and the permit that it took");
    server.stop();
}
