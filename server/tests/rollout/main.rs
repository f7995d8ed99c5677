//! The rollout decision, attacked: properties over random fleets and histories, and stories.
//!
//! Everything is pure; a failing history prints its seed and shrinks.

mod agenda;
mod fleet;
mod locks;
mod properties;
mod sequential;
mod stories;
mod wards;
