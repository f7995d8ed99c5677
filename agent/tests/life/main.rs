//! Lives of a device in one process: the real driver, journal, store, boot control and installers
//! in a folder; a network, a clock and a health that do as the test says.

mod activation;
mod bent;
mod daemon;
mod delta;
mod downgrade;
mod full;
mod hardware;
mod in_place;
mod metered;
mod modules;
mod receipts;
mod recovery;
mod regions;
#[path = "../device/repo.rs"]
mod repo;
mod several;
mod state;
mod world;
