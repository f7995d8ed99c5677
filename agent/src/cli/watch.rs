//! Progress for people: one line that is written over, only on a terminal. And for programs: a
//! JSON line for each thing that happens.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::json;

use super::show;
use crate::driver::Watch;
use crate::machine::State;

/// How often the line is written over.
const INTERVAL: Duration = Duration::from_millis(100);
/// How often a program is told of progress.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// Characters of the bar.
const BAR_LEN: u64 = 30;

/// Writes to stderr.
pub(super) struct Screen {
    is_terminal: bool,
    last: Instant,
    is_open: bool,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            last: Instant::now(),
            is_open: false,
        }
    }

    fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            eprintln!();
        }
    }
}

impl Watch for Screen {
    fn phase(&mut self, state: &State) {
        self.close();
        let version = state.phase.plan().map(|plan| format!(" {}", plan.version));
        eprintln!("{}{}", state.phase.as_str(), version.unwrap_or_default());
    }

    fn progress(&mut self, what: &str, done: u64, total: u64) {
        let is_end = done >= total;
        if !self.is_terminal || (self.last.elapsed() < INTERVAL && !is_end) {
            return;
        }
        self.last = Instant::now();
        let filled = (done.min(total) * BAR_LEN)
            .checked_div(total)
            .unwrap_or(BAR_LEN);
        let bar: String = (0..BAR_LEN)
            .map(|at| if at < filled { '#' } else { '.' })
            .collect();
        eprint!("\r  {what} [{bar}] {} of {} KiB", done >> 10, total >> 10);
        let _ = std::io::stderr().flush();
        self.is_open = true;
        if is_end {
            self.close();
        }
    }

    fn note(&mut self, text: &str) {
        self.close();
        eprintln!("  {text}");
    }
}

/// Writes JSON lines to stdout, for whoever reads them; nobody need read them.
pub(super) struct Lines {
    last: Option<Instant>,
}

impl Lines {
    pub(super) const fn new() -> Self {
        Self { last: None }
    }
}

impl Watch for Lines {
    fn phase(&mut self, state: &State) {
        let version = state.phase.plan().map(|plan| plan.version.to_string());
        let phase = state.phase.as_str();
        let _ = show::line(&json!({"event": "phase", "phase": phase, "version": version}));
    }

    fn progress(&mut self, what: &str, done: u64, total: u64) {
        let is_due = self.last.is_none_or(|last| last.elapsed() >= LINE_INTERVAL);
        if !is_due && done < total {
            return;
        }
        self.last = Some(Instant::now());
        let line = json!({"event": "progress", "what": what, "done": done, "total": total});
        let _ = show::line(&line);
    }

    fn note(&mut self, text: &str) {
        let _ = show::line(&json!({"event": "note", "text": text}));
    }
}
