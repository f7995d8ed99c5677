//! The device listener's TLS: client certificates are mandatory, TLS 1.3, one ticket.
//!
//! All certificate files make one [`TlsState`], built whole or not at all; [`Reloading`] puts a
//! new one in place of the old for later connections and keeps the old where the new is bad.
//!
//! rustls does not verify a client's chain again when a session is resumed, so:
//! - tickets of other client authorities resume nothing: each state has a ticketer of its own, or,
//!   where servers share a fleet, keys that are bound to the authorities ([`TicketKeys`]);
//! - revocation is not left to the handshake: [`TlsState::is_revoked`] is asked on every
//!   connection and every request, against a set in memory (a CRL inside the handshake costs
//!   190 µs each time and says nothing about connections that are open).

mod crl;
mod enrolment;
mod fleet_tickets;
mod reloading;
mod tickets;

use std::path::Path;
use std::sync::Arc;

use ampoule_protocol::digest::Digest;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{Config, Devices, Est};
use crate::error::ServerError;
use crate::identity::{Identity, IdentityError, Known};
pub use enrolment::{Enrolment, Vouched};
use fleet_tickets::FleetTickets;
pub use fleet_tickets::TicketKeys;
pub use reloading::{Look, Reloaded, Reloading};
use tickets::SlimTickets;

/// The most that rustls buffers of what a slow peer has not taken, in bytes.
pub const TLS_BUFFER_LEN_MAX: usize = 64 * 1024;

/// Certificates in use.
pub struct TlsState {
    /// For the handshakes.
    pub config: Arc<ServerConfig>,
    /// For those of the enrolment listener, where there is one.
    pub enrolment: Option<Enrolment>,
    revoked: crl::Revoked,
    known: Known,
}

impl TlsState {
    /// Reads all certificate files and makes a state of them; `shared` are the ticket keys of a
    /// fleet that has several servers.
    ///
    /// # Errors
    /// A file cannot be used, a certificate and its key do not belong together, or a revocation
    /// list is not signed by an authority or has lapsed.
    pub fn load(
        files: &Devices,
        est: Option<&Est>,
        shared: Option<&Arc<TicketKeys>>,
    ) -> Result<Self, ServerError> {
        let chain = certificates("server certificate", &files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|error| ServerError::pki("server key", &files.key, error))?;
        let authorities = certificates("client authority", &files.client_ca)?;
        let roots = roots_of("client authority", &files.client_ca, &authorities)?;
        let revoked = match &files.crl {
            Some(path) => crl::load(path, &authorities)?,
            None => crl::Revoked::new(),
        };

        let provider = Arc::new(aws_lc_rs::default_provider());
        let enrolment = est
            .map(|est| {
                let birth = est.birth_ca.as_ref();
                let birth = birth
                    .map(|path| {
                        let list = certificates("birth authority", path)?;
                        Ok::<_, ServerError>((path.as_path(), list))
                    })
                    .transpose()?;
                Enrolment::new(
                    &provider,
                    &authorities,
                    birth,
                    chain.clone(),
                    key.clone_key(),
                )
            })
            .transpose()?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| ServerError::pki("client authority", &files.client_ca, error))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| ServerError::Tls(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| ServerError::pki("server key", &files.key, error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let ticketer = match shared {
            Some(keys) => Arc::new(FleetTickets::new(keys.clone(), digest_of(&authorities))),
            None => {
                aws_lc_rs::Ticketer::new().map_err(|error| ServerError::Tls(error.to_string()))?
            }
        };
        config.ticketer = Arc::new(SlimTickets::new(ticketer));
        // Two are usual, and a device uses one.
        config.send_tls13_tickets = 1;
        // Early data can be replayed, and check-ins are writes.
        config.max_early_data_size = 0;
        Ok(Self {
            config: Arc::new(config),
            enrolment,
            revoked,
            known: Known::default(),
        })
    }

    /// Who shows this certificate, which the handshake verified.
    ///
    /// # Errors
    /// It names no device.
    pub fn identify(&self, der: &[u8]) -> Result<Arc<Identity>, IdentityError> {
        self.known.identify(der)
    }

    /// Whether a revocation list names this certificate.
    pub fn is_revoked(&self, identity: &Identity) -> bool {
        !self.revoked.is_empty()
            && self
                .revoked
                .contains(&(identity.issuer.clone(), identity.serial.clone()))
    }
}

/// The certificates of the device listener, read.
///
/// # Errors
/// As [`TlsState::load`].
pub fn start(
    config: &Config,
    shared: Option<Arc<TicketKeys>>,
) -> Result<Reloading<TlsState>, ServerError> {
    let (files, est) = (config.devices.clone(), config.est.clone());
    let named = [
        Some(&files.certificate),
        Some(&files.key),
        Some(&files.client_ca),
        files.crl.as_ref(),
        est.as_ref().and_then(|est| est.birth_ca.as_ref()),
    ];
    let named = named.into_iter().flatten().cloned().collect();
    Reloading::start(named, move || {
        TlsState::load(&files, est.as_ref(), shared.as_ref())
    })
}

/// Of whom devices' certificates may be from, whatever the order in the file.
fn digest_of(authorities: &[CertificateDer<'_>]) -> Digest {
    let mut all: Vec<_> = authorities.iter().map(|der| Digest::of(der)).collect();
    all.sort_by_key(|digest| *digest.as_bytes());
    let bytes: Vec<u8> = all.iter().flat_map(|one| *one.as_bytes()).collect();
    Digest::of(&bytes)
}

fn roots_of(
    what: &'static str,
    path: &Path,
    list: &[CertificateDer<'static>],
) -> Result<RootCertStore, ServerError> {
    let mut roots = RootCertStore::empty();
    for authority in list {
        roots
            .add(authority.clone())
            .map_err(|error| ServerError::pki(what, path, error))?;
    }
    Ok(roots)
}

pub(crate) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, ServerError> {
    let list = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| ServerError::pki(what, path, error))?;
    if list.is_empty() {
        return Err(ServerError::pki(what, path, "holds no certificate"));
    }
    Ok(list)
}
