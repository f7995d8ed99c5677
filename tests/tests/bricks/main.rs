//! Bugs that bricked devices in the field, each by its name: what happened elsewhere, and the test
//! that keeps it from happening here.
//!
//! [`bugs::BUGS`] is the list, `docs/RELIABILITY.md` shows it. Many are kept by tests that stand
//! beside the code they are about; the families here are those that no part alone can keep.

mod bugs;
mod clock;
mod expiry;
mod hooks;
mod huge;
mod loops;
mod partial;
mod truth;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use ampoule_tests::page;
use bugs::{BUGS, Kept};

/// Every test that is named is there, and the page tells of it.
#[test]
fn each_bug_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut texts: BTreeMap<&str, String> = BTreeMap::new();
    let mut table = String::from("| | what happened | where | kept by |\n|---|---|---|---|\n");
    for bug in BUGS {
        for (file, test) in bug.tests {
            let text = texts.entry(file).or_insert_with(|| {
                std::fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
            });
            let is_there =
                text.contains(&format!("fn {test}(")) || text.contains(&format!("    {test}\n"));
            assert!(is_there, "\"{file}\" has no test \"{test}\"");
        }
        let mut kept: Vec<String> = bug
            .tests
            .iter()
            .map(|(file, test)| format!("`{test}` ({file})"))
            .collect();
        if let Kept::ByDesign(why) = bug.kept {
            kept.push(why.to_owned());
        }
        assert!(!kept.is_empty(), "{}: nothing keeps it", bug.what);
        let kept = kept.join("<br>");
        let _ = writeln!(
            table,
            "| {} | {} | {} | {kept} |",
            bug.group, bug.what, bug.seen
        );
    }
    let mut groups: Vec<u8> = BUGS.iter().map(|bug| bug.group).collect();
    groups.dedup();
    assert_eq!(groups, (1..=20).collect::<Vec<u8>>(), "a group is missing");
    page::tells("RELIABILITY.md", "bugs", &table);
}
