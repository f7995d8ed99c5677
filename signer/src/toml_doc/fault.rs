//! What is wrong with a file, line by line.

use std::error::Error;
use std::fmt;

/// One thing wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// From 1.
    pub line: usize,
    /// A sentence of the house: lower case, no full stop.
    pub text: String,
}

/// All that is wrong with one file; never empty.
///
/// As an error it is a chain: its source is the first fault, whose source is the second, and so
/// on, so that whoever prints an error chain prints them all.
#[derive(Debug)]
pub struct Faults {
    file: String,
    count: usize,
    first: Link,
}

#[derive(Debug)]
struct Link {
    fault: Fault,
    next: Option<Box<Link>>,
}

impl Faults {
    pub(super) fn new(file: String, mut faults: Vec<Fault>) -> Result<(), Self> {
        faults.sort();
        faults.dedup();
        let count = faults.len();
        let mut chain: Option<Box<Link>> = None;
        for fault in faults.into_iter().rev() {
            chain = Some(Box::new(Link {
                fault,
                next: chain.take(),
            }));
        }
        match chain {
            None => Ok(()),
            Some(first) => Err(Self {
                file,
                count,
                first: *first,
            }),
        }
    }

    /// The faults in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        std::iter::successors(Some(&self.first), |link| link.next.as_deref())
            .map(|link| &link.fault)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "fault" } else { "faults" };
        write!(f, "\"{}\" has {} {plural}", self.file, self.count)
    }
}

impl Error for Faults {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.first)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.fault.line, self.fault.text)
    }
}

impl Error for Link {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.next.as_deref().map(|link| link as _)
    }
}
