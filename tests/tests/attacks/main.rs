//! Attacks, named by the sin.
//!
//! Each test bends a sound repository (or the way to it) as an attacker would, lets the device
//! refresh, and asserts the refusal by its stable code *and* what the device trusts afterwards.
//! Where it helps, the same bend done by the rightful holder is shown to pass, so that the refusal
//! is for the sin and not for the bend.
//!
//! Mistakes planted in `protocol`'s trust rules, one at a time, each turned at least one of these
//! tests red: a threshold that counts ids or is off by one; expiry compared with `<` or left out for
//! targets; a clock that overrides the floor; a root that the old keys, or its own, need not sign,
//! or of any newer version; timestamp, snapshot or targets that may fall; digests or versions of
//! snapshot or targets unchecked; a delegated role trusted by its name alone; terminating ignored.

mod arbitrary_software;
mod bundles;
mod clock;
mod delegations;
mod endless_data;
mod fast_forward;
mod freeze;
mod mix_and_match;
mod names;
mod one_key_counted_twice;
mod power_cut;
mod rollback;
#[cfg(feature = "parts")]
mod slow_retrieval;
mod two_readings;
mod unbounded_roots;
mod wrong_threshold;
