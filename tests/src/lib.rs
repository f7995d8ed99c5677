//! The world, simulators and scenarios.
//!
//! [`sim::RepositorySimulator`] is a whole TUF repository in memory, bendable in one line;
//! [`world::World`] joins it with a device's trust store and a clock. Scenarios and attacks stand
//! in `tests/`, grouped into few binaries.
//!
//! ```
//! use ampoule_tests::world::World;
//!
//! let mut world = World::new();
//! world.refresh().expect("a sound repository is trusted");
//! world.repo.timestamp.version -= 1; // there is none below 1, so:
//! world.repo.timestamp.version += 2;
//! world.repo.publish();
//! world.refresh().expect("a newer timestamp is taken");
//! assert_eq!(world.trusted().timestamp, Some(2));
//! ```

pub mod device;
pub mod http;
pub mod random;
pub mod sim;
#[cfg(feature = "parts")]
pub mod tls;
pub mod world;
