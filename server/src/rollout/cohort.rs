//! A device's stable place in a rollout: a keyed hash of (rollout, device).
//!
//! ```text
//!   place  = first 8 bytes, big-endian, of SHA-256("ampoule-cohort-1" || key || device id)
//!   key    = 32 random bytes, drawn when the rollout is made
//! ```
//!
//! The device with the lowest place is asked first. Another rollout has another key, so nobody is
//! always first; nobody can choose a device id that is first, since the key is not known before.
//! Specified with vectors in docs/FORMAT.md.

use std::fmt;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::hex;
use ampoule_protocol::name::DeviceId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sets this hash apart from every other use of SHA-256.
const DOMAIN: &[u8; 16] = b"ampoule-cohort-1";
/// Sets the draw between rollouts of one priority apart from the place within one.
const DRAW_DOMAIN: &[u8; 14] = b"ampoule-draw-1";

/// What makes the places of one rollout its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CohortKey([u8; 32]);

/// A place, from 0: the lower, the earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub u64);

impl CohortKey {
    /// Of these bytes, which should be random.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The place of a device.
    pub fn place(&self, device: &DeviceId) -> Place {
        Place(self.hash(DOMAIN, device, None))
    }

    /// The device's lot for this rollout among others of the same priority: the best of `weight`
    /// draws, so that a rollout of weight 2 wins twice as often as one of weight 1, and a rollout
    /// that comes or goes moves only the devices that it wins or loses.
    pub fn lot(&self, device: &DeviceId, weight: u8) -> u64 {
        let draws = (0..weight.max(1)).map(|draw| self.hash(DRAW_DOMAIN, device, Some(draw)));
        draws.max().unwrap_or(0)
    }

    fn hash(&self, domain: &[u8], device: &DeviceId, draw: Option<u8>) -> u64 {
        let id = device.as_str().as_bytes();
        // A device id has at most 128 bytes, and is the only part of varying length.
        let mut message = [0; 16 + 1 + 32 + 128];
        let mut len = 0;
        for part in [domain, draw.as_slice(), &self.0, id] {
            message[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        let digest = Digest::of(&message[..len]);
        let first = digest.as_bytes().first_chunk::<8>();
        u64::from_be_bytes(*first.expect("a digest has 32 bytes"))
    }
}

impl fmt::Debug for CohortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CohortKey({}…)", hex::encode(&self.0[..4]))
    }
}

impl Serialize for CohortKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for CohortKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex::decode(&text)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("a cohort key is 64 hex digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(name: &str) -> DeviceId {
        DeviceId::parse(name).unwrap()
    }

    /// The vectors of docs/FORMAT.md, made once with another implementation (Python's hashlib).
    #[test]
    fn vectors() {
        let zero = CohortKey::new([0; 32]);
        let counting = CohortKey::new(std::array::from_fn(|at| u8::try_from(at).unwrap()));
        for (key, name, place) in VECTORS {
            let key = if key == 0 { &zero } else { &counting };
            assert_eq!(
                format!("{:016x}", key.place(&device(name)).0),
                place,
                "{name}"
            );
        }
    }

    const VECTORS: [(u8, &str, &str); 4] = [
        (0, "pump-0001", "9d022566f0f251f2"),
        (0, "pump-0002", "82ee130dc48c0fb6"),
        (1, "pump-0001", "1518fefcf49e29de"),
        (1, "pump-0002", "85f47e272d9d841b"),
    ];

    #[test]
    fn another_rollout_asks_in_another_order() {
        let order = |key: &CohortKey| {
            let mut all: Vec<_> = (0..100).map(|n| device(&format!("pump-{n}"))).collect();
            all.sort_by_key(|device| key.place(device));
            all
        };
        let (one, two) = (CohortKey::new([1; 32]), CohortKey::new([2; 32]));
        assert_ne!(order(&one)[..10], order(&two)[..10]);
    }

    #[test]
    fn weights_draw_as_they_say() {
        let (one, two) = (CohortKey::new([1; 32]), CohortKey::new([2; 32]));
        let wins = (0..6000)
            .map(|n| device(&format!("pump-{n}")))
            .filter(|device| two.lot(device, 2) > one.lot(device, 1))
            .count();
        assert!(
            (3800..4200).contains(&wins),
            "{wins} of 6000, expected two thirds"
        );
    }
}
