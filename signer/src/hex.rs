//! Hexadecimal, for signatures that come from outside.

use std::fmt::Write;

/// Lower-case hex digits.
pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// `None` where `text` is not an even number of hex digits.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_refusals() {
        assert_eq!(encode(&[0, 0xab]), "00ab");
        assert_eq!(decode("00AB"), Some(vec![0, 0xab]));
        for bad in ["0", "+1", "zz", "é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }
}
