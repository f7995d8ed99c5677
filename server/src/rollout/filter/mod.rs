//! Which devices a rollout is for, as a person writes it.
//!
//! ```text
//!   filter     = term *( "or" term )
//!   term       = factor *( "and" factor )
//!   factor     = "not" factor / "(" filter ")" / "all" / "has" fact / fact relation
//!   relation   = ( "=" / "!=" / "<" / "<=" / ">" / ">=" / "~" ) value
//!              / "in" "(" value *( "," value ) ")"
//!   value      = word / quoted
//!   word       = 1*( ALPHA / DIGIT / "-" / "_" / "." / "*" / "?" / ":" / "+" )
//!   quoted     = DQUOTE *( any character but DQUOTE and controls ) DQUOTE
//!   fact       = "device" / "product" / "hardware" / "region" / "floor" / "agent"
//!              / "enrolled-days" / "silent-days" / "version." NAME / "digest." NAME / "tag." NAME
//! ```
//!
//! - `<`, `<=`, `>`, `>=` compare versions number by number (`floor`, `agent`, `version.*`,
//!   `*-days`, and tags that are numbers and dots); `~` is a pattern with `*` and `?`.
//! - A device that does not have the fact satisfies no relation, `!=` neither; say
//!   `not tag.site = north` to mean those without the tag as well.
//! - `and` binds closer than `or`; words of the grammar are lower case.
//!
//! Bounds: [`FILTER_LEN_MAX`] bytes, [`FILTER_TERMS_MAX`] relations, [`FILTER_DEPTH_MAX`] levels.

mod eval;
mod lex;
mod parse;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use parse::FilterError;

/// Bytes of a filter.
pub const FILTER_LEN_MAX: usize = 4096;
/// Relations in a filter, values of lists included; each is asked of each device.
pub const FILTER_TERMS_MAX: usize = 256;
/// Nested `not` and parentheses; stops a stack overflow.
pub const FILTER_DEPTH_MAX: usize = 32;

/// A filter that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    text: String,
    node: Node,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    All,
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    Has(Fact),
    Is(Fact, Relation, String),
    In(Fact, Vec<String>),
}

/// What is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fact {
    Device,
    Product,
    Hardware,
    Floor,
    Agent,
    EnrolledDays,
    SilentDays,
    Version(String),
    Digest(String),
    Tag(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
    Like,
}

impl Filter {
    /// Every device.
    pub fn all() -> Self {
        Self {
            text: "all".into(),
            node: Node::All,
        }
    }

    /// Reads a filter.
    ///
    /// # Errors
    /// What the grammar does not have, with its place.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self {
            text: text.to_owned(),
            node: parse::parse(text)?,
        })
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Filter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Filter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
