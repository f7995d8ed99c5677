//! `[store]` with `engine = "postgres"`: where the database is, and how it is trusted.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio_postgres::config::{Host, SslMode};

use super::Engine;
use super::reader::Section;
use crate::file;
use crate::store::postgres::Database;

/// Bytes of a password file.
const PASSWORD_LEN_MAX: u64 = 4096;

/// Reads `database`, `database_ca` and `database_password_file`.
pub(super) fn read(from: &mut Section<'_, '_>) -> Engine {
    let text = from.string("database").unwrap_or_default();
    let Ok(mut config) = text.parse::<tokio_postgres::Config>() else {
        if !text.is_empty() {
            let what = "is not like \"host=/run/postgresql user=ampoule dbname=ampoule\"";
            from.fault("database", what);
        }
        return Engine::Sled;
    };
    if config.get_password().is_some() {
        let what = "names a password; write it to a file and name that as database_password_file";
        from.fault("database", what);
    }
    if from.has("database_password_file") {
        let path = from.existing_file("database_password_file");
        match file::read_text(&path, PASSWORD_LEN_MAX) {
            Ok(password) => {
                config.password(password.trim_end_matches(['\r', '\n']));
            }
            Err(_) => from.fault("database_password_file", "is not a short text"),
        }
    }
    let mut tls = None;
    if from.has("database_ca") {
        let path = from.existing_file("database_ca");
        match client(&path) {
            Some(client) => tls = Some(Arc::new(client)),
            None => from.fault("database_ca", "holds no certificate of an authority"),
        }
        config.ssl_mode(SslMode::Require);
    } else if config.get_hosts().iter().any(is_elsewhere) {
        let what =
            "is on another machine, so database_ca must name the authority of its certificate";
        from.fault("database", what);
    }
    Engine::Postgres(Box::new(Database { config, tls }))
}

/// Whether bytes to that host leave this machine.
fn is_elsewhere(host: &Host) -> bool {
    match host {
        Host::Unix(_) => false,
        Host::Tcp(name) => !is_loopback(name),
    }
}

/// Whether a host is this machine.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A client that trusts the authorities in `ca` and shows nothing of itself.
pub(super) fn client(ca: &Path) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).ok()? {
        roots.add(certificate.ok()?).ok()?;
    }
    if roots.is_empty() {
        return None;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .ok()?;
    Some(builder.with_root_certificates(roots).with_no_client_auth())
}
