//! A filter as tokens, each with its place.

use super::parse::FilterError;

/// One token and the column, from 1 and counted in characters, at which it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) column: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Word(String),
    Quoted(String),
    Sign(&'static str),
    End,
}

/// Longer ones first, so that `<=` is not read as `<`.
const SIGNS: [&str; 10] = ["!=", "<=", ">=", "=", "<", ">", "~", "(", ")", ","];

/// Splits a text whose length is bounded; the last token is [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, FilterError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut column = 1;
    loop {
        let blanks = rest.len() - rest.trim_start_matches([' ', '\t', '\n']).len();
        column += blanks;
        rest = &rest[blanks..];
        let (kind, len) = next(rest, column)?;
        let chars = rest[..len].chars().count();
        let done = kind == Kind::End;
        tokens.push(Token { kind, column });
        if done {
            return Ok(tokens);
        }
        column += chars;
        rest = &rest[len..];
    }
}

fn next(rest: &str, column: usize) -> Result<(Kind, usize), FilterError> {
    let Some(first) = rest.chars().next() else {
        return Ok((Kind::End, 0));
    };
    if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        return Ok((Kind::Sign(sign), sign.len()));
    }
    if let Some(quoted) = rest.strip_prefix('"') {
        let end = quoted
            .find('"')
            .ok_or_else(|| FilterError::at(column, "a quotation mark is not closed"))?;
        let value = &quoted[..end];
        if value.chars().any(char::is_control) {
            return Err(FilterError::at(
                column,
                "a control character stands in quotes",
            ));
        }
        return Ok((Kind::Quoted(value.to_owned()), end + 2));
    }
    let len = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    if len == 0 {
        let found = format!("{first:?} does not belong here");
        return Err(FilterError::at(column, found));
    }
    Ok((Kind::Word(rest[..len].to_owned()), len))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*' | '?' | ':' | '+')
}
