//! Pages of `docs/` that hold what a test found, between two marks.
//!
//! `<!-- NAME -->` and `<!-- /NAME -->` stand around it. `cargo xtask reliability` lets the tests
//! write; otherwise they compare, so that no page tells of what is not there.

use std::path::Path;

/// Set by `cargo xtask reliability`.
const WRITE: &str = "AMPOULE_WRITE_DOCS";

/// The page `docs/<page>` tells `found` between the marks of `name`; where told so, it is made to.
///
/// # Panics
/// Where the page is missing, has no such marks, or tells something else.
pub fn tells(page: &str, name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(page);
    let text = std::fs::read_to_string(&path).expect("a page");
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let (head, rest) = text.split_once(&begin).expect("the first mark");
    let (told, tail) = rest.split_once(&end).expect("the second mark");
    if std::env::var_os(WRITE).is_some() {
        let text = format!("{head}{begin}{found}{end}{tail}");
        std::fs::write(&path, text).expect("written");
        return;
    }
    assert_eq!(
        told, found,
        "docs/{page} is behind; \"cargo xtask reliability\" writes it"
    );
}
