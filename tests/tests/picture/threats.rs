//! docs/THREATS.md names tests that exist.
//!
//! Each row of its tables about attackers and attacks ends with what keeps it: files of tests, or
//! tests by name. Catches: a test that was renamed or removed, a row that names none.

use std::collections::BTreeSet;
use std::path::Path;

use super::workspace_root;

/// Every function under a `#[test]`, and every file that has one.
struct Tests {
    names: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Tests {
    fn of(root: &Path) -> Self {
        let mut tests = Self {
            names: BTreeSet::new(),
            files: BTreeSet::new(),
        };
        for part in ["protocol", "delta", "signer", "server", "agent", "tests"] {
            tests.read(root, &root.join(part));
        }
        tests
    }

    fn read(&mut self, root: &Path, path: &Path) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).expect("a folder") {
                self.read(root, &entry.expect("an entry").path());
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(path).expect("source");
            let names = names_in(&text);
            if !names.is_empty() {
                let file = path.strip_prefix(root).expect("below the root");
                self.files.insert(file.to_string_lossy().into_owned());
            }
            self.names.extend(names);
        }
    }
}

fn names_in(text: &str) -> BTreeSet<String> {
    let mut lines = text.lines().map(str::trim);
    let mut names = BTreeSet::new();
    while let Some(line) = lines.next() {
        if line != "#[test]" {
            continue;
        }
        let function = lines.find_map(|line| line.strip_prefix("fn "));
        let name = function.and_then(|rest| rest.split('(').next());
        names.extend(name.map(str::to_owned));
    }
    names
}

/// What is wrong with the tables of `text`.
fn faults(text: &str, tests: &Tests) -> Vec<String> {
    let mut faults = Vec::new();
    let mut is_kept = false;
    for line in text.lines() {
        let Some(row) = line.strip_prefix('|') else {
            is_kept = false;
            continue;
        };
        let last = row.trim_end_matches('|').rsplit('|').next().unwrap_or("");
        if last.trim() == "kept by" {
            is_kept = true;
            continue;
        }
        if !is_kept || last.starts_with("---") {
            continue;
        }
        let named: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
        if named.is_empty() {
            faults.push(format!("nothing keeps: {line}"));
        }
        let missing = named
            .into_iter()
            .filter(|name| !tests.names.contains(*name) && !tests.files.contains(*name));
        faults.extend(missing.map(|name| format!("there is no test {name}")));
    }
    faults
}

#[test]
fn threats_name_tests_that_exist() {
    let root = workspace_root();
    let text = std::fs::read_to_string(root.join("docs/THREATS.md")).expect("the page");
    assert!(
        text.matches("kept by |").count() >= 2,
        "the tables are gone"
    );
    assert_eq!(faults(&text, &Tests::of(&root)), Vec::<String>::new());
}

#[test]
fn a_row_without_a_test_and_a_test_that_is_gone_are_seen() {
    let tests = Tests::of(&workspace_root());
    let table = "| attack | kept by |\n|---|---|\n| one | words |\n| two | `of_nothing_at_all` |\n\
                 | three | `threats_name_tests_that_exist` |\n";
    assert_eq!(
        faults(table, &tests),
        [
            "nothing keeps: | one | words |",
            "there is no test of_nothing_at_all"
        ]
    );
}
