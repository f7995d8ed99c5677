//! The device against a server over real mutual TLS: downloads that go wrong, the real binary
//! killed at random moments, and what the command line says to every mistake.
//!
//! The server here is a few lines over rustls that can be told to misbehave; the real one is
//! tested against this agent by the whole story.

mod answers;
mod bad_input;
mod consent_cut;
mod download;
mod gates;
mod kill;
mod links;
mod local;
mod medium;
mod recover;
mod repo;
mod sealed;
mod server;
mod signal;
#[allow(dead_code, reason = "the tests of boot loaders use all of it")]
#[path = "../boot_worlds/sim.rs"]
mod sim;
mod tree;
