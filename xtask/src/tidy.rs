//! `cargo xtask tidy`: what a reader would stumble over and no compiler says.
//!
//! Formatting, the length of files, a header on every module, words that the glossary leaves
//! aside in the names of public items, code left open, and paths of one machine. Each check is a
//! plain function from a file's text to complaints, so that it can be tested without files.

use std::path::Path;

use crate::plant;
use crate::shell::{self, Fault, Outcome};
use crate::workspace;

/// The longest file that still has one subject. Past it, split by subject.
const LINES_MAX: usize = 500;

/// Words that the glossary leaves aside, and what to say in their place.
const ASIDE: [(&str, &str); 7] = [
    ("manifest", "say what it is: envelope, release, inventory"),
    ("package", "say release, artifact or component"),
    ("upgrade", "say update"),
    ("wave", "say step"),
    ("partition", "say slot"),
    ("latest", "say newest trusted"),
    ("valid", "say verified, fresh or well-formed"),
];

/// What marks code as left open. Written in halves, so that this file does not find itself.
const OPEN: [&str; 3] = [
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("#[ig", "nore"),
];

/// Beginnings of paths that exist on one machine only. In halves as well.
const MACHINE: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!(".lib", "rary/"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/."),
];

const HELP: &str = "\
cargo xtask tidy

Checks formatting, file lengths, module headers, words, stubs, machine paths and that each planted mistake
still has its place; changes nothing.
`cargo fmt --all` mends the first.";

/// Runs every check and lists all complaints at once.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    match arguments.first().map(String::as_str) {
        None => {}
        Some("--help" | "-h") => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(Fault::usage(format!("tidy takes no \"{other}\""))),
    }
    shell::run(workspace::cargo().args(["fmt", "--all", "--check"]))?;

    let mut complaints = plant::grown_old()?;
    let files = workspace::files()?;
    for path in &files {
        // What is not text (images, corpora) has nothing to read.
        let Ok(text) = std::fs::read_to_string(workspace::root().join(path)) else {
            continue;
        };
        complaints.extend(machine_paths(path, &text));
        if path.extension().is_some_and(|e| e == "rs") {
            complaints.extend(too_long(path, &text));
            complaints.extend(no_header(path, &text));
            complaints.extend(left_open(path, &text));
            complaints.extend(words_aside(path, &text));
        }
    }
    for complaint in &complaints {
        eprintln!("{complaint}");
    }
    if complaints.is_empty() {
        println!("tidy: {} files, nothing to say", files.len());
        Ok(())
    } else {
        Err(Fault::new(format!(
            "tidy found {} places to mend",
            complaints.len()
        )))
    }
}

fn too_long(path: &Path, text: &str) -> Option<String> {
    let lines = text.lines().count();
    (lines > LINES_MAX).then(|| format!("{}: {lines} lines, at most {LINES_MAX}", path.display()))
}

/// A module says what it is for before anything else. Integration tests are modules too.
fn no_header(path: &Path, text: &str) -> Option<String> {
    let first = text
        .lines()
        .find(|l| !l.trim().is_empty() && !l.starts_with("#!["));
    let told = first.is_some_and(|l| l.starts_with("//!"));
    (!told).then(|| format!("{}: no module header (`//!`)", path.display()))
}

fn left_open(path: &Path, text: &str) -> Vec<String> {
    find(path, text, &OPEN, "left open")
}

fn machine_paths(path: &Path, text: &str) -> Vec<String> {
    find(path, text, &MACHINE, "a path of one machine")
}

fn find(path: &Path, text: &str, marks: &[&str], what: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for mark in marks.iter().filter(|mark| line.contains(**mark)) {
            found.push(format!("{}:{}: {what}: {mark}", path.display(), at + 1));
        }
    }
    found
}

fn words_aside(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some(name) = public_name(line) else {
            continue;
        };
        for word in words_of(name) {
            if let Some((_, instead)) = ASIDE.iter().find(|(aside, _)| *aside == word) {
                let place = format!("{}:{}", path.display(), at + 1);
                found.push(format!(
                    "{place}: \"{word}\" in the public name {name}: {instead}"
                ));
            }
        }
    }
    found
}

/// The name that a line makes public, if it does.
fn public_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = rest
        .trim_start_matches("const fn ")
        .trim_start_matches("async ");
    let mut words = rest.split_whitespace();
    let first = words.next()?;
    let name = match first {
        "fn" | "struct" | "enum" | "trait" | "const" | "type" | "mod" | "static" => words.next()?,
        _ => first,
    };
    name.split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()
        .filter(|n| !n.is_empty())
}

/// The lower-case words of a `snake_case` or `CamelCase` name.
fn words_of(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for c in name.chars() {
        let starts = c == '_' || (c.is_uppercase() && !before.is_uppercase());
        if starts && words.last().is_some_and(|w| !w.is_empty()) {
            words.push(String::new());
        }
        if c != '_'
            && let Some(last) = words.last_mut()
        {
            last.extend(c.to_lowercase());
        }
        before = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_left_aside_is_found_in_each_kind_of_public_name() {
        let path = Path::new("a.rs");
        for line in [
            "pub struct LatestRoot;",
            "    pub fn is_valid(&self)",
            "pub package: u8,",
        ] {
            assert_eq!(words_aside(path, line).len(), 1, "{line}");
        }
        for line in [
            "fn is_valid()",
            "pub fn validate()",
            "pub(crate) fn package()",
            "// latest",
        ] {
            assert!(words_aside(path, line).is_empty(), "{line}");
        }
    }

    #[test]
    fn a_stub_and_a_machine_path_are_found_with_their_line() {
        let path = Path::new("a.rs");
        let stub = format!("fn a() {{\n    {})\n}}", OPEN[0]);
        assert_eq!(
            left_open(path, &stub),
            [format!("a.rs:2: left open: {}", OPEN[0])]
        );
        assert_eq!(machine_paths(path, &format!("at {}x", MACHINE[0])).len(), 1);
        assert!(machine_paths(path, "at /etc/ampoule").is_empty());
    }

    #[test]
    fn a_file_is_too_long_one_line_past_the_limit() {
        let path = Path::new("a.rs");
        assert!(too_long(path, &"x\n".repeat(LINES_MAX)).is_none());
        assert!(too_long(path, &"x\n".repeat(LINES_MAX + 1)).is_some());
    }

    #[test]
    fn a_header_may_follow_an_inner_attribute_and_nothing_else() {
        let path = Path::new("a.rs");
        assert!(no_header(path, "#![no_main]\n\n//! Fuzzes.").is_none());
        assert!(no_header(path, "//! Tells.").is_none());
        assert!(no_header(path, "use std::fmt;\n//! Late.").is_some());
    }
}
