//! Reads TOML member by member and gathers every fault instead of stopping at the first.
//!
//! A faulty member yields a stand-in, so that reading goes on; [`Document::finish`] hands out the
//! result only where there was no fault. A member that nobody asked for is a fault too.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ampoule_protocol::fault::Fault;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A TOML text being read.
pub(super) struct Document<'a> {
    text: &'a str,
    folder: &'a Path,
    table: Spanned<DeTable<'a>>,
    asked: BTreeSet<&'static str>,
    faults: Vec<Fault>,
}

impl<'a> Document<'a> {
    pub(super) fn parse(text: &'a str, folder: &'a Path) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut document = Self {
            text,
            folder,
            table,
            asked: BTreeSet::new(),
            faults: Vec::new(),
        };
        for error in errors {
            let line = error.span().map(|span| line_of(text, span.start));
            document.faults.push(Fault {
                line,
                what: error.message().replace('\n', ", "),
            });
        }
        document
    }

    /// Reads the sections with `read` and then looks for those that nobody asked for.
    pub(super) fn sections<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let value = read(self);
        let unknown: Vec<_> = self
            .table
            .get_ref()
            .iter()
            .filter(|(name, _)| !self.asked.contains(name.get_ref().as_ref()))
            .map(|(name, _)| {
                (
                    line_of(self.text, name.span().start),
                    name.get_ref().to_string(),
                )
            })
            .collect();
        for (line, name) in unknown {
            let what = format!("section [{name}] is not known here");
            self.faults.push(Fault {
                line: Some(line),
                what,
            });
        }
        value
    }

    pub(super) fn has(&mut self, name: &'static str) -> bool {
        self.asked.insert(name);
        self.table.get_ref().contains_key(name)
    }

    pub(super) fn section(&mut self, name: &'static str) -> Section<'_, 'a> {
        self.asked.insert(name);
        let table = self.table.get_ref().get(name);
        if let Some(value) = table
            && !value.get_ref().is_table()
        {
            let line = Some(line_of(self.text, value.span().start));
            self.faults.push(Fault {
                line,
                what: format!("{name} must be a section [{name}]"),
            });
        }
        Section {
            name,
            text: self.text,
            folder: self.folder,
            table: table.and_then(|value| value.get_ref().as_table()),
            asked: BTreeSet::new(),
            faults: &mut self.faults,
        }
    }

    /// `value`, if nothing was wrong.
    pub(super) fn finish<T>(mut self, value: T) -> Result<T, Vec<Fault>> {
        if self.faults.is_empty() {
            return Ok(value);
        }
        self.faults
            .sort_by_key(|fault| fault.line.unwrap_or(usize::MAX));
        Err(self.faults)
    }
}

/// One `[section]` being read; its unknown members become faults when it is dropped.
pub(super) struct Section<'d, 'a> {
    name: &'static str,
    text: &'a str,
    folder: &'a Path,
    table: Option<&'d DeTable<'a>>,
    asked: BTreeSet<&'static str>,
    faults: &'d mut Vec<Fault>,
}

impl<'d, 'a> Section<'d, 'a> {
    pub(super) fn has(&self, member: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(member))
    }

    /// Records a fault of `member`.
    pub(super) fn fault(&mut self, member: &'static str, what: &str) {
        let line = self
            .table
            .and_then(|table| table.get(member))
            .map(|value| line_of(self.text, value.span().start));
        self.faults.push(Fault {
            line,
            what: format!("{}.{member} {what}", self.name),
        });
    }

    fn value(&mut self, member: &'static str) -> Option<&'d DeValue<'a>> {
        self.asked.insert(member);
        self.table
            .and_then(|table| table.get(member))
            .map(Spanned::get_ref)
    }

    pub(super) fn string(&mut self, member: &'static str) -> Option<&'d str> {
        let Some(value) = self.value(member) else {
            self.fault(member, "is missing");
            return None;
        };
        let Some(text) = value.as_str() else {
            self.fault(member, &format!("is {}, expected string", value.type_str()));
            return None;
        };
        if text.is_empty() {
            self.fault(member, "is empty");
            return None;
        }
        Some(text)
    }

    /// A list of strings; empty where it is not said.
    pub(super) fn strings(&mut self, member: &'static str) -> Vec<String> {
        let Some(value) = self.value(member) else {
            return Vec::new();
        };
        let list = value.as_array().map(|list| {
            let texts = list.iter().map(|one| one.get_ref().as_str());
            texts.map(|text| text.map(str::to_owned)).collect()
        });
        list.flatten().unwrap_or_else(|| {
            self.fault(member, "is not a list of strings");
            Vec::new()
        })
    }

    pub(super) fn address(&mut self, member: &'static str) -> SocketAddr {
        let none = SocketAddr::from(([127, 0, 0, 1], 0));
        let Some(text) = self.string(member) else {
            return none;
        };
        text.parse().unwrap_or_else(|_| {
            self.fault(
                member,
                &format!("{text:?} is not an address like \"0.0.0.0:8443\""),
            );
            none
        })
    }

    pub(super) fn path(&mut self, member: &'static str) -> PathBuf {
        self.string(member)
            .map(|text| self.folder.join(text))
            .unwrap_or_default()
    }

    pub(super) fn existing_file(&mut self, member: &'static str) -> PathBuf {
        let Some(text) = self.string(member) else {
            return PathBuf::new();
        };
        let path = self.folder.join(text);
        if !path.is_file() || std::fs::File::open(&path).is_err() {
            self.fault(member, &format!("{text:?} is not a file that can be read"));
        }
        path
    }

    pub(super) fn existing_folder(&mut self, member: &'static str) -> PathBuf {
        let Some(text) = self.string(member) else {
            return PathBuf::new();
        };
        let path = self.folder.join(text);
        if !path.is_dir() {
            self.fault(member, &format!("{text:?} is not a folder"));
        }
        path
    }

    /// A whole number between `min` and `max`, or `default` where it is not said.
    pub(super) fn number<N>(&mut self, member: &'static str, default: N, min: N, max: N) -> N
    where
        N: Copy + PartialOrd + TryFrom<i64> + fmt::Display,
    {
        let Some(value) = self.value(member) else {
            return default;
        };
        let Some(integer) = value.as_integer() else {
            self.fault(
                member,
                &format!("is {}, expected integer", value.type_str()),
            );
            return default;
        };
        let number = i64::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .and_then(|number| N::try_from(number).ok())
            .filter(|number| *number >= min && *number <= max);
        number.unwrap_or_else(|| {
            self.fault(member, &format!("is {integer}, expected {min} to {max}"));
            default
        })
    }

    pub(super) fn secs(
        &mut self,
        member: &'static str,
        default: u64,
        min: u64,
        max: u64,
    ) -> Duration {
        Duration::from_secs(self.number(member, default, min, max))
    }
}

impl Drop for Section<'_, '_> {
    fn drop(&mut self) {
        let Some(table) = self.table else { return };
        for (member, _) in table
            .iter()
            .filter(|(m, _)| !self.asked.contains(m.get_ref().as_ref()))
        {
            let line = Some(line_of(self.text, member.span().start));
            let what = format!("{}.{} is not known here", self.name, member.get_ref());
            self.faults.push(Fault { line, what });
        }
    }
}

/// The line of a byte of `text`, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()
        .iter()
        .take(at)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}
