//! The world, simulators and scenarios.
//!
//! [`sim::RepositorySimulator`] is a whole TUF repository in memory, bendable in one line;
//! [`world::World`] joins it with a [`device::Device`] and a clock. Scenarios and attacks stand in
//! `tests/`, grouped into few binaries, since each costs link time:
//!
//! | binary | what it holds |
//! |---|---|
//! | `attacks` | each attack by the name of the sin, and what the device trusts after it |
//! | `mutants` | a valid release with one thing changed, twenty thousand times |
//! | `vectors` | Uptane's and Wycheproof's vectors |
//! | `interop` | python-tuf, sigstore-tuf, tough and tuf read us, and we read them |
//! | `picture` | which crate uses which |
//! | `power` | every power cut of a device on a simulated disk ([`power`]), and the machine's states |
//! | `fleet` | a small fleet and the real server in one process ([`fleet`]) |
//! | `bricks` | the field's bricking bugs, each by its name |
//!
//! `ampoule-tuf-client`, a binary of this package, puts the agent's trust core behind the command
//! line of the field's conformance suite.
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
#[cfg(feature = "parts")]
pub mod fleet;
pub mod http;
pub mod page;
#[cfg(feature = "parts")]
pub mod power;
pub mod random;
pub mod sim;
#[cfg(feature = "parts")]
pub mod tls;
pub mod world;
