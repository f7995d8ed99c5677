//! `[operators]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::reader::{Document, Section};

/// `[operators]`: the HTTPS listener for operators.
#[derive(Debug, Clone)]
pub struct Operators {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate chain of this listener, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// The authorities of programs' certificates, PEM; absent where only people come.
    pub client_ca: Option<PathBuf>,
    /// Revoked certificates of those authorities, PEM.
    pub crl: Option<PathBuf>,
    /// How long a person's session lives.
    pub session: Duration,
}

impl Operators {
    /// The section, where there is one.
    pub(super) fn of(document: &mut Document<'_>, has_secrets: bool) -> Option<Self> {
        if !document.has("operators") {
            return None;
        }
        let mut section = document.section("operators");
        let read = Self::read(&mut section);
        if !has_secrets {
            let what = "needs [secrets]: seeds of second factors are kept sealed";
            section.fault("listen", what);
        }
        Some(read)
    }

    fn read(from: &mut Section<'_, '_>) -> Self {
        let optional = |from: &mut Section<'_, '_>, member| {
            from.has(member).then(|| from.existing_file(member))
        };
        Self {
            listen: from.address("listen"),
            certificate: from.existing_file("certificate"),
            key: from.existing_file("key"),
            client_ca: optional(from, "client_ca"),
            crl: optional(from, "crl"),
            session: from.secs("session_secs", 8 * 3600, 60, 24 * 3600),
        }
    }
}
