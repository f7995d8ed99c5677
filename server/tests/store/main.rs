//! What every engine of the store must do, told once and run on each of them.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "the helpers are shared by the stories of several programs"
)]

mod moves;
#[path = "../postgres/mod.rs"]
mod postgres;
mod postgres_engine;
mod sled_engine;
mod suite;
