//! Which known name a mistyped one was meant to be.

/// Whether two names differ by at most two edits (Levenshtein), or only in `-` and `_`.
pub(super) fn is_near(known: &str, found: &str) -> bool {
    const NAME_LEN_MAX: usize = 64;
    if found.len() > NAME_LEN_MAX {
        return false;
    }
    let found: Vec<char> = found.replace('-', "_").chars().collect();
    let mut row: Vec<usize> = (0..=found.len()).collect();
    for (i, k) in known.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, f) in found.iter().enumerate() {
            let change = diagonal + usize::from(k != *f);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[found.len()] <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_edits_are_near_and_three_are_not() {
        for (known, found, near) in [
            ("threshold", "threshhold", true),
            ("rollback_index", "rollback-index", true),
            ("name", "nmae", true),
            ("name", "title", false),
            ("purpose", "", false),
        ] {
            assert_eq!(is_near(known, found), near, "{known} {found}");
        }
        assert!(!is_near("name", &"n".repeat(100_000)));
    }
}
