//! The operators' TLS: TLS 1.3, a client certificate where programs come, none where people do.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::config::Operators;
use crate::error::ServerError;
use crate::tls::{self, Reloading};

/// The files of the listener, read; they are read again when they change.
///
/// # Errors
/// A file cannot be used, or certificate and key do not belong together.
pub fn certificates(files: &Operators) -> Result<Reloading<ServerConfig>, ServerError> {
    let named = [Some(&files.certificate), Some(&files.key)];
    let named = named
        .into_iter()
        .chain([files.client_ca.as_ref(), files.crl.as_ref()]);
    let named = named.flatten().cloned().collect();
    let files = files.clone();
    Reloading::start(named, move || load(&files))
}

/// Reads the files and makes a configuration of them.
///
/// # Errors
/// A file cannot be used, or certificate and key do not belong together.
fn load(files: &Operators) -> Result<ServerConfig, ServerError> {
    let chain = tls::certificates("operators' certificate", &files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| ServerError::pki("operators' key", &files.key, error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| ServerError::Tls(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for authority in tls::certificates("operators' authority", path)? {
                roots
                    .add(authority)
                    .map_err(|error| ServerError::pki("operators' authority", path, error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated();
            let verifier = match &files.crl {
                None => verifier,
                Some(path) => {
                    let lists = rustls_pki_types::CertificateRevocationListDer::pem_file_iter(path)
                        .and_then(Iterator::collect::<Result<Vec<_>, _>>);
                    let lists =
                        lists.map_err(|error| ServerError::pki("revocation list", path, error))?;
                    verifier.with_crls(lists).enforce_revocation_expiration()
                }
            };
            let verifier = verifier.build();
            builder.with_client_cert_verifier(
                verifier.map_err(|error| ServerError::pki("operators' authority", path, error))?,
            )
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| ServerError::pki("operators' key", &files.key, error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Operators are few: nothing is resumed, so that each connection is verified whole.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
