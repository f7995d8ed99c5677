//! The delta tool.
fn main() {}
