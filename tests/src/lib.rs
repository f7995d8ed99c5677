//! The world, simulators and scenarios.
