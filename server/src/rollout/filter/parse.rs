//! Tokens to a tree, by recursive descent with a bounded depth.

use super::lex::{Kind, Token, tokens};
use super::{FILTER_DEPTH_MAX, FILTER_LEN_MAX, FILTER_TERMS_MAX, Fact, Node, Relation};
use crate::rollout::facts::REGION;

/// A text that is no filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter, column {column}: {what}")]
pub struct FilterError {
    /// Where, in characters from 1.
    pub column: usize,
    /// What was found, and what was expected.
    pub what: String,
}

impl FilterError {
    pub(super) fn at(column: usize, what: impl Into<String>) -> Self {
        Self {
            column,
            what: what.into(),
        }
    }
}

type Read<T> = Result<T, FilterError>;

pub(super) fn parse(text: &str) -> Read<Node> {
    if text.len() > FILTER_LEN_MAX {
        let what = format!("it has {} bytes, {FILTER_LEN_MAX} are allowed", text.len());
        return Err(FilterError::at(FILTER_LEN_MAX, what));
    }
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        terms: 0,
    };
    let node = parser.filter(0)?;
    match parser.peek().kind {
        Kind::End => Ok(node),
        _ => Err(parser.unexpected("\"and\", \"or\" or the end")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    terms: usize,
}

impl Parser {
    fn filter(&mut self, depth: usize) -> Read<Node> {
        self.joined("or", depth, Node::Or, |parser, depth| {
            parser.joined("and", depth, Node::And, Self::factor)
        })
    }

    fn joined(
        &mut self,
        word: &str,
        depth: usize,
        join: fn(Vec<Node>) -> Node,
        part: impl Fn(&mut Self, usize) -> Read<Node>,
    ) -> Read<Node> {
        let mut parts = vec![part(self, depth)?];
        while self.take_word(word) {
            parts.push(part(self, depth)?);
        }
        Ok(match parts.len() {
            1 => parts.remove(0),
            _ => join(parts),
        })
    }

    fn factor(&mut self, depth: usize) -> Read<Node> {
        if depth >= FILTER_DEPTH_MAX {
            let what = format!("more than {FILTER_DEPTH_MAX} levels are nested");
            return Err(FilterError::at(self.peek().column, what));
        }
        if self.take_word("not") {
            return Ok(Node::Not(Box::new(self.factor(depth + 1)?)));
        }
        if self.take_sign("(") {
            let inner = self.filter(depth + 1)?;
            self.expect_sign(")")?;
            return Ok(inner);
        }
        if self.take_word("all") {
            return Ok(Node::All);
        }
        if self.take_word("has") {
            self.count_term()?;
            return Ok(Node::Has(self.fact()?));
        }
        let fact = self.fact()?;
        self.relation(fact)
    }

    fn relation(&mut self, fact: Fact) -> Read<Node> {
        if self.take_word("in") {
            return self.list(fact);
        }
        self.count_term()?;
        let column = self.peek().column;
        let relation = match self.peek().kind {
            Kind::Sign("=") => Relation::Equal,
            Kind::Sign("!=") => Relation::NotEqual,
            Kind::Sign("<") => Relation::Less,
            Kind::Sign("<=") => Relation::AtMost,
            Kind::Sign(">") => Relation::Greater,
            Kind::Sign(">=") => Relation::AtLeast,
            Kind::Sign("~") => Relation::Like,
            _ => return Err(self.unexpected("a relation: = != < <= > >= ~ in")),
        };
        self.at += 1;
        let ordered = matches!(
            relation,
            Relation::Less | Relation::AtMost | Relation::Greater | Relation::AtLeast
        );
        if ordered && !fact.has_order() {
            return Err(FilterError::at(
                column,
                "this fact has no order; use =, !=, ~ or in",
            ));
        }
        let place = self.peek().column;
        let value = self.value()?;
        if ordered && !super::eval::is_ordered(&value) {
            let what = format!("\"{value}\" cannot be compared; write numbers joined by dots");
            return Err(FilterError::at(place, what));
        }
        Ok(Node::Is(fact, relation, value))
    }

    fn list(&mut self, fact: Fact) -> Read<Node> {
        self.expect_sign("(")?;
        let mut values = Vec::new();
        loop {
            self.count_term()?;
            values.push(self.value()?);
            if !self.take_sign(",") {
                break;
            }
        }
        self.expect_sign(")")?;
        Ok(Node::In(fact, values))
    }

    fn fact(&mut self) -> Read<Fact> {
        const FACTS: &str = "a fact: device, product, hardware, region, floor, agent, \
             enrolled-days, silent-days, version.NAME, digest.NAME or tag.NAME";
        let Kind::Word(word) = &self.peek().kind else {
            return Err(self.unexpected(FACTS));
        };
        let fact = match word.as_str() {
            "device" => Fact::Device,
            "product" => Fact::Product,
            "hardware" => Fact::Hardware,
            "region" => Fact::Tag(REGION.into()),
            "floor" => Fact::Floor,
            "agent" => Fact::Agent,
            "enrolled-days" => Fact::EnrolledDays,
            "silent-days" => Fact::SilentDays,
            other => match other.split_once('.') {
                Some(("version", name)) if !name.is_empty() => Fact::Version(name.into()),
                Some(("digest", name)) if !name.is_empty() => Fact::Digest(name.into()),
                Some(("tag", name)) if !name.is_empty() => Fact::Tag(name.into()),
                _ => return Err(self.unexpected(FACTS)),
            },
        };
        self.at += 1;
        Ok(fact)
    }

    fn value(&mut self) -> Read<String> {
        match &self.peek().kind {
            Kind::Word(value) | Kind::Quoted(value) => {
                let value = value.clone();
                self.at += 1;
                Ok(value)
            }
            _ => Err(self.unexpected("a value")),
        }
    }

    fn count_term(&mut self) -> Read<()> {
        self.terms += 1;
        if self.terms > FILTER_TERMS_MAX {
            let what = format!("more than {FILTER_TERMS_MAX} relations");
            return Err(FilterError::at(self.peek().column, what));
        }
        Ok(())
    }

    /// The last token is the end, and nothing steps over it.
    fn peek(&self) -> &Token {
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        let found = matches!(&self.peek().kind, Kind::Word(word) if word == wanted);
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, wanted: &str) -> bool {
        let found = matches!(self.peek().kind, Kind::Sign(sign) if sign == wanted);
        self.at += usize::from(found);
        found
    }

    fn expect_sign(&mut self, wanted: &str) -> Read<()> {
        if self.take_sign(wanted) {
            return Ok(());
        }
        Err(self.unexpected(&format!("\"{wanted}\"")))
    }

    fn unexpected(&self, expected: &str) -> FilterError {
        let token = self.peek();
        let found = match &token.kind {
            Kind::Word(text) | Kind::Quoted(text) => format!("\"{text}\""),
            Kind::Sign(sign) => format!("\"{sign}\""),
            Kind::End => "the end".to_owned(),
        };
        FilterError::at(token.column, format!("found {found}, expected {expected}"))
    }
}

impl Fact {
    fn has_order(&self) -> bool {
        match self {
            Self::Floor
            | Self::Agent
            | Self::EnrolledDays
            | Self::SilentDays
            | Self::Version(_)
            | Self::Tag(_) => true,
            Self::Device | Self::Product | Self::Hardware | Self::Digest(_) => false,
        }
    }
}
