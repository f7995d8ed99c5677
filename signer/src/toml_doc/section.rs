//! One table of a file: fields by name and type, with bounds.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::{Deref, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Document;
use super::near::is_near;

/// A value with the line it stands on, for faults found later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// From 1.
    pub line: usize,
}

impl<T> At<T> {
    /// Another value on the same line.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At {
            value: change(self.value),
            line: self.line,
        }
    }
}

impl<T> Deref for At<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A table being read; see the module above.
#[derive(Debug)]
pub struct Section<'d, 'i> {
    document: &'d Document<'i>,
    table: &'d DeTable<'i>,
    /// How faults call it: empty for the top level, else `component "rootfs"` or the like.
    title: String,
    offset: usize,
    asked: RefCell<BTreeSet<&'static str>>,
}

type Node<'i> = Spanned<DeValue<'i>>;

impl<'d, 'i> Section<'d, 'i> {
    pub(super) fn new(
        document: &'d Document<'i>,
        table: &'d DeTable<'i>,
        title: String,
        offset: usize,
    ) -> Self {
        Self {
            document,
            table,
            title,
            offset,
            asked: RefCell::default(),
        }
    }

    /// The line the table begins on.
    pub fn line(&self) -> usize {
        self.document.line_of(self.offset)
    }

    /// Notes a fault where this table begins.
    pub fn fault(&self, text: impl Into<String>) {
        self.document.fault(self.line(), text);
    }

    /// Notes a fault at a line of this file.
    pub fn fault_at(&self, line: usize, text: impl Into<String>) {
        self.document.fault(line, text);
    }

    /// Calls this table by a better name in faults to come.
    pub fn entitle(&mut self, title: String) {
        self.title = title;
    }

    fn name(&self, field: &str) -> String {
        if self.title.is_empty() {
            field.to_owned()
        } else {
            format!("{field} of {}", self.title)
        }
    }

    fn node(&self, field: &'static str) -> Option<&'d Node<'i>> {
        self.asked.borrow_mut().insert(field);
        self.table.get(field)
    }

    fn fault_on(&self, node: &Node<'_>, text: String) {
        self.document.fault_at(node.span().start, text);
    }

    fn wrong_type(&self, node: &Node<'_>, field: &str, wanted: &str) {
        let found = kind(node);
        self.fault_on(
            node,
            format!("{} is {found}, expected {wanted}", self.name(field)),
        );
    }

    fn at<T>(&self, node: &Node<'_>, value: T) -> At<T> {
        At {
            value,
            line: self.document.line_of(node.span().start),
        }
    }

    /// Notes that a required field is absent.
    fn missing(&self, field: &str) {
        self.fault(format!("{} is missing", self.name(field)));
    }

    /// Whether the field is there at all; does not count as asking for it.
    pub fn has(&self, field: &str) -> bool {
        self.table.contains_key(field)
    }

    /// A required text of 1 to `len_max` bytes without control characters but newlines.
    pub fn text(&self, field: &'static str, len_max: usize) -> Option<At<String>> {
        if !self.has(field) {
            self.node(field);
            self.missing(field);
            return None;
        }
        self.text_opt(field, len_max)
    }

    /// Like [`Section::text`], where absence is no fault.
    pub fn text_opt(&self, field: &'static str, len_max: usize) -> Option<At<String>> {
        let node = self.node(field)?;
        let text = self.text_of(node, &self.name(field), len_max)?;
        Some(self.at(node, text))
    }

    fn text_of(&self, node: &Node<'i>, name: &str, len_max: usize) -> Option<String> {
        let Some(text) = node.get_ref().as_str() else {
            self.fault_on(node, format!("{name} is {}, expected a text", kind(node)));
            return None;
        };
        let fault = if text.trim().is_empty() {
            format!("{name} is empty")
        } else if text.len() > len_max {
            format!(
                "{name} is {} bytes long, expected at most {len_max}",
                text.len()
            )
        } else if text.chars().any(|c| c.is_control() && c != '\n') {
            format!("{name} holds a control character")
        } else {
            return Some(text.to_owned());
        };
        self.fault_on(node, fault);
        None
    }

