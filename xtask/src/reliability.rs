//! `cargo xtask reliability`: lets the tests that try to brick a device write what they found into
//! the docs: every power cut, the states of the machine, the bugs of the field.

use crate::shell::{self, Fault, Outcome};
use crate::workspace;

const HELP: &str = "\
cargo xtask reliability

Runs the tests of power cuts, failing media, the machine's states and the field's bugs, and writes
their tables into docs/RELIABILITY.md and docs/MACHINE.md. All states after several cuts are visited;
AMPOULE_POWER_DEPTH bounds them, and AMPOULE_POWER_SEED chooses which are taken then.";

/// Tells the tests to write what they would compare.
const WRITE: &str = "AMPOULE_WRITE_DOCS";

/// How many states after several cuts are visited of each story: more than there are.
const DEPTH: (&str, &str) = ("AMPOULE_POWER_DEPTH", "20000");

const PAGE: &str = "docs/RELIABILITY.md";

/// The tables that are printed line by line: their mark, and their head.
const TABLES: [(&str, &str); 2] = [
    (
        "cuts",
        "| story | operations | cuts | states | cuts in recoveries | states after them | violations |",
    ),
    ("faults", "| story | fault | places tried | violations |"),
];

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    match arguments.first().map(String::as_str) {
        None => {}
        Some("--help" | "-h") => {
            println!("{HELP}");
            return Ok(());
        }
        Some(other) => return Err(Fault::usage(format!("reliability takes no \"{other}\""))),
    }
    let mut tests = workspace::cargo();
    // As `cargo xtask test` builds them, so that nothing is built twice.
    tests.args(["test", "--workspace", "--locked"]);
    tests.args(["--test", "power", "--test", "bricks", "--", "--nocapture"]);
    tests.env(WRITE, "1");
    if std::env::var_os(DEPTH.0).is_none() {
        tests.env(DEPTH.0, DEPTH.1);
    }
    println!("$ {}", shell::spelled(&tests));
    let printed = shell::read(&mut tests)?;

    let path = workspace::root().join(PAGE);
    let unreadable =
        |error: std::io::Error| Fault::new(format!("\"{PAGE}\" failed")).because(error);
    let mut page = std::fs::read_to_string(&path).map_err(unreadable)?;
    for (mark, head) in TABLES {
        let table = table(&printed, mark, head);
        println!("\n{table}");
        page = between(&page, mark, &table)?;
    }
    std::fs::write(&path, page).map_err(unreadable)
}

/// The lines `mark: | … |` of what was printed, in the order of their text, under their head.
fn table(printed: &str, mark: &str, head: &str) -> String {
    let start = format!("{mark}: ");
    let mut rows: Vec<&str> = printed
        .lines()
        .filter_map(|line| Some(line.split_once(&start)?.1))
        .collect();
    rows.sort_unstable();
    let rule = "|---".repeat(head.matches('|').count() - 1) + "|";
    let lines = [head, &rule].into_iter().chain(rows);
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The page with `text` between the marks.
fn between(page: &str, mark: &str, text: &str) -> Outcome<String> {
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let parts = page
        .split_once(&begin)
        .and_then(|(head, rest)| Some((head, rest.split_once(&end)?.1)));
    let (head, tail) = parts.ok_or_else(|| Fault::new(format!("\"{PAGE}\" has no \"{mark}\"")))?;
    Ok(format!("{head}{begin}{text}{end}{tail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_order_between_the_marks() {
        let printed = "test b ... cuts: | b | 2 |\ncuts: | a | 1 |\nfaults: | c |\n";
        let table = table(printed, "cuts", "| story | n |");
        assert_eq!(table, "| story | n |\n|---|---|\n| a | 1 |\n| b | 2 |\n");
        let page = between("x\n<!-- cuts -->\nold\n<!-- /cuts -->\ny", "cuts", &table);
        let page = page.expect("it has the marks");
        assert!(page.starts_with("x\n<!-- cuts -->\n| story") && page.ends_with("-->\ny"));
        assert!(between("none", "cuts", "").is_err());
    }
}
