//! The kinds of change that make a mutant.

use ampoule_protocol::json::{self, Value};
use ampoule_tests::sim::Tree;

/// Takes a name and a changed tree.
type Judge<'a> = &'a mut dyn FnMut(&str, &Tree);

/// One kind of change: given the tree before and the tree with the release, hands over mutants.
type Change = fn(&Tree, &Tree, Judge<'_>);

/// All kinds.
pub(crate) const ALL: [Change; 8] = [
    each_byte_of_metadata,
    each_byte_of_content,
    each_signature_dropped,
    each_file_cut_short,
    each_file_missing,
    files_swapped,
    files_of_the_old_tree,
    numbers_of_metadata,
];

/// Those of metadata alone.
pub(crate) const OF_METADATA: [Change; 3] = [
    each_byte_of_metadata,
    each_signature_dropped,
    numbers_of_metadata,
];

fn is_metadata(path: &str) -> bool {
    path.starts_with("metadata/")
}

/// Files that this release needs: what is older or of another product cannot hurt it.
fn needed(path: &str) -> bool {
    let old = ["metadata/1.", ".release-"]
        .iter()
        .any(|part| path.contains(part));
    !old && !path.contains("2.4.0") && !path.contains("monitor")
}

fn each_byte_of_metadata(_: &Tree, tree: &Tree, judge: Judge<'_>) {
    flip(tree, judge, is_metadata, &[0x01, 0x20]);
}

fn each_byte_of_content(_: &Tree, tree: &Tree, judge: Judge<'_>) {
    flip(tree, judge, |path| !is_metadata(path), &[0x80]);
}

fn flip(tree: &Tree, judge: Judge<'_>, which: impl Fn(&str) -> bool, masks: &[u8]) {
    for (path, bytes) in tree.iter().filter(|(path, _)| which(path) && needed(path)) {
        let mut mutant = tree.clone();
        for (at, &byte) in bytes.iter().enumerate() {
            for mask in masks {
                set(&mut mutant, path, at, byte ^ mask);
                judge(&format!("{path}: byte {at} ^ {mask:#04x}"), &mutant);
            }
            set(&mut mutant, path, at, byte);
        }
    }
}

fn set(tree: &mut Tree, path: &str, at: usize, byte: u8) {
    tree.get_mut(path).expect("a file of the tree")[at] = byte;
}

fn each_signature_dropped(_: &Tree, tree: &Tree, judge: Judge<'_>) {
    for (path, bytes) in tree.iter().filter(|(path, _)| is_metadata(path)) {
        let value = json::parse(bytes).expect("published files are JSON");
        let count = value
            .member("signatures")
            .and_then(Value::as_array)
            .map_or(0, <[Value]>::len);
        for at in 0..count {
            let mut changed = value.clone();
            let Value::Object(members) = &mut changed else {
                continue;
            };
            let Some(Value::Array(signatures)) = members.get_mut("signatures") else {
                continue;
            };
            signatures.remove(at);
            let mut mutant = tree.clone();
            mutant.insert(path.clone(), json::compact(&changed));
            judge(&format!("{path}: signature {at} dropped"), &mutant);
        }
    }
}

fn each_file_cut_short(_: &Tree, tree: &Tree, judge: Judge<'_>) {
    for (path, bytes) in tree.iter().filter(|(path, _)| needed(path)) {
        for len in (0..bytes.len()).step_by(17).chain([bytes.len() - 1]) {
            let mut mutant = tree.clone();
            mutant.insert(path.clone(), bytes[..len].to_vec());
            judge(&format!("{path}: cut to {len} bytes"), &mutant);
        }
    }
}

fn each_file_missing(_: &Tree, tree: &Tree, judge: Judge<'_>) {
    for path in tree.keys() {
        let mut mutant = tree.clone();
        mutant.remove(path);
        judge(&format!("{path}: missing"), &mutant);
    }
}

/// Every file in the place of every other: between versions, products, roles and kinds.
fn files_swapped(_: &Tree, tree: &Tree, judge: Judge<'_>) {
    for to in tree.keys() {
        for from in tree.keys().filter(|from| *from != to) {
            let mut mutant = tree.clone();
            mutant.insert(to.clone(), tree[from].clone());
            judge(&format!("{from} in the place of {to}"), &mutant);
        }
    }
}

/// One file, or all but one, of the tree as it was before: a replay in every mixture.
fn files_of_the_old_tree(old: &Tree, tree: &Tree, judge: Judge<'_>) {
    for (path, bytes) in old {
        let mut mutant = tree.clone();
        mutant.insert(path.clone(), bytes.clone());
        judge(&format!("{path}: as it was"), &mutant);
    }
    for (path, bytes) in tree {
        let mut mutant = old.clone();
        mutant.insert(path.clone(), bytes.clone());
        judge(&format!("all but {path}: as it was"), &mutant);
    }
}

fn numbers_of_metadata(_: &Tree, tree: &Tree, judge: Judge<'_>) {
    for (path, bytes) in tree
        .iter()
        .filter(|(path, _)| is_metadata(path) && needed(path))
    {
        let value = json::parse(bytes).expect("published files are JSON");
        for (place, changed) in numbers_at_edges(&value) {
            let mut mutant = tree.clone();
            mutant.insert(path.clone(), json::compact(&changed));
            judge(&format!("{path}: {place}"), &mutant);
        }
    }
}

const EDGES: [i128; 9] = [
    -1,
    0,
    1,
    1 << 31,
    1 << 32,
    1 << 53,
    1 << 63,
    u64::MAX as i128,
    i64::MIN as i128,
];

/// `value` with each of its numbers, one at a time, one less, one more and at each edge.
pub(crate) fn numbers_at_edges(value: &Value) -> Vec<(String, Value)> {
    let mut places = Vec::new();
    collect(value, &mut Vec::new(), &mut places);
    let mut changed = Vec::new();
    for place in places {
        let Some(Value::Int(number)) = at(&mut value.clone(), &place).map(|v| v.clone()) else {
            continue;
        };
        for edge in EDGES.into_iter().chain([number - 1, number + 1]) {
            let mut mutant = value.clone();
            if let Some(slot) = at(&mut mutant, &place) {
                *slot = Value::Int(edge);
            }
            changed.push((format!("{} = {edge}", place.join(".")), mutant));
        }
    }
    changed
}

fn collect(value: &Value, here: &mut Vec<String>, places: &mut Vec<Vec<String>>) {
    match value {
        Value::Int(_) => places.push(here.clone()),
        Value::Object(members) => {
            for (name, member) in members {
                here.push(name.clone());
                collect(member, here, places);
                here.pop();
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                here.push(index.to_string());
                collect(item, here, places);
                here.pop();
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn at<'a>(value: &'a mut Value, place: &[String]) -> Option<&'a mut Value> {
    place.iter().try_fold(value, |value, step| match value {
        Value::Object(members) => members.get_mut(step),
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    })
}
