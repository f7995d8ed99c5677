//! Vectors that others made.

mod uptane;
mod wycheproof;
