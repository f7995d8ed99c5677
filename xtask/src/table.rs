//! Plain tables on a terminal, readable in a log too.

use std::time::Duration;

/// Rows of text under a head, columns as wide as their longest word.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this head.
    pub(crate) fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(ToString::to_string).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells stay empty.
    pub(crate) fn row<T: Into<String>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// The table as Markdown, columns lined up, numbers to the right.
    pub(crate) fn to_markdown(&self) -> String {
        let ends = |cells: String| format!("| {cells} |");
        let text = self.to_lines();
        let widths: Vec<usize> = text[0].iter().map(|cell| cell.chars().count()).collect();
        let rule: Vec<String> = widths
            .iter()
            .enumerate()
            .map(
                |(at, width)| match self.rows.first().and_then(|row| row.get(at)) {
                    Some(cell) if is_number(cell) => format!("{}:", "-".repeat(width - 1)),
                    _ => "-".repeat(*width),
                },
            )
            .collect();
        let mut lines: Vec<String> = text.iter().map(|row| ends(row.join(" | "))).collect();
        lines.insert(1, ends(rule.join(" | ")));
        lines.join("\n")
    }

    /// Head and rows, each cell as wide as its column, at least three wide.
    fn to_lines(&self) -> Vec<Vec<String>> {
        let lines: Vec<&Vec<String>> = std::iter::once(&self.head).chain(&self.rows).collect();
        let cell = |row: &'_ [String], at: usize| row.get(at).cloned().unwrap_or_default();
        let width = |at| {
            lines
                .iter()
                .map(|row| cell(row, at).chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(|at| width(at).max(3)).collect();
        let padded = |row: &Vec<String>| {
            let cells = widths.iter().enumerate().map(|(at, width)| {
                let text = cell(row, at);
                if is_number(&text) {
                    format!("{text:>width$}")
                } else {
                    format!("{text:<width$}")
                }
            });
            cells.collect()
        };
        lines.into_iter().map(padded).collect()
    }

    /// The table as text, numbers to the right but in the last column.
    pub(crate) fn to_text(&self) -> String {
        let cell = |row: &'_ [String], at: usize| row.get(at).cloned().unwrap_or_default();
        let width = |at: usize| {
            let rows = self.rows.iter().map(|row| cell(row, at).chars().count());
            rows.chain([self.head[at].chars().count()])
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |row: &[String]| {
            let cells = widths.iter().enumerate().map(|(at, width)| {
                let text = cell(row, at);
                let is_last = at + 1 == widths.len();
                if is_number(&text) && !is_last {
                    format!("{text:>width$}")
                } else {
                    format!("{text:<width$}")
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let rule = widths
            .iter()
            .map(|width| "-".repeat(*width))
            .collect::<Vec<_>>()
            .join("  ");
        let mut lines = vec![line(&self.head), rule];
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines.join("\n")
    }
}

fn is_number(text: &str) -> bool {
    text.chars()
        .next()
        .is_some_and(|first| first.is_ascii_digit())
}

/// A length for people: `812 B`, `79.3 KiB`, `8.0 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    // Shown with one digit behind the point: the rounding of f64 is far below it.
    #[allow(clippy::cast_precision_loss)]
    let scaled = |unit: u64| count as f64 / unit as f64;
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", scaled(1 << 10)),
        _ => format!("{:.1} MiB", scaled(1 << 20)),
    }
}

/// A time for people: `12 ms`, `3.4 s`.
pub(crate) fn time(length: Duration) -> String {
    if length < Duration::from_secs(1) {
        format!("{} ms", length.as_millis())
    } else {
        format!("{:.1} s", length.as_secs_f64())
    }
}

/// The middle value.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_word() {
        let mut table = Table::new(&["what", "size", "why"]);
        table.row(["a long name", "8 B", "1 of 2"]);
        table.row(["b", "10 B", "new"]);
        let expected = "what         size  why\n-----------  ----  ------\n\
                        a long name   8 B  1 of 2\nb            10 B  new";
        assert_eq!(table.to_text(), expected);
    }

    #[test]
    fn markdown_has_a_rule_that_says_where_numbers_stand() {
        let mut table = Table::new(&["what", "size"]);
        table.row(["a", "8"]);
        let expected = "| what | size |\n| ---- | ---: |\n| a    |    8 |";
        assert_eq!(table.to_markdown(), expected);
    }

    #[test]
    fn lengths_and_times_read_well() {
        assert_eq!(
            [bytes(812), bytes(81_200), bytes(8 << 20)],
            ["812 B", "79.3 KiB", "8.0 MiB"]
        );
        assert_eq!(time(Duration::from_millis(12)), "12 ms");
        assert_eq!(time(Duration::from_millis(3_400)), "3.4 s");
        assert!((median(vec![3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![1.0, 2.0]) - 1.5).abs() < 1e-9);
    }
}
