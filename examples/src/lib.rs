//! Small programs that show how to use the parts.
//!
//! | program | shows |
//! |---|---|
//! | `verify` | a repository made in memory, refreshed from, and what happens when one byte is bent |
//! | `patch` | a delta between two images, applied as a device does, checked block by block |
//! | `thief` | what someone with the server's key can forge; `cargo xtask demo` lets them try |
//! | `pump` | what runs on the device of that demo, with a self-test that can fail |
//!
//! Run one with `cargo run -p ampoule-examples --bin verify`.

pub mod memory;
