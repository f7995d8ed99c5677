//! `[est]`: devices that enrol themselves.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::Section;

/// `[est]`: where devices enrol themselves.
#[derive(Debug, Clone)]
pub struct Est {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The authorities of birth certificates, PEM; without them only tokens enrol.
    pub birth_ca: Option<PathBuf>,
    /// The devices whose birth certificate suffices, an id on each line; others wait for a person.
    pub authorised: Option<PathBuf>,
}

impl Est {
    pub(super) fn read(from: &mut Section<'_, '_>) -> Self {
        let file = |from: &mut Section<'_, '_>, member| {
            from.has(member).then(|| from.existing_file(member))
        };
        Self {
            listen: from.address("listen"),
            birth_ca: file(from, "birth_ca"),
            authorised: file(from, "authorised"),
        }
    }
}
