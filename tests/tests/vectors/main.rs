//! Vectors that others made.

mod wycheproof;
