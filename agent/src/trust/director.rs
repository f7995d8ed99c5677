//! The director's metadata comes by the same rules, from another place.

use crate::net::NetError;
use crate::ports::{Fetch, Network};

/// Fetches from the director: a [`Fetch`] for an updater over the director's own store.
pub struct DirectorFetch<'a>(pub &'a mut dyn Network);

impl Fetch for DirectorFetch<'_> {
    fn fetch(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        self.0.director(name, max_len)
    }
}
