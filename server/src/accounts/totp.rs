//! Time-based one-time passwords (RFC 6238): SHA-1, six digits, thirty seconds, as every
//! authenticator has them.
//!
//! Twenty lines over the HMAC that the server's TLS has in it already; a crate would bring base32,
//! URLs and pictures along.

use ampoule_protocol::time::UtcTime;
use aws_lc_rs::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, sign};
use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

/// Seconds of one step.
const STEP_SECS: i64 = 30;
/// Steps that a device's clock may be off, each way.
const SKEW_STEPS: u64 = 1;
/// Bytes of a seed, as RFC 4226 recommends.
pub const SEED_LEN: usize = 20;

/// The step of this time.
pub fn step(now: UtcTime) -> u64 {
    u64::try_from(now.unix().div_euclid(STEP_SECS)).unwrap_or(0)
}

/// The code of a step: six digits.
pub fn code(seed: &[u8], step: u64) -> String {
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed);
    let tag = sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let four = [tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]];
    format!("{:06}", u32::from_be_bytes(four) % 1_000_000)
}

/// The step of `code`, where it is one of now and later than the `last` that was used.
pub fn accepted(seed: &[u8], wanted: &str, last: u64, now: UtcTime) -> Option<u64> {
    let middle = step(now);
    let steps = middle.saturating_sub(SKEW_STEPS)..=middle.saturating_add(SKEW_STEPS);
    // All are computed, whichever fits: how long it takes tells nothing.
    let fitting: Vec<u64> = steps
        .filter(|step| same(code(seed, *step).as_bytes(), wanted.as_bytes()))
        .collect();
    fitting.into_iter().find(|step| *step > last)
}

/// Compares in a time that does not depend on where they differ.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

/// A seed as people type it.
pub fn spelled(seed: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(BASE32_NOPAD.encode(seed))
}

/// The address that authenticators read, as text or from a picture.
pub fn address(account: &str, seed: &[u8]) -> Zeroizing<String> {
    let secret = spelled(seed);
    Zeroizing::new(format!(
        "otpauth://totp/Ampoule:{account}?secret={}&issuer=Ampoule",
        *secret
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, SHA-1; the last six of its eight digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let seed = b"12345678901234567890";
        for (time, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(seed, step(UtcTime::from_unix(time))), expected);
        }
    }

    /// Catches: a step that may be used twice, a window that is too wide.
    #[test]
    fn a_code_is_accepted_once_and_near_its_time() {
        let (seed, now) = ([7; SEED_LEN], UtcTime::from_unix(3_000_000));
        let at = step(now);
        let of = |step| code(&seed, step);
        assert_eq!(accepted(&seed, &of(at), 0, now), Some(at));
        assert_eq!(accepted(&seed, &of(at - 1), 0, now), Some(at - 1));
        assert_eq!(accepted(&seed, &of(at + 1), 0, now), Some(at + 1));
        assert_eq!(accepted(&seed, &of(at), at, now), None, "used");
        assert_eq!(
            accepted(&seed, &of(at - 1), at, now),
            None,
            "older than used"
        );
        assert_eq!(accepted(&seed, &of(at - 2), 0, now), None);
        assert_eq!(accepted(&seed, &of(at + 2), 0, now), None);
        assert_eq!(accepted(&seed, "", 0, now), None);
    }
}
