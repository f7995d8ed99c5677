//! The corpus's director, as one of ours: the offers get our terms, and the snapshot and timestamp
//! that the corpus does not have are added, signed by keys that are added to its roots.
//!
//! An ECU of the corpus is a device of ours, its ECU identifier a device id.

use std::collections::BTreeMap;

use ampoule_protocol::json::{Map, Value};
use ampoule_protocol::metadata::{MetaFile, Payload, Snapshot, Timestamp};
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::MetaVersion;
use ampoule_tests::sim::{Role, TestKey, Tree};

/// As fresh as the rest of the corpus.
const EXPIRES: &str = "2038-01-19T03:14:06Z";

fn key() -> TestKey {
    TestKey::ed25519("the director's snapshot and timestamp")
}

/// Roots name our key for the roles that the corpus lacks; targets speak our words.
pub(super) fn translate(signed: &mut Value) {
    let Value::Object(members) = signed else {
        panic!("signed is an object")
    };
    match members.get("_type").and_then(Value::as_str) {
        Some("root") => add_roles(members),
        Some("targets") => add_terms(members),
        _ => {}
    }
}

fn add_roles(root: &mut Map) {
    let key = key();
    if let Some(Value::Object(keys)) = root.get_mut("keys") {
        keys.insert(
            key.id.as_str().into(),
            Value::Object(key.object.object().clone()),
        );
    }
    let role = Map::from([
        ("keyids".into(), Value::Array(vec![key.id.as_str().into()])),
        ("threshold".into(), 1_u64.into()),
    ]);
    if let Some(Value::Object(roles)) = root.get_mut("roles") {
        for name in ["snapshot", "timestamp"] {
            roles.insert(name.into(), Value::Object(role.clone()));
        }
    }
}

/// The device is named by the offers, since the corpus names nobody elsewhere.
fn add_terms(targets: &mut Map) {
    let mut named = None;
    if let Some(Value::Object(files)) = targets.get_mut("targets") {
        for file in files.values_mut() {
            let ecus = file
                .member("custom")
                .and_then(|custom| custom.member("ecuIdentifiers")?.as_object());
            let (ecu, what) = ecus.and_then(|ecus| ecus.iter().next()).expect("an ECU");
            let terms = Map::from([
                ("format".into(), 1_u64.into()),
                ("device".into(), ecu.as_str().into()),
                (
                    "hardware".into(),
                    what.member("hardwareId").cloned().expect("a hardware id"),
                ),
            ]);
            named = Some(ecu.clone());
            let custom = Map::from([("ampoule".into(), Value::Object(terms))]);
            let Value::Object(file) = file else {
                panic!("a file is an object")
            };
            file.insert("custom".into(), Value::Object(custom));
        }
    }
    let named = named.unwrap_or_else(|| "primary-ecu".into());
    targets.insert("ampoule_device".into(), named.as_str().into());
}

/// Snapshot and timestamp for the targets that there are; neither says a length, so that too long
/// a file is stopped by our own bound.
pub(super) fn complete(tree: &mut Tree) {
    let expires = UtcTime::parse(EXPIRES).expect("a time");
    let targets = tree.get("metadata/targets.json");
    let version = targets.and_then(|file| {
        let file = ampoule_protocol::json::parse(file).ok()?;
        MetaVersion::new(file.member("signed")?.member("version")?.as_u64()?)
    });
    let bare = |version| MetaFile {
        version,
        length: None,
        hashes: None,
        extra: Map::new(),
    };
    let version = version.unwrap_or(MetaVersion::FIRST);
    let mut snapshot = Snapshot::new(expires);
    snapshot.meta = BTreeMap::from([("targets.json".into(), bare(version))]);
    let timestamp = Timestamp::new(expires, bare(MetaVersion::FIRST));
    put(tree, "snapshot.json", snapshot);
    put(tree, "timestamp.json", timestamp);
}

fn put<P: Payload>(tree: &mut Tree, name: &str, payload: P) {
    let file = Role::new(payload, vec![key()]).to_file();
    tree.insert(format!("metadata/{name}"), file);
}
