//! What the server says while it runs: one line an event, on standard error.

use std::collections::HashSet;
use std::fmt::Arguments;
use std::sync::{Mutex, PoisonError};

/// Standard error, with a memory of what is wrong just now.
#[derive(Debug, Default)]
pub struct Log {
    standing: Mutex<HashSet<&'static str>>,
}

impl Log {
    /// Something that went as it should.
    pub fn note(&self, text: Arguments<'_>) {
        eprintln!("note: {}", one_line(&text.to_string()));
    }

    /// Something that a person should look at.
    pub fn warn(&self, text: Arguments<'_>) {
        eprintln!("warning: {}", one_line(&text.to_string()));
    }

    /// A trouble that lasts: said when it begins, not each time it is met.
    pub fn trouble(&self, name: &'static str, text: Arguments<'_>) {
        if self
            .standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name)
        {
            self.warn(text);
        }
    }

    /// Ends a trouble; the next one of that name is said again.
    pub fn over(&self, name: &'static str) {
        self.standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }
}

/// What comes from outside must not forge a second line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
