//! What a client may believe (TUF 1.0.34 section 5, "Detailed client workflow"), as typestate.
//!
//! ```text
//!   TrustedSet<Rotating> --root()*--> --finish_root(start)--> TrustedSet<AtTimestamp>
//!     --timestamp()|bundle()--> TrustedSet<AtSnapshot> --snapshot()--> TrustedSet<AtTargets>
//!     --targets()--> TrustedSet<Complete> --delegated()*
//! ```
//!
//! Takes bytes, returns trusted payloads. No file, no socket, no clock.
//!
//! Invariants:
//! - Every payload in the set was signed by a threshold of keys named by its delegator, counted by
//!   key material: one key under two ids is one key (TAP 12).
//! - Versions never fall, across restarts too: what was stored before is the floor.
//! - An expired payload may vouch for a newer one of its kind and for nothing else.
//! - The time is fixed once, when the update starts (section 5.1).

mod error;
mod set;
mod walk;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec::Vec;
use core::ops::Deref;

pub use error::TrustError;
pub use set::{
    Adopted, AtSnapshot, AtTargets, AtTimestamp, Complete, LocalSnapshot, Rotating, TrustedSet,
};
pub use walk::{TrustedTarget, Walk, WalkStep};

use crate::key::{Key, KeyId, PublicKey};
use crate::metadata::{Delegations, Envelope, Payload, RoleKeys, RoleType, Root};
use crate::name::RoleName;
use crate::time::UtcTime;

/// The time of an update, fixed when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpdateStart(UtcTime);

impl UpdateStart {
    /// At the later of the clock and `floor`, the latest time that is known to have passed (build
    /// time, `signed_at` of the last trusted timestamp). A device whose clock is absent or not
    /// sane passes `None` and stands at the floor: time is a lower bound.
    pub fn new(clock: Option<UtcTime>, floor: UtcTime) -> Self {
        Self(clock.map_or(floor, |clock| clock.max(floor)))
    }

    /// The time.
    pub const fn time(self) -> UtcTime {
        self.0
    }
}

/// The keys of one role and its threshold.
#[derive(Debug, Clone)]
pub struct KeyRing<'a> {
    keys: BTreeMap<&'a KeyId, &'a PublicKey>,
    threshold: u64,
}

impl<'a> KeyRing<'a> {
    /// The keys that `root` names for a top-level role.
    pub fn of_root(root: &'a Root, role: RoleType) -> Self {
        Self::new(&root.keys, root.role(role))
    }

    /// The keys that a delegator names for a delegated role; `None` where it names no such role.
    pub fn of_delegated(delegations: &'a Delegations, role: &RoleName) -> Option<Self> {
        delegations
            .role_keys(role)
            .map(|role| Self::new(&delegations.keys, role))
    }

    fn new(keys: &'a BTreeMap<KeyId, Key>, role: &'a RoleKeys) -> Self {
        let known = |id: &'a KeyId| Some((id, keys.get(id)?.public()?));
        Self {
            keys: role.keyids.iter().filter_map(known).collect(),
            threshold: role.threshold,
        }
    }

    /// Signatures needed.
    pub const fn threshold(&self) -> u64 {
        self.threshold
    }

    /// The keys that can verify, by id.
    pub fn keys(&self) -> impl Iterator<Item = (&'a KeyId, &'a PublicKey)> + '_ {
        self.keys.iter().map(|(id, key)| (*id, *key))
    }

    /// The ids in this ring whose signatures on `envelope` verify, one id per key material.
    pub fn signers(&self, envelope: &Envelope) -> Vec<KeyId> {
        let message = envelope.signed_bytes();
        let mut counted = BTreeSet::new();
        let mut signers = Vec::new();
        for signature in envelope.signatures() {
            let Some(key) = self.keys.get(&signature.keyid) else {
                continue;
            };
            let Some(bytes) = signature.bytes() else {
                continue;
            };
            if key.verify(&message, &bytes) && counted.insert(key.material()) {
                signers.push(signature.keyid.clone());
            }
        }
        signers
    }

    /// Believes a payload that a threshold of these keys signed.
    ///
    /// # Errors
    /// Too few signatures, or a payload that is not of the kind `T`.
    pub fn verify<T: Payload>(
        &self,
        name: &str,
        envelope: &Envelope,
    ) -> Result<Verified<T>, TrustError> {
        let signed = self.signers(envelope).len() as u64;
        if signed < self.threshold {
            let (role, needed) = (name.to_string(), self.threshold);
            return Err(TrustError::Unsigned {
                role,
                signed,
                needed,
            });
        }
        let payload = T::from_signed(envelope.unverified())
            .map_err(|source| TrustError::format(name, source))?;
        Ok(Verified(payload))
    }
}

/// A payload that a threshold of the right keys signed. Only [`KeyRing::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T: Payload> Verified<T> {
    /// Not expired when this update started.
    ///
    /// # Errors
    /// Expired (TUF 1.0.34 sections 5.3.10, 5.4.4, 5.5.6, 5.6.5).
    pub fn fresh(self, name: &str, start: UpdateStart) -> Result<Fresh<T>, TrustError> {
        let expires = self.expires();
        if expires <= start.time() {
            let (role, start) = (name.to_string(), start.time());
            return Err(TrustError::Expired {
                role,
                expires,
                start,
            });
        }
        Ok(Fresh(self.0))
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// A verified payload that was not expired when this update started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh<T>(T);

impl<T> Deref for Fresh<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}
