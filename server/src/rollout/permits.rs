//! Simultaneity permits: how many devices of one ward may be out of service at the same moment.
//!
//! A cap counts by a tag: `ward = 2` lets two devices with the same value of the tag `ward` hold
//! open offers; an exclusion group (two pumps on one patient) is a cap of 1 on a tag of its own.
//! Devices without the tag are not counted.
//!
//! A permit is an open offer ([`super::Deployment::holds_permit`]): durable before it is signed,
//! so it survives the server's death, and ended by the time in it, so it is never lost for ever.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::facts::DeviceFacts;

/// Caps of one fleet.
pub const CAPS_MAX: usize = 16;

/// At most `max` devices with the same value of `tag`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cap {
    /// The tag.
    pub tag: String,
    /// Devices at once.
    pub max: u32,
}

/// A cap that is used up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Full {
    /// The tag.
    pub tag: String,
    /// Its value.
    pub value: String,
    /// Devices at once.
    pub max: u32,
}

/// Who holds what just now.
#[derive(Debug)]
pub struct Permits<'a> {
    caps: &'a [Cap],
    /// By the index of the cap and the value of its tag.
    held: HashMap<(usize, &'a str), u32>,
}

impl<'a> Permits<'a> {
    /// Those that `holders` hold.
    pub fn held_by(caps: &'a [Cap], holders: impl Iterator<Item = &'a DeviceFacts>) -> Self {
        let mut permits = Self {
            caps,
            held: HashMap::new(),
        };
        if !caps.is_empty() {
            for holder in holders {
                permits.add(holder);
            }
        }
        permits
    }

    /// Takes a permit of each cap that counts the device, or none.
    ///
    /// # Errors
    /// The first cap that is used up.
    pub fn take(&mut self, device: &'a DeviceFacts) -> Result<(), Full> {
        self.would_take(device)?;
        self.add(device);
        Ok(())
    }

    /// Whether [`Self::take`] would take one.
    ///
    /// # Errors
    /// The first cap that is used up.
    pub fn would_take(&self, device: &DeviceFacts) -> Result<(), Full> {
        for (index, cap) in self.caps.iter().enumerate() {
            let Some(value) = device.tag(&cap.tag) else {
                continue;
            };
            let held = self.held.get(&(index, value)).copied().unwrap_or(0);
            if held >= cap.max {
                return Err(Full {
                    tag: cap.tag.clone(),
                    value: value.to_owned(),
                    max: cap.max,
                });
            }
        }
        Ok(())
    }

    fn add(&mut self, device: &'a DeviceFacts) {
        for (index, cap) in self.caps.iter().enumerate() {
            if let Some(value) = device.tag(&cap.tag) {
                *self.held.entry((index, value)).or_default() += 1;
            }
        }
    }
}