    /// A required text that `parse` turns into a value; its error becomes the fault.
    pub fn parsed<T, E: std::fmt::Display>(
        &self,
        field: &'static str,
        len_max: usize,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<At<T>> {
        let text = self.text(field, len_max)?;
        match parse(&text) {
            Ok(value) => Some(text.map(|_| value)),
            Err(e) => {
                let name = self.name(field);
                let (why, quoted) = (e.to_string(), format!("\"{}\"", text.value));
                // Some errors begin with the text that they are about.
                let what = if why.contains(&quoted) {
                    why
                } else {
                    format!("{quoted}: {why}")
                };
                self.document.fault(text.line, format!("{name}: {what}"));
                None
            }
        }
    }

    /// A list of texts, each as in [`Section::text`], no two alike; absent: empty.
    pub fn texts(
        &self,
        field: &'static str,
        count: RangeInclusive<usize>,
        len_max: usize,
    ) -> Vec<At<String>> {
        let name = self.name(field);
        let Some(node) = self.node(field) else {
            if *count.start() > 0 {
                self.missing(field);
            }
            return Vec::new();
        };
        let Some(array) = node.get_ref().as_array() else {
            self.wrong_type(node, field, "a list of texts");
            return Vec::new();
        };
        if !count.contains(&array.len()) {
            self.fault_on(
                node,
                format!(
                    "{name} has {} entries, expected {}",
                    array.len(),
                    words(&count)
                ),
            );
        }
        let mut seen = BTreeSet::new();
        let mut texts = Vec::new();
        for entry in array {
            let Some(text) = self.text_of(entry, &format!("an entry of {name}"), len_max) else {
                continue;
            };
            if !seen.insert(text.clone()) {
                self.fault_on(entry, format!("{name} names \"{text}\" twice"));
            }
            texts.push(self.at(entry, text));
        }
        texts
    }

    /// A required whole number within `bounds`.
    pub fn integer(&self, field: &'static str, bounds: RangeInclusive<u64>) -> Option<At<u64>> {
        if !self.has(field) {
            self.node(field);
            self.missing(field);
            return None;
        }
        self.integer_opt(field, bounds)
    }

    /// Like [`Section::integer`], where absence is no fault.
    pub fn integer_opt(&self, field: &'static str, bounds: RangeInclusive<u64>) -> Option<At<u64>> {
        let node = self.node(field)?;
        let Some(number) = node.get_ref().as_integer() else {
            self.wrong_type(node, field, "a whole number");
            return None;
        };
        match i128::from_str_radix(number.as_str(), number.radix()) {
            Ok(n) if u64::try_from(n).is_ok_and(|n| bounds.contains(&n)) => {
                Some(self.at(node, u64::try_from(n).unwrap_or(*bounds.end())))
            }
            _ => {
                let text = format!(
                    "{} is {}, expected {} to {}",
                    self.name(field),
                    number.as_str(),
                    bounds.start(),
                    bounds.end()
                );
                self.fault_on(node, text);
                None
            }
        }
    }

    /// A table within this one; absent: `None` without a fault.
    pub fn section(&self, field: &'static str) -> Option<Section<'d, 'i>> {
        let node = self.node(field)?;
        let Some(table) = node.get_ref().as_table() else {
            self.wrong_type(node, field, "a table");
            return None;
        };
        let title = if self.title.is_empty() {
            format!("[{field}]")
        } else {
            format!("{field} of {}", self.title)
        };
        Some(Section::new(self.document, table, title, node.span().start))
    }

    /// The tables written as `[[field]]`; their number must lie within `count`.
    pub fn sections(
        &self,
        field: &'static str,
        count: RangeInclusive<usize>,
    ) -> Vec<Section<'d, 'i>> {
        let Some(node) = self.node(field) else {
            if *count.start() > 0 {
                self.fault(format!("there is no [[{field}]]"));
            }
            return Vec::new();
        };
        let Some(array) = node.get_ref().as_array() else {
            self.wrong_type(node, field, "tables written as [[…]]");
            return Vec::new();
        };
        if !count.contains(&array.len()) {
            self.fault_on(
                node,
                format!(
                    "there are {} [[{field}]], expected {}",
                    array.len(),
                    words(&count)
                ),
            );
        }
        let mut sections = Vec::new();
        for entry in array {
            match entry.get_ref().as_table() {
                Some(table) => sections.push(Section::new(
                    self.document,
                    table,
                    format!("[[{field}]]"),
                    entry.span().start,
                )),
                None => self.wrong_type(entry, field, "a table"),
            }
        }
        sections
    }

    /// All fields of this table as texts, in the order of their names; for tables whose keys are
    /// names and not fields.
    pub fn pairs(&self, count_max: usize, len_max: usize) -> Vec<(At<String>, At<String>)> {
        if self.table.len() > count_max {
            self.fault(format!(
                "{} has {} entries, expected at most {count_max}",
                self.title,
                self.table.len()
            ));
        }
        let mut pairs = Vec::new();
        for (key, node) in self.table {
            let line = self.document.line_of(key.span().start);
            let key = At {
                value: key.get_ref().clone().into_owned(),
                line,
            };
            if let Some(text) = self.text_of(node, &self.name(&key), len_max) {
                pairs.push((key, self.at(node, text)));
            }
        }
        pairs
    }

    /// A field that may be a text or a list of texts.
    pub fn text_or_texts(
        &self,
        field: &'static str,
        count: RangeInclusive<usize>,
        len_max: usize,
    ) -> Option<Result<At<String>, Vec<At<String>>>> {
        let node = self.node(field)?;
        if node.get_ref().is_array() {
            Some(Err(self.texts(field, count, len_max)))
        } else {
            self.text_opt(field, len_max).map(Ok)
        }
    }

    /// Notes every field that was never asked for, with a near name where there is one.
    pub fn finish(self) {
        let asked = self.asked.into_inner();
        for (key, _) in self.table {
            if asked.contains(key.get_ref().as_ref()) {
                continue;
            }
            let near = asked.iter().find(|known| is_near(known, key.get_ref()));
            let advice = near
                .map(|known| format!(", did you mean \"{known}\""))
                .unwrap_or_default();
            let place = if self.title.is_empty() {
                String::new()
            } else {
                format!(" in {}", self.title)
            };
            self.document.fault_at(
                key.span().start,
                format!("unknown field \"{}\"{place}{advice}", key.get_ref()),
            );
        }
    }
}

/// What a person would call the type of a value.
fn kind(node: &Node<'_>) -> &'static str {
    match node.get_ref() {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn words(count: &RangeInclusive<usize>) -> String {
    match (count.start(), count.end()) {
        (0, end) => format!("at most {end}"),
        (start, end) => format!("{start} to {end}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(input: &str, read: impl FnOnce(&Section<'_, '_>)) -> Vec<String> {
        let document = match Document::parse("t.toml", input) {
            Ok(document) => document,
            Err(faults) => return told(&faults),
        };
        let root = document.root();
        read(&root);
        root.finish();
        match document.check() {
            Ok(()) => Vec::new(),
            Err(faults) => told(&faults),
        }
    }

    fn told(faults: &crate::toml_doc::Faults) -> Vec<String> {
        faults
            .iter()
            .map(|f| format!("{}: {}", f.line.unwrap_or_default(), f.what))
            .collect()
    }

    #[test]
    fn every_fault_is_told_with_its_line() {
        let input = "name = 3\ncount = 99\n\nlist = [\"a\",\n \"a\"]\nnmae = 1\n";
        let found = faults(input, |s| {
            s.text("name", 10);
            s.integer("count", 1..=9);
            s.texts("list", 0..=9, 9);
            s.text("purpose", 10);
        });
        assert_eq!(
            found,
            [
                "1: name is a whole number, expected a text",
                "1: purpose is missing",
                "2: count is 99, expected 1 to 9",
                "5: list names \"a\" twice",
                "6: unknown field \"nmae\", did you mean \"name\"",
            ]
        );
    }

    #[test]
    fn a_negative_or_huge_number_is_out_of_bounds_and_no_panic() {
        for number in [
            "-1",
            "9223372036854775808000000000000000000000000",
            "0xffffffffffffffffff",
        ] {
            let found = faults(&format!("n = {number}\n"), |s| {
                s.integer("n", 0..=u64::MAX);
            });
            assert_eq!(found.len(), 1, "{number}: {found:?}");
        }
    }

    #[test]
    fn syntax_errors_are_faults_with_lines() {
        let found = faults("a = 1\nb = = 2\n", |s| {
            s.integer("a", 0..=9);
        });
        assert!(found.iter().any(|f| f.starts_with("2: ")), "{found:?}");
    }
}
