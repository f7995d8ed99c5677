//! The offline tool of the release engineer.
