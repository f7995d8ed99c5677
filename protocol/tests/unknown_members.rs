//! Members that we do not know survive reading and writing, wherever they stand (TUF 1.0.34 section 4.1:
//! a client must not fail because of them, and a signature covers them).
//!
//! Method: every object of every payload that may have members of others gets one that sorts before
//! ours and one after; the payload is read, written, and compared whole. Catches: an object that drops
//! them, and one that keeps its own members a second time.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::json::{Map, Value};
use ampoule_protocol::metadata::{
    DelegatedRole, Delegations, Listing, MetaFile, Payload, RoleKeys, RoleType, Root, Snapshot,
    SuccinctBins, TargetFile, Targets, Timestamp, Trusts,
};
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_protocol::sign::{Ed25519Key, Sign};
use ampoule_protocol::time::UtcTime;

const EXPIRES: UtcTime = UtcTime::from_unix(2_000_000_000);

/// Members of objects whose names are data: what stands there is not unknown.
const BY_NAME: [&str; 5] = ["keys", "roles", "meta", "targets", "hashes"];

fn top() -> ampoule_protocol::key::Key {
    let key = Ed25519Key::from_seed(&[1; 32]).expect("a seed");
    key.public_key().to_key()
}

fn keys() -> RoleKeys {
    RoleKeys::new(vec![top().id()], 1)
}

fn root() -> Root {
    let mut root = Root::new(EXPIRES);
    for role in RoleType::ALL {
        root.roles.insert(role, keys());
    }
    root.keys.insert(top().id(), top());
    root
}

fn targets(roles: Listing) -> Targets {
    let mut targets = Targets::new(EXPIRES);
    let path = TargetPath::parse("pump/firmware.img").expect("a path");
    let file = TargetFile::new(1, Digest::of(b"x"));
    targets
        .targets
        .insert(path, file.with_custom(Value::from("ours")));
    let mut delegations = Delegations::new();
    delegations.keys.insert(top().id(), top());
    delegations.roles = roles;
    targets.delegations = Some(delegations);
    targets
}

fn one_role() -> Listing {
    Listing::Roles(vec![DelegatedRole {
        name: RoleName::parse("pump").expect("a name"),
        keys: keys(),
        trusts: Trusts::Paths(vec!["pump/*".into()]),
        terminating: true,
    }])
}

fn bins() -> Listing {
    Listing::Bins(SuccinctBins {
        keys: keys(),
        bit_length: 8,
        name_prefix: "bin".into(),
    })
}

/// Adds two members of others to each object; how many objects got them.
fn add_unknown(value: &mut Value, is_by_name: bool) -> usize {
    match value {
        Value::Array(items) => items.iter_mut().map(|item| add_unknown(item, false)).sum(),
        Value::Object(members) => {
            let below = add_below(members, is_by_name);
            if is_by_name {
                return below;
            }
            members.insert("A-first".into(), Value::from("kept"));
            members.insert("~last".into(), Value::Array(vec![Value::from(7)]));
            below + 1
        }
        _ => 0,
    }
}

fn add_below(members: &mut Map, are_by_name: bool) -> usize {
    let names: Vec<String> = members.keys().cloned().collect();
    let added = names.iter().map(|name| {
        let value = members.get_mut(name).expect("it is there");
        // Among entries by name, `targets` is the role of a root.
        let is_by_name = !are_by_name && BY_NAME.contains(&name.as_str());
        add_unknown(value, is_by_name)
    });
    added.sum()
}

fn survive<T: Payload>(payload: &T, objects: usize) {
    let mut signed = payload.to_signed();
    assert_eq!(add_unknown(&mut signed, false), objects, "{}", T::NAME);
    let read = T::from_signed(&signed).expect("unknown members do no harm");
    assert_eq!(read.to_signed(), signed, "{}", T::NAME);
}

#[test]
fn of_every_payload() {
    // The payload, a key and its value, four roles.
    survive(&root(), 1 + 2 + 4);
    // The payload, a target, the delegations, a key and its value, a role or the bins.
    survive(&targets(one_role()), 1 + 1 + 1 + 2 + 1);
    survive(&targets(bins()), 1 + 1 + 1 + 2 + 1);
    let file = MetaFile::of(targets(bins()).version(), b"x");
    let mut snapshot = Snapshot::new(EXPIRES);
    let name = Snapshot::meta_name(&RoleName::targets());
    snapshot.meta.insert(name, file.clone());
    // The payload and a file.
    survive(&snapshot, 2);
    survive(&Timestamp::new(EXPIRES, file), 2);
}
