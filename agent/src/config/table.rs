//! A TOML table that is read member by member: faults gather, and what was not asked for is one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use ampoule_protocol::fault::Fault;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::system::CommandLine;

/// The faults of one file.
pub(super) struct Faults<'a> {
    text: &'a str,
    pub(super) found: Vec<(usize, String)>,
}

impl<'a> Faults<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            found: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, at: usize, what: impl Into<String>) {
        self.found.push((at, what.into()));
    }

    /// All faults in the order of the file, each with its line.
    pub(super) fn into_list(mut self) -> Vec<Fault> {
        self.found.sort();
        let line = |at: usize| {
            let head = self.text.get(..at)?;
            Some(head.matches('\n').count() + 1)
        };
        let fault = |(at, what): &(usize, String)| Fault {
            line: line(*at).or(Some(1)),
            what: what.clone(),
        };
        self.found.iter().map(fault).collect()
    }
}

/// One table, and which of its members were asked for.
pub(super) struct Table<'t, 'a> {
    name: String,
    at: usize,
    members: Option<&'t DeTable<'a>>,
    asked: BTreeSet<&'static str>,
}

impl<'t, 'a> Table<'t, 'a> {
    pub(super) fn new(name: &str, at: usize, members: Option<&'t DeTable<'a>>) -> Self {
        Self {
            name: name.to_owned(),
            at,
            members,
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    fn member(&mut self, name: &'static str) -> Option<&'t Spanned<DeValue<'a>>> {
        self.asked.insert(name);
        self.members?.get(name)
    }

    /// Whether a member is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.members
            .is_some_and(|members| members.contains_key(name))
    }

    fn full(&self, name: &str) -> String {
        if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.name)
        }
    }

    /// Names the members that nobody asked for.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        for key in self.members.into_iter().flat_map(|table| table.keys()) {
            if !self.asked.contains(key.get_ref().as_ref()) {
                let name = self.full(key.get_ref());
                faults.add(key.span().start, format!("\"{name}\" is not known"));
            }
        }
    }

    /// A table within; an absent one is read as empty.
    pub(super) fn table(&mut self, name: &'static str, faults: &mut Faults<'_>) -> Table<'t, 'a> {
        let full = self.full(name);
        let Some(value) = self.member(name) else {
            return Table::new(&full, self.at, None);
        };
        let table = value.get_ref().as_table();
        if table.is_none() {
            faults.add(value.span().start, format!("\"{full}\" is not a table"));
        }
        Table::new(&full, value.span().start, table)
    }

    /// The tables of an array of tables.
    pub(super) fn tables(
        &mut self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Vec<Table<'t, 'a>> {
        let full = self.full(name);
        let Some(value) = self.member(name) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            faults.add(
                value.span().start,
                format!("\"{full}\" is not a list of tables"),
            );
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in array {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Table::new(&full, item.span().start, Some(table))),
                None => faults.add(
                    item.span().start,
                    format!("\"{full}\" is not a list of tables"),
                ),
            }
        }
        tables
    }

    pub(super) fn text(
        &mut self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<(usize, String)> {
        let full = self.full(name);
        let value = self.member(name)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            faults.add(value.span().start, format!("\"{full}\" is not a text"));
        }
        text.map(|text| (value.span().start, text.to_owned()))
    }

    pub(super) fn needed_text(
        &mut self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<(usize, String)> {
        self.need(name, faults);
        self.text(name, faults)
    }

    pub(super) fn need(&mut self, name: &'static str, faults: &mut Faults<'_>) {
        if self.member(name).is_none() {
            faults.add(self.at, format!("\"{}\" is missing", self.full(name)));
        }
    }

    pub(super) fn path(&mut self, name: &'static str, faults: &mut Faults<'_>) -> Option<PathBuf> {
        self.text(name, faults).map(|(_, text)| PathBuf::from(text))
    }

    pub(super) fn needed_path(&mut self, name: &'static str, faults: &mut Faults<'_>) -> PathBuf {
        self.need(name, faults);
        self.path(name, faults).unwrap_or_default()
    }

    /// A whole number within bounds, or the default.
    pub(super) fn number(
        &mut self,
        name: &'static str,
        default: u64,
        bounds: std::ops::RangeInclusive<u64>,
        faults: &mut Faults<'_>,
    ) -> u64 {
        let full = self.full(name);
        let Some(value) = self.member(name) else {
            return default;
        };
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok());
        match number {
            Some(number) if bounds.contains(&number) => number,
            _ => {
                let (low, high) = bounds.into_inner();
                faults.add(
                    value.span().start,
                    format!("\"{full}\" is not a number from {low} to {high}"),
                );
                default
            }
        }
    }

    /// Seconds within bounds, or the default.
    pub(super) fn secs(
        &mut self,
        name: &'static str,
        default: u64,
        bounds: std::ops::RangeInclusive<u64>,
        faults: &mut Faults<'_>,
    ) -> Duration {
        Duration::from_secs(self.number(name, default, bounds, faults))
    }

    /// `true` or `false`, or the default.
    pub(super) fn flag(
        &mut self,
        name: &'static str,
        default: bool,
        faults: &mut Faults<'_>,
    ) -> bool {
        let full = self.full(name);
        let Some(value) = self.member(name) else {
            return default;
        };
        value.get_ref().as_bool().unwrap_or_else(|| {
            faults.add(
                value.span().start,
                format!("\"{full}\" is not true or false"),
            );
            default
        })
    }

    /// One command line: a list of texts, the program first.
    pub(super) fn command(
        &mut self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Option<CommandLine> {
        let full = self.full(name);
        let value = self.member(name)?;
        let command = command_of(value.get_ref());
        if command.is_none() {
            faults.add(
                value.span().start,
                format!("\"{full}\" is not a command (a list of texts)"),
            );
        }
        command
    }

    /// A list of command lines.
    pub(super) fn commands(
        &mut self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Vec<CommandLine> {
        let full = self.full(name);
        let Some(value) = self.member(name) else {
            return Vec::new();
        };
        let array = value.get_ref().as_array();
        let commands = array.and_then(|array| {
            array
                .iter()
                .map(|item| command_of(item.get_ref()))
                .collect::<Option<Vec<_>>>()
        });
        commands.unwrap_or_else(|| {
            let what = format!("\"{full}\" is not a list of commands (each a list of texts)");
            faults.add(value.span().start, what);
            Vec::new()
        })
    }

    /// A list of texts, each with its place.
    pub(super) fn texts(
        &mut self,
        name: &'static str,
        faults: &mut Faults<'_>,
    ) -> Vec<(usize, String)> {
        let full = self.full(name);
        let Some(value) = self.member(name) else {
            return Vec::new();
        };
        let text = |item: &Spanned<DeValue<'_>>| {
            let text = item.get_ref().as_str()?;
            Some((item.span().start, text.to_owned()))
        };
        let array = value.get_ref().as_array();
        let texts = array.and_then(|array| array.iter().map(text).collect());
        texts.unwrap_or_else(|| {
            let what = format!("\"{full}\" is not a list of texts");
            faults.add(value.span().start, what);
            Vec::new()
        })
    }

    /// All members as texts.
    pub(super) fn all_texts(self, faults: &mut Faults<'_>) -> Vec<(String, String)> {
        let mut texts = Vec::new();
        for (key, value) in self.members.into_iter().flatten() {
            if let Some(text) = value.get_ref().as_str() {
                texts.push((key.get_ref().to_string(), text.to_owned()));
            } else {
                let full = self.full(key.get_ref());
                faults.add(value.span().start, format!("\"{full}\" is not a text"));
            }
        }
        texts
    }
}

fn command_of(value: &DeValue<'_>) -> Option<CommandLine> {
    let words = value
        .as_array()?
        .iter()
        .map(|word| word.get_ref().as_str().map(str::to_owned));
    let words: CommandLine = words.collect::<Option<_>>()?;
    (!words.is_empty()).then_some(words)
}
