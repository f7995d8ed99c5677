//! Ranges and validators (RFC 9110 sections 13 and 14).
//!
//! One range is served; a request for several is answered with the whole file, which the RFC
//! allows, since devices resume at one place. `If-Range` needs our strong ETag to the letter;
//! anything else, dates too, means the whole file.

use hyper::HeaderMap;
use hyper::header::{ACCEPT_ENCODING, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE};

/// What part of a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// The bytes `from..to`, not empty.
    Part {
        /// The first byte.
        from: u64,
        /// One past the last.
        to: u64,
    },
    /// Bytes that it does not have.
    Outside,
}

/// What the request wants of a file of `len` bytes with this ETag.
pub fn wanted(headers: &HeaderMap, len: u64, etag: &[u8]) -> Wanted {
    let Some(range) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Wanted::Whole;
    };
    if headers
        .get(IF_RANGE)
        .is_some_and(|value| value.as_bytes() != etag)
    {
        return Wanted::Whole;
    }
    parse(range, len)
}

/// Whether the client has that file already.
pub fn is_known(headers: &HeaderMap, etag: &[u8]) -> bool {
    let listed = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    listed
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|listed| {
            // The comparison is weak here (section 13.1.2).
            listed == "*" || listed.strip_prefix("W/").unwrap_or(listed).as_bytes() == etag
        })
}

/// Reads a `Range` header; what is not one is as if it were not there (section 14.2).
fn parse(range: &str, len: u64) -> Wanted {
    let Some(set) = range.trim().strip_prefix("bytes=") else {
        return Wanted::Whole;
    };
    let Some((first, last)) = set.split_once('-').filter(|_| !set.contains(',')) else {
        return Wanted::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let text = text.trim();
        text.bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| text.parse().ok())?
    };
    let (from, to) = match (first.trim(), last.trim()) {
        ("", "") => return Wanted::Whole,
        ("", suffix) => match number(suffix) {
            Some(suffix) => (len.saturating_sub(suffix), len),
            None => return Wanted::Whole,
        },
        (first, "") => match number(first) {
            Some(first) => (first, len),
            None => return Wanted::Whole,
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(len)),
            _ => return Wanted::Whole,
        },
    };
    if from < to {
        Wanted::Part { from, to }
    } else {
        Wanted::Outside
    }
}

/// An encoding that we can send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// The best encoding that the request accepts. `*` alone asks for nothing in particular.
pub fn encoding(headers: &HeaderMap) -> Encoding {
    let accepts = |name: &str| {
        headers
            .get_all(ACCEPT_ENCODING)
            .iter()
            .filter_map(|value: &HeaderValue| value.to_str().ok())
            .flat_map(|list| list.split(','))
            .any(|item| {
                let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
                coding.trim().eq_ignore_ascii_case(name) && !is_zero(weight)
            })
    };
    if accepts("zstd") {
        Encoding::Zstd
    } else if accepts("gzip") {
        Encoding::Gzip
    } else {
        Encoding::Identity
    }
}

fn is_zero(weight: &str) -> bool {
    let Some((_, value)) = weight.split_once('=') else {
        return false;
    };
    value.trim().parse::<f32>().is_ok_and(|value| value <= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn ranges_as_the_rfc_has_them() {
        let part = |from, to| Wanted::Part { from, to };
        for (range, want) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=0-99", part(0, 100)),
            ("bytes=50-", part(50, 100)),
            ("bytes=-1", part(99, 100)),
            ("bytes=-500", part(0, 100)),
            ("bytes=90-500", part(90, 100)),
            ("bytes=99-18446744073709551615", part(99, 100)),
            ("bytes=100-", Wanted::Outside),
            ("bytes=100-200", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=5-4", Wanted::Whole),
            ("bytes=0-1,4-5", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=a-", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
        ] {
            assert_eq!(
                wanted(&headers(&[("range", range)]), 100, b"\"e\""),
                want,
                "{range}"
            );
        }
        assert_eq!(
            wanted(&headers(&[("range", "bytes=0-")]), 0, b"\"e\""),
            Wanted::Outside
        );
    }

    #[test]
    fn if_range_holds_only_for_the_same_file() {
        let ask = |validator| {
            wanted(
                &headers(&[("range", "bytes=1-2"), ("if-range", validator)]),
                100,
                b"\"e\"",
            )
        };
        assert_eq!(ask("\"e\""), Wanted::Part { from: 1, to: 3 });
        assert_eq!(ask("\"f\""), Wanted::Whole);
        assert_eq!(ask("W/\"e\""), Wanted::Whole);
        assert_eq!(ask("Mon, 23 Nov 2026 00:00:00 GMT"), Wanted::Whole);
    }

    #[test]
    fn known_files_and_encodings() {
        assert!(is_known(
            &headers(&[("if-none-match", "\"a\", W/\"e\"")]),
            b"\"e\""
        ));
        assert!(is_known(&headers(&[("if-none-match", "*")]), b"\"e\""));
        assert!(!is_known(&headers(&[("if-none-match", "\"a\"")]), b"\"e\""));
        assert_eq!(
            encoding(&headers(&[("accept-encoding", "gzip, zstd")])),
            Encoding::Zstd
        );
        assert_eq!(
            encoding(&headers(&[("accept-encoding", "gzip, zstd;q=0")])),
            Encoding::Gzip
        );
        assert_eq!(
            encoding(&headers(&[("accept-encoding", "*")])),
            Encoding::Identity
        );
    }
}
