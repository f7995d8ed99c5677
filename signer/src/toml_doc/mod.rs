//! Reading a TOML file that a person wrote, and telling all its faults at once, with lines.
//!
//! serde stops at the first fault; a person wants the list. So the spanned tree of the `toml`
//! crate is walked by hand: a [`Section`] hands out fields by name and type, notes a [`Fault`]
//! for each that is missing, of another type or out of bounds, and [`Section::finish`] notes the
//! fields nobody asked for.
//!
//! Invariants:
//! - A getter that returns `None` for a required field has noted a fault.
//! - Nothing read is used unless [`Document::faults`] is empty ([`Document::check`]).

mod near;
mod section;

use std::cell::RefCell;

use toml::Spanned;
use toml::de::DeTable;

pub use ampoule_protocol::fault::{Fault, Faults};
pub use section::{At, Section};

/// Bytes of a TOML file we read; a release description of 256 components needs a tenth.
pub const TOML_LEN_MAX: u64 = 1 << 20;

/// A parsed file together with the faults found in it so far.
#[derive(Debug)]
pub struct Document<'i> {
    name: String,
    input: &'i str,
    root: Spanned<DeTable<'i>>,
    faults: RefCell<Vec<Fault>>,
}

impl<'i> Document<'i> {
    /// Parses `input`.
    ///
    /// # Errors
    /// All errors of syntax. They stand alone: what is missing behind them would be a guess.
    pub fn parse(name: &str, input: &'i str) -> Result<Self, Faults> {
        let (root, errors) = DeTable::parse_recoverable(input);
        let document = Self {
            name: name.to_owned(),
            input,
            root,
            faults: RefCell::new(Vec::new()),
        };
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            document.fault_at(at, error.message().to_owned());
        }
        let syntax = document.faults.take();
        told(&document.name, syntax).map(|()| document)
    }

    /// The bytes of a file as text.
    ///
    /// # Errors
    /// One fault, at the line where the text ends to be UTF-8.
    pub fn text(name: &str, bytes: &'i [u8]) -> Result<&'i str, Faults> {
        let error = match std::str::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let read = bytes.get(..error.valid_up_to()).unwrap_or_default();
        let line = 1 + read.split(|&b| b == b'\n').skip(1).count();
        let fault = Fault {
            line: Some(line),
            what: "this is not UTF-8 text".to_owned(),
        };
        told(name, vec![fault]).map(|()| "")
    }

    /// The top level of the file.
    pub fn root(&self) -> Section<'_, 'i> {
        Section::new(
            self,
            self.root.get_ref(),
            String::new(),
            self.root.span().start,
        )
    }

    /// Notes a fault at a line.
    pub fn fault(&self, line: usize, what: impl Into<String>) {
        self.faults.borrow_mut().push(Fault {
            line: Some(line),
            what: what.into(),
        });
    }

    fn fault_at(&self, offset: usize, what: String) {
        self.fault(self.line_of(offset), what);
    }

    /// The line, from 1, that holds the byte at `offset`.
    fn line_of(&self, offset: usize) -> usize {
        let upto = self
            .input
            .as_bytes()
            .get(..offset)
            .unwrap_or(self.input.as_bytes());
        1 + upto.split(|&b| b == b'\n').skip(1).count()
    }

    /// Whether nothing was found so far.
    pub fn is_clean(&self) -> bool {
        self.faults.borrow().is_empty()
    }

    /// All faults, in the order of the file; `Ok` where there are none.
    pub fn check(self) -> Result<(), Faults> {
        told(&self.name, self.faults.into_inner())
    }
}

/// The faults of a file in the order of its lines, each once; `Ok` where there are none.
fn told(name: &str, mut faults: Vec<Fault>) -> Result<(), Faults> {
    faults.sort();
    faults.dedup();
    if faults.is_empty() {
        return Ok(());
    }
    Err(Faults::new(format!("\"{name}\""), faults))
}
