//! Who is to blame, and how an error reads.
//!
//! The agent's machine decides by [`Guilty`], reports carry the stable [`Coded::code`], and people
//! read the sentence. Every error of every crate of ours implements [`Coded`].

use alloc::string::{String, ToString};
use core::error::Error;
use core::fmt::Write;

/// The party whose doing or failing an error is; it decides what happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Guilty {
    /// Bad metadata or targets: stop, keep what is trusted, report.
    Repository,
    /// Nothing or nonsense came over the wire: retry with back-off.
    Network,
    /// Disk, boot control or health of this device: stop, keep the running slot.
    Device,
    /// Configuration or command line: a person has to mend it.
    Operator,
    /// A bug of ours.
    Ourselves,
}

impl Guilty {
    /// The word for it in reports and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Network => "network",
            Self::Device => "device",
            Self::Operator => "operator",
            Self::Ourselves => "ourselves",
        }
    }
}

/// An error with a stable name and a guilty party.
pub trait Coded: Error {
    /// A stable kebab-case word, part of the wire and of receipts.
    fn code(&self) -> &'static str;
    /// Whose fault it is.
    fn guilty(&self) -> Guilty;
    /// The one good next step, where there is one.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// The error as the command line prints it: `error: …`, a `caused by: …` for each source, and a
/// `hint: …` where there is one. Ends without a newline.
pub fn chain(error: &dyn Error, hint: Option<&str>) -> String {
    let mut text = String::from("error: ");
    text.push_str(&one_line(&error.to_string()));
    for cause in causes(error) {
        let _ = write!(text, "\ncaused by: {cause}");
    }
    if let Some(hint) = hint {
        let _ = write!(text, "\nhint: {}", one_line(hint));
    }
    text
}

/// Its sources, the nearest first, each in one line.
pub fn causes(error: &dyn Error) -> impl Iterator<Item = String> + '_ {
    let mut next = error.source();
    core::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(one_line(&cause.to_string()))
    })
}

/// Control characters from hostile input must not move the cursor or forge a second line.
fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
