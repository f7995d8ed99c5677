//! What we do at a terminal, and what we do not. All of it is here.
//!
//! - Results go to standard output; progress, prompts, warnings and errors to standard error.
//! - Colour only where standard output is a terminal, `NO_COLOR` is unset or empty and `TERM` is
//!   not `dumb`.
//! - Progress bars only where standard error is a terminal, and only for work longer than a
//!   second.
//! - A question is asked only where standard input is a terminal; elsewhere its absence is an
//!   error with a hint, never a guess.
//! - Text from files loses its control characters before it is shown: metadata must not move the
//!   cursor or forge a line.

use std::cell::RefCell;
use std::io::{BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::progress::Progress;

/// Work that is done sooner shows no bar.
const BAR_AFTER: Duration = Duration::from_secs(1);

/// How a piece of text is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Something is missing.
    Missing,
    /// A heading.
    Strong,
}

/// Colours `text` where colour is wanted.
pub fn paint(tone: Tone, text: &str) -> String {
    if !colour_wanted() {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Missing => "33",
        Tone::Strong => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

fn colour_wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// `text` without control characters; newlines stay where `lines` allows them.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A table of texts.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(if std::io::stdout().is_terminal() {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    table.trim_fmt()
}

/// Asks; only a whole `yes` is one.
pub fn confirm(question: &str) -> std::io::Result<bool> {
    let mut err = std::io::stderr().lock();
    write!(err, "{question} Type \"yes\": ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Whether a person can be asked.
pub fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Progress bars on standard error.
#[derive(Default)]
pub struct Bars {
    current: RefCell<Option<Current>>,
}

struct Current {
    what: String,
    total: u64,
    done: u64,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: u64) {
        self.end();
        let what = plain(what);
        *self.current.borrow_mut() = Some(Current {
            what,
            total,
            done: 0,
            since: Instant::now(),
            bar: None,
        });
    }

    fn advance(&self, bytes: u64) {
        let mut current = self.current.borrow_mut();
        let Some(current) = current.as_mut() else {
            return;
        };
        current.done = current.done.saturating_add(bytes);
        if current.bar.is_none() && current.since.elapsed() >= BAR_AFTER {
            current.bar = Some(bar(current));
        }
        if let Some(bar) = &current.bar {
            bar.set_position(current.done);
        }
    }

    fn end(&self) {
        if let Some(Current { bar: Some(bar), .. }) = self.current.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}

/// Hidden by indicatif itself where standard error is no terminal.
fn bar(current: &Current) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(current.total), ProgressDrawTarget::stderr())
        .with_elapsed(current.since.elapsed())
        .with_position(current.done);
    // What was done before the bar was there is no speed.
    bar.reset_eta();
    let template = "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(current.what.clone());
    bar
}

/// `1 delta`, `2 deltas`.
pub fn count(number: usize, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {one}{plural}")
}

/// A length for people, the exact bytes with it where it was rounded.
pub fn bytes(len: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if len < 1024 {
        return format!("{len} bytes");
    }
    let mut tenths = u128::from(len) * 10 / 1024;
    let mut unit = 0;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_for_people() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(256 << 20), "256.0 MiB");
        assert_eq!(bytes(u64::MAX), "16777215.9 TiB");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert!(!table(&["h"], &[vec!["x\u{7}".into()]]).contains('\u{7}'));
    }
}
