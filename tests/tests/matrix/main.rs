//! The compromise matrix: every set of stolen powers against every attack, and the outcome equal
//! to the table in docs/THREATS.md, row by row.
//!
//! Method: the attack is really carried out. [`attacker`] forges files with the keys that the set
//! holds (and a key of its own where it lacks one) and serves them where the set gives a place to
//! serve from; a device in a fleet lives through it. Whether it came to what the attacker wants is
//! then compared with the table: a row names the least sets that suffice, so a set suffices
//! exactly if it contains one of them.
//!
//! [`drills`]: for each stolen key, the rotation that ends the thief's power, against live devices.

mod attacker;
mod drills;
mod fleet;

use std::collections::{BTreeMap, BTreeSet};

use attacker::{ATTACKS, Power, comes_to_it};
use fleet::Fleet;

/// By the name of the attack, the least sets of powers that suffice; none means never.
type Table = BTreeMap<String, Vec<BTreeSet<Power>>>;

fn table() -> Table {
    let text = include_str!("../../../docs/THREATS.md");
    let section = text
        .split("## The compromise matrix")
        .nth(1)
        .expect("the table is in THREATS.md");
    let section = section.split("\n## ").next().expect("a first part");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let rows = rows.skip(1).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let sets = match cells[1] {
            "never" => Vec::new(),
            sets => sets.split("; or ").map(set).collect(),
        };
        (cells[0].to_owned(), sets)
    });
    rows.collect()
}

fn set(text: &str) -> BTreeSet<Power> {
    let words = text.split(" + ").map(str::trim);
    words
        .map(|word| {
            let power = Power::ALL.iter().find(|power| power.as_str() == word);
            *power.unwrap_or_else(|| panic!("\"{word}\" is no power"))
        })
        .collect()
}

fn every_set() -> impl Iterator<Item = BTreeSet<Power>> {
    (0_u32..1 << Power::ALL.len()).map(|bits| {
        let held = (0..)
            .zip(Power::ALL)
            .filter(move |(at, _)| bits & (1 << at) != 0);
        held.map(|(_, power)| power).collect()
    })
}

#[test]
fn every_set_of_powers_against_every_attack() {
    let table = table();
    let named: Vec<&str> = table.keys().map(String::as_str).collect();
    let mut known: Vec<&str> = ATTACKS.iter().map(|(name, _)| *name).collect();
    known.sort_unstable();
    assert_eq!(named, known, "each row is an attack, each attack a row");
    let fleet = Fleet::new();
    let mut judged = 0;
    for (name, attack) in ATTACKS {
        let least = &table[*name];
        for held in every_set() {
            let found = comes_to_it(&fleet, &held, *attack);
            let told = least.iter().any(|set| set.is_subset(&held));
            assert_eq!(found, told, "{name} with {held:?}; the table says {told}");
            judged += 1;
        }
    }
    assert_eq!(judged, 512 * ATTACKS.len());
}
