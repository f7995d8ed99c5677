//! The table role × act, three times: as it is written down here, as the code has it, and as the
//! door answers a certificate of each role on each route.

use std::collections::BTreeSet;

use ampoule_server::door::api;
use ampoule_server::door::rights::{NEEDS, Need};
use ampoule_server::door::roles::{Right, Role};
use serde_json::{Value, json};

use crate::common::people::{Api, program, with_door};
use crate::common::{World, run};

/// RE release engineer, SO safety officer, RA regulatory, FO fleet operator, SA security analyst,
/// SI site, AU auditor, AD administrator. `!` asks for a fresh code.
const TABLE: &str = "\
RIGHT             RE SO RA FO SA SI AU AD
ReadDevices       x  x  x  x  x  x  x  .
ReadRollouts      x  x  x  x  x  x  x  .
EnrollDevice      .  .  .  x  .  .  .  .
TagDevice         .  .  .  x  .  .  .  .
RevokeDevice!     .  .  .  x  x  .  .  .
TryRollout        x  x  .  x  .  .  .  .
CreateRollout     x  .  .  x  .  .  .  .
ApproveRollout!   .  x  .  .  .  .  .  .
PauseRollout      x  x  x  x  x  .  .  .
AbortRollout      .  x  .  x  .  .  .  .
ResumeRollout!    .  .  .  x  .  .  .  .
RetryRollout!     .  .  .  x  .  .  .  .
ReadAudit         .  x  .  .  x  .  x  x
CosignAudit       .  .  .  .  .  .  x  .
ReadMetrics       x  x  .  x  x  .  x  x
ReadAccounts      .  .  .  .  .  .  x  x
CreateAccount!    .  .  .  .  .  .  .  x
ChangeAccount!    .  .  .  .  .  .  .  x
";

#[test]
fn the_table_is_the_code() {
    let mut table = String::from("RIGHT             RE SO RA FO SA SI AU AD\n");
    for right in Right::ALL {
        let mark = if right.is_dangerous() { "!" } else { "" };
        let cells = Role::ALL.map(|role| if role.may(right) { "x" } else { "." });
        let name = format!("{right:?}{mark}");
        table = format!("{table}{name:18}{}\n", cells.join("  "));
    }
    assert_eq!(table, TABLE);
}

/// Every route of the document needs something that is written down, and nothing else is routed.
#[test]
fn every_route_is_in_the_table_of_needs() {
    let document: Value = serde_json::from_str(&api::document()).unwrap();
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let needed = NEEDS
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()));
    assert_eq!(described, needed.collect());
}

/// Golden: `ampoule-server openapi > docs/openapi.json` where a change is meant.
#[test]
fn the_committed_document_is_the_one_of_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let printed = run(&["openapi"]);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), api::document());
    assert!(
        committed == api::document(),
        "docs/openapi.json is not that of the code"
    );
}

/// Catches: a handler that is reached without its right, a right that opens another route.
#[test]
fn the_door_answers_each_role_as_the_table_says() {
    let world = with_door(World::new());
    world.enroll("pump-1");
    let server = world.start();
    let nobody = Api::new(&world, &server);
    let roles = Role::ALL.map(|role| {
        let name = format!("p-{}", role.as_str());
        let (_, _, client) = program(&world, role.as_str(), &name);
        (role, Api::with(&world, &server, Some(client)))
    });
    for (method, path, need) in NEEDS {
        let path = path
            .replace("{device}", "pump-1")
            .replace("{rollout}", "r1");
        let path = path
            .replace("{account}", "bob")
            .replace("{path}", "0/000")
            .replace("{id}", "00000000");
        if let Need::Right(right) = need {
            nobody
                .call(method, &path, None, &json!({}))
                .refused(401, "nobody");
            for (role, api) in &roles {
                let reply = api.call(method, &path, None, &json!({}));
                let denied = reply.code() == "not-allowed";
                assert_eq!(
                    denied,
                    !role.may(*right),
                    "{method} {path} as {role:?}: {reply:?}"
                );
                assert_ne!(reply.status, 401, "{method} {path}");
            }
        }
    }
    // What is not a route is nothing, to whoever asks, and a method that is not there too.
    for (_, api) in &roles {
        api.call("GET", "/api/v1/keys", None, &Value::Null)
            .refused(404, "not-found");
        let other = api.call("DELETE", "/api/v1/devices/pump-1", None, &Value::Null);
        assert!(other.status == 404 || other.status == 405, "{other:?}");
    }
    // A certificate of a device, or one without a role of ours, is nobody.
    for (role, name) in [("god", "p-god"), ("", "p-none")] {
        let (_, _, client) = program(&world, role, name);
        let api = Api::with(&world, &server, Some(client));
        api.call("GET", "/api/v1/devices", None, &Value::Null)
            .refused(401, "nobody");
    }
    server.stop();
}
