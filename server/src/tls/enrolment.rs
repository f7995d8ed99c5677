//! TLS of the enrolment listener: a client certificate of the fleet's authorities, one of the
//! manufacturer's, or none.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};

use super::roots_of;
use crate::error::ServerError;

/// Whose authority vouched for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// The fleet's own.
    Fleet,
    /// The manufacturer's.
    Birth,
}

/// The listener's TLS, and who vouches for whom.
pub struct Enrolment {
    /// For the handshakes.
    pub config: Arc<ServerConfig>,
    fleet: Arc<dyn ClientCertVerifier>,
    birth: Option<Arc<dyn ClientCertVerifier>>,
}

impl Enrolment {
    pub(super) fn new(
        provider: &Arc<CryptoProvider>,
        fleet: &[CertificateDer<'static>],
        birth: Option<(&Path, Vec<CertificateDer<'static>>)>,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, ServerError> {
        let fault = |error: &dyn std::fmt::Display| ServerError::Tls(error.to_string());
        let verifier = |roots: RootCertStore| {
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(fleet.iter().cloned());
        let fleet = verifier(roots.clone()).build().map_err(|e| fault(&e))?;
        let birth = match birth {
            Some((path, list)) => {
                let own = roots_of("birth authority", path, &list)?;
                roots.extend(own.roots.iter().cloned());
                let built: Arc<dyn ClientCertVerifier> =
                    verifier(own).build().map_err(|e| fault(&e))?;
                Some(built)
            }
            None => None,
        };
        let either = verifier(roots)
            .allow_unauthenticated()
            .build()
            .map_err(|e| fault(&e))?;
        // RFC 7030 asks for 1.1 and later; 1.2 is what older EST clients have.
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|e| fault(&e))?
            .with_client_cert_verifier(either)
            .with_single_cert(chain, key)
            .map_err(|e| fault(&e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Everybody shows who they are anew: there is nothing to resume.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
            fleet,
            birth,
        })
    }

    /// Who vouches for a chain that the handshake verified.
    pub fn vouched(&self, chain: &[CertificateDer<'_>]) -> Option<Vouched> {
        let (leaf, rest) = chain.split_first()?;
        let by = |verifier: &Arc<dyn ClientCertVerifier>| {
            let now = UnixTime::now();
            verifier.verify_client_cert(leaf, rest, now).is_ok()
        };
        if by(&self.fleet) {
            return Some(Vouched::Fleet);
        }
        self.birth.as_ref().filter(|birth| by(birth))?;
        Some(Vouched::Birth)
    }
}
