//! `cargo xtask plant`: takes out one protection after the other, and asks that its test sees it.
//!
//! `tests/planted.json` lists them: a piece of code, what a mistake would make of it, and the test
//! that is there to catch that mistake. They are planted in a copy of the workspace; the tests of
//! `cargo xtask test` run without them. `cargo xtask tidy` says which of them is not to be found any
//! more, so that the list cannot grow old in silence.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::shell::{self, Fault, Outcome};
use crate::table::Table;
use crate::workspace;

const HELP: &str = "\
cargo xtask plant [--together] [WORD]...

Plants the mistakes of tests/planted.json whose names contain a WORD (all without one), one at a time,
in a copy of the workspace below the build folder, and asks that the test of each fails. With
--together all are planted at once: quicker, and a weaker proof, since one may show another's test red.";

/// One planted mistake.
struct Mistake {
    name: String,
    file: String,
    from: String,
    to: String,
    /// What `cargo test` is told to build: a package and one of its targets.
    target: Vec<String>,
    test: String,
}

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let mut is_together = false;
    let mut words = Vec::new();
    for argument in arguments {
        match argument.as_str() {
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(());
            }
            "--together" => is_together = true,
            word if word.starts_with('-') => {
                return Err(Fault::usage(format!("plant takes no \"{word}\"")));
            }
            word => words.push(word),
        }
    }
    let mut mistakes = read()?;
    mistakes
        .retain(|mistake| words.is_empty() || words.iter().any(|word| mistake.name.contains(word)));
    if mistakes.is_empty() {
        return Err(Fault::usage("no mistake has such a name"));
    }
    let tree = workspace::target().join("planted");
    let rounds: Vec<&[Mistake]> = if is_together {
        vec![&mistakes]
    } else {
        mistakes.chunks(1).collect()
    };
    let mut shown = Table::new(&["planted", "test", "seen"]);
    let mut unseen = 0;
    for round in rounds {
        copy(&tree)?;
        round.iter().try_for_each(|mistake| plant(&tree, mistake))?;
        for mistake in round {
            let is_seen = is_red(&tree, mistake)?;
            unseen += usize::from(!is_seen);
            let word = if is_seen { "red" } else { "NOT SEEN" };
            // At once: a run that is cut off has shown something.
            println!("{word}: {}", mistake.name);
            shown.row([mistake.name.as_str(), &mistake.test, word]);
        }
    }
    shell::heading("planted mistakes");
    println!("{}", shown.to_text());
    match unseen {
        0 => Ok(()),
        count => Err(Fault::new(format!(
            "{count} of {} mistakes were not seen",
            mistakes.len()
        ))),
    }
}

fn read() -> Outcome<Vec<Mistake>> {
    let path = workspace::root().join("tests/planted.json");
    let wrong = |why: &str| {
        Fault::new(format!("\"{}\" is not a list of mistakes", path.display())).because(why)
    };
    let text = fs::read_to_string(&path).map_err(|error| wrong(&error.to_string()))?;
    let list: Value = serde_json::from_str(&text).map_err(|error| wrong(&error.to_string()))?;
    let list = list.as_array().ok_or_else(|| wrong("no array"))?;
    let mistake = |entry: &Value| {
        let word = |name: &str| {
            let word = entry[name].as_str().map(str::to_owned);
            word.ok_or_else(|| wrong(&format!("{entry} has no \"{name}\"")))
        };
        let target = word("target")?;
        Ok(Mistake {
            name: word("name")?,
            file: word("file")?,
            from: word("from")?,
            to: word("to")?,
            target: target.split(' ').map(str::to_owned).collect(),
            test: word("test")?,
        })
    };
    list.iter().map(mistake).collect()
}

/// Brings the copy to what the workspace holds; what is equal is not written, so that it is not
/// built again.
fn copy(tree: &Path) -> Outcome {
    for path in workspace::files()? {
        let from = workspace::root().join(&path);
        let to = tree.join(&path);
        let failed = |error: std::io::Error| {
            Fault::new(format!("failed to copy \"{}\"", path.display())).because(error)
        };
        let Ok(content) = fs::read(&from) else {
            continue; // a link, or deleted and not yet committed
        };
        if fs::read(&to).is_ok_and(|there| there == content) {
            continue;
        }
        let folder: PathBuf = to.parent().unwrap_or(tree).to_owned();
        fs::create_dir_all(folder).map_err(failed)?;
        fs::write(&to, content).map_err(failed)?;
    }
    Ok(())
}

/// What cannot be planted any more, because its code has changed; without building anything.
pub(crate) fn grown_old() -> Outcome<Vec<String>> {
    let mistakes = read()?;
    let root = workspace::root();
    let faults = mistakes.iter().filter_map(|it| planted(&root, it).err());
    Ok(faults.map(|fault| fault.to_string()).collect())
}

/// The text of the file with the mistake in it.
fn planted(tree: &Path, mistake: &Mistake) -> Outcome<String> {
    let wrong =
        |why: String| Fault::new(format!("\"{}\" cannot be planted", mistake.name)).because(why);
    let text = fs::read_to_string(tree.join(&mistake.file));
    let text = text.map_err(|error| wrong(error.to_string()))?;
    let count = text.matches(&mistake.from).count();
    if count != 1 {
        let (file, from) = (&mistake.file, &mistake.from);
        return Err(wrong(format!("{file} has its code {count} times: {from}"))
            .hint("mend tests/planted.json"));
    }
    Ok(text.replacen(&mistake.from, &mistake.to, 1))
}

fn plant(tree: &Path, mistake: &Mistake) -> Outcome {
    let path = tree.join(&mistake.file);
    fs::write(&path, planted(tree, mistake)?).map_err(|error| {
        Fault::new(format!("failed to write \"{}\"", path.display())).because(error)
    })
}

/// Whether the test ran and failed. A tree that does not build is an error, not a test that failed.
fn is_red(tree: &Path, mistake: &Mistake) -> Outcome<bool> {
    let cargo = |end: &[&str]| {
        let mut command = workspace::cargo();
        command
            .current_dir(tree)
            .args(["test", "--locked"])
            .args(&mistake.target)
            .args(end);
        // Not ours: a program with a mistake in it must not be taken for one of the workspace.
        command.env("CARGO_TARGET_DIR", tree.join("target"));
        command
    };
    shell::run(&mut cargo(&["--no-run", "--quiet"]))?;
    let ended = shell::finish(&mut cargo(&["--quiet", "--", "--exact", &mistake.test]))?;
    Ok(ended.code != Some(0) && ended.out.contains("1 failed"))
}
