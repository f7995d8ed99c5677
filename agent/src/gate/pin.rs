//! A PIN as it is kept: PBKDF2 with HMAC-SHA-256 (RFC 8018), by ring.
//!
//! ```text
//!   pbkdf2-sha256$<iterations>$<salt, hex>$<hash, hex>
//! ```
//!
//! A PIN has few digits, so whoever reads the hash finds the PIN; it keeps the PIN from those who
//! happen to see the configuration. What stops guessing at the device is the count of tries.

use std::fmt;
use std::num::NonZeroU32;

use ampoule_protocol::digest::Digest;
use ring::pbkdf2;

/// Iterations of a new hash: a tenth of a second on a small device.
const ITERATIONS: u32 = 100_000;
/// The most that are accepted: a wrong digit in the configuration must not hold the agent.
const ITERATIONS_MAX: u32 = 2_000_000;

/// The hash of a PIN.
#[derive(Clone, PartialEq, Eq)]
pub struct PinHash {
    iterations: NonZeroU32,
    salt: Digest,
    hash: Digest,
}

impl PinHash {
    /// Of a new PIN, with a salt of 32 random bytes.
    pub fn new(pin: &str, salt: [u8; 32]) -> Self {
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        let mut hash = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &salt,
            pin.as_bytes(),
            &mut hash,
        );
        Self {
            iterations,
            salt: Digest::from_bytes(salt),
            hash: Digest::from_bytes(hash),
        }
    }

    /// Reads the text form.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('$');
        if fields.next() != Some("pbkdf2-sha256") {
            return None;
        }
        let iterations: NonZeroU32 = fields.next()?.parse().ok()?;
        let salt = Digest::parse(fields.next()?).ok()?;
        let hash = Digest::parse(fields.next()?).ok()?;
        let is_whole = fields.next().is_none() && iterations.get() <= ITERATIONS_MAX;
        is_whole.then_some(Self {
            iterations,
            salt,
            hash,
        })
    }

    /// Whether it is the hash of this PIN; takes the same time either way.
    pub fn is_of(&self, pin: &str) -> bool {
        pbkdf2::verify(
            pbkdf2::PBKDF2_HMAC_SHA256,
            self.iterations,
            self.salt.as_bytes(),
            pin.as_bytes(),
            self.hash.as_bytes(),
        )
        .is_ok()
    }
}

impl fmt::Display for PinHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            iterations,
            salt,
            hash,
        } = self;
        write!(f, "pbkdf2-sha256${iterations}${salt}${hash}")
    }
}

impl fmt::Debug for PinHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PinHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_knows_its_pin() {
        let hash = PinHash::new("4711", [7; 32]);
        assert!(hash.is_of("4711") && !hash.is_of("4712") && !hash.is_of(""));
        let text = hash.to_string();
        assert_eq!(PinHash::parse(&text), Some(hash));
        // By Python: hashlib.pbkdf2_hmac("sha256", b"4711", b"\x07"*32, 100000).hex()
        assert!(text.ends_with(PYTHON), "{text}");
    }

    const PYTHON: &str = "cb2f36d5972b5a43b408da11c7b9ab8f6db346840709fadf318c2f5b49a07d80";

    #[test]
    fn other_forms_are_refused() {
        let good = PinHash::new("4711", [7; 32]).to_string();
        for text in [
            "",
            "4711",
            "pbkdf2-sha256$0$aa$bb",
            &good[1..],
            &good[..good.len() - 2],
            &format!("{good}$"),
            &good.replace("$100000$", "$3000000$"),
        ] {
            assert_eq!(PinHash::parse(text), None, "{text}");
        }
    }
}
