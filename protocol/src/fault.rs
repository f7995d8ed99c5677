//! What is wrong with a file that a person wrote: every fault, each with its line.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

/// One thing that is wrong with a file. Those without a line come first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The line, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong: lower case, no full stop.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// All that is wrong with one file.
///
/// As an error it is a chain, each fault the cause of the one before, so that whoever prints the
/// causes of an error ([`crate::error::chain`]) prints all faults, a line each.
#[derive(Debug)]
pub struct Faults {
    file: String,
    first: Option<Box<Link>>,
}

#[derive(Debug)]
struct Link {
    fault: Fault,
    next: Option<Box<Link>>,
}

impl Faults {
    /// Of a file by what a person calls it, as in `configuration "agent.toml"`, in this order.
    pub fn new(file: impl Into<String>, list: Vec<Fault>) -> Self {
        let link = |next, fault| Some(Box::new(Link { fault, next }));
        Self {
            file: file.into(),
            first: list.into_iter().rev().fold(None, link),
        }
    }

    /// The faults, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Fault> {
        core::iter::successors(self.first.as_deref(), |link| link.next.as_deref())
            .map(|link| &link.fault)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.iter().count();
        let noun = if count == 1 { "fault" } else { "faults" };
        write!(f, "{} has {count} {noun}", self.file)
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fault.fmt(f)
    }
}

/// The first link of a chain as the cause of what is before it.
fn cause(link: Option<&Link>) -> Option<&(dyn Error + 'static)> {
    link.map(|link| link as &(dyn Error + 'static))
}

impl Error for Faults {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        cause(self.first.as_deref())
    }
}

impl Error for Link {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        cause(self.next.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;
    use crate::error::chain;

    fn fault(line: Option<usize>, what: &str) -> Fault {
        Fault {
            line,
            what: what.to_string(),
        }
    }

    #[test]
    fn each_fault_is_a_line_of_its_own() {
        let list = vec![fault(None, "no product"), fault(Some(3), "bad \u{7}name")];
        let faults = Faults::new("configuration \"a.toml\"", list);
        assert_eq!(
            chain(&faults, None),
            "error: configuration \"a.toml\" has 2 faults\ncaused by: no product\ncaused by: line 3: bad  name"
        );
    }

    #[test]
    fn one_fault_is_one() {
        let faults = Faults::new("\"b\"", vec![fault(Some(1), "empty")]);
        assert_eq!(faults.to_string(), "\"b\" has 1 fault");
    }
}
