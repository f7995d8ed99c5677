//! Lists come in pages, by name.

use serde_json::Value;

use super::PAGE_LEN_MAX;
use super::extract::bad;
use super::words::Page;
use crate::http::problem::Problem;

/// Things of one page where nobody says how many.
const PAGE_LEN: usize = 100;

/// How many of a page.
pub(super) fn limit(page: &Page) -> Result<usize, Problem> {
    match page.limit.unwrap_or(PAGE_LEN) {
        limit @ 1..=PAGE_LEN_MAX => Ok(limit),
        _ => Err(bad("limit is 1 to 1000")),
    }
}

/// A page of rows that are named by a member, of those that `sees` lets through.
pub(super) fn of_rows(
    rows: Value,
    page: Page,
    member: &str,
    sees: impl Fn(&str) -> bool,
) -> Result<(Vec<Value>, Option<String>), Problem> {
    let limit = limit(&page)?;
    let name = |row: &Value| row[member].as_str().unwrap_or_default().to_owned();
    let Value::Array(mut rows) = rows else {
        return Ok((Vec::new(), None));
    };
    rows.sort_by_key(name);
    let after = page.after.unwrap_or_default();
    let seen = rows.into_iter().filter(|row| {
        let name = name(row);
        name > after && sees(&name)
    });
    Ok(cut(seen, limit, name))
}

/// The first so many, and the name to go on behind where there are more.
pub(super) fn cut<T>(
    all: impl Iterator<Item = T>,
    limit: usize,
    name: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let mut items: Vec<T> = all.take(limit + 1).collect();
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(name);
    (items, next)
}
