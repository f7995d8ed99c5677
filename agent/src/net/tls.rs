//! TLS below the client: rustls, with what the device shows of itself.
//!
//! The client's own connector takes a key as bytes alone. This one takes anything that signs, so that the
//! key can be in another process, or in hardware.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use ampoule_protocol::key::Scheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SignatureAlgorithm, SignatureScheme,
    StreamOwned, SupportedCipherSuite,
};
use ureq::config::Config;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
    TransportAdapter,
};
use ureq::{Agent, Error};

use super::identity::{IdentityError, certificates, fault, read};
use crate::key::{self, DeviceKey};
use ampoule_protocol::enrol;

/// What the device shows of itself.
#[derive(Debug, Clone)]
pub struct Shown(Arc<CertifiedKey>);

impl Shown {
    /// A chain, its own certificate first, and the key of that one.
    pub(super) fn new(chain: &[CertificateDer<'static>], key: DeviceKey) -> Self {
        let key = Arc::new(Key(key));
        Self(Arc::new(CertifiedKey::new(chain.to_vec(), key)))
    }

    /// What a manufacturer gave it: a key of any kind that TLS knows, in a file or behind a command.
    ///
    /// # Errors
    /// Files that are missing or not what they should be.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let (chain, bytes) = (certificates(certificate)?, read(key)?);
        if !key::is_pem(&bytes) {
            let leaf = chain.first().map(CertificateDer::as_ref);
            let public = enrol::key_of(leaf.unwrap_or_default());
            let public = public.map_err(|error| fault(certificate, &error.to_string()))?;
            let opened = key::open(key, &bytes, &public).map_err(|what| fault(key, &what))?;
            return Ok(Self::new(&chain, opened));
        }
        let der = PrivateKeyDer::from_pem_slice(&bytes);
        let der = der.map_err(|_| fault(key, "holds no private key"))?;
        let shown = CertifiedKey::from_der(chain, der, &provider());
        let shown = shown.map_err(|error| fault(key, &format!("cannot be used: {error}")))?;
        Ok(Self(Arc::new(shown)))
    }
}

/// The device's key, as rustls asks for signatures.
#[derive(Clone)]
struct Key(DeviceKey);

impl Key {
    fn kind(&self) -> (SignatureScheme, SignatureAlgorithm) {
        match self.0.public_key().scheme() {
            Scheme::Ed25519 => (SignatureScheme::ED25519, SignatureAlgorithm::ED25519),
            Scheme::EcdsaP256 => (
                SignatureScheme::ECDSA_NISTP256_SHA256,
                SignatureAlgorithm::ECDSA,
            ),
            Scheme::EcdsaP384 => (
                SignatureScheme::ECDSA_NISTP384_SHA384,
                SignatureAlgorithm::ECDSA,
            ),
            Scheme::RsaPss => (SignatureScheme::RSA_PSS_SHA256, SignatureAlgorithm::RSA),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let is_offered = offered.contains(&self.kind().0);
        is_offered.then(|| Box::new(self.clone()) as _)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.kind().1
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signed = self.0.sign(message);
        signed.map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        self.kind().0
    }
}

/// Suites with SHA-256 come first: a poll is mostly handshake, and a handshake is dozens of hashes,
/// which SHA-384 makes several times dearer on devices and servers alike (docs/adr/0010).
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    let has_sha256 = |suite: &SupportedCipherSuite| {
        suite
            .tls13()
            .is_some_and(|suite| suite.common.hash_provider.output_len() == 32)
    };
    provider
        .cipher_suites
        .sort_by_key(|suite| !has_sha256(suite));
    provider
}

/// A client that speaks HTTPS alone, to whom `authorities` vouch for, and shows `shown`.
pub(super) fn agent(
    config: Config,
    authorities: &[CertificateDer<'static>],
    shown: Option<&Shown>,
) -> Agent {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    // The device's key signs handshakes of TLS 1.3 alone (`seal::handshake`).
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_root_certificates(roots);
    let tls = match shown {
        Some(Shown(key)) => {
            let own: Arc<dyn ResolvesClientCert> =
                Arc::new(SingleCertAndKey::from(Arc::clone(key)));
            builder.with_client_cert_resolver(own)
        }
        None => builder.with_no_client_auth(),
    };
    let connector = ().chain(TcpConnector::default()).chain(Tls(Arc::new(tls)));
    Agent::with_parts(config, connector, DefaultResolver::default())
}

/// Puts TLS over every connection.
#[derive(Debug)]
struct Tls(Arc<ClientConfig>);

impl<In: Transport> Connector<In> for Tls {
    type Out = Secured;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Secured>, Error> {
        let Some(transport) = chained else {
            return Ok(None);
        };
        let host = details.uri.host().unwrap_or_default();
        // An address of IPv6 stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| Error::Other(Box::new(error)))?;
        let connection = ClientConnection::new(Arc::clone(&self.0), name);
        let mut connection = connection.map_err(|error| Error::Other(Box::new(error)))?;
        let mut socket =
            TransportAdapter::new(transport.boxed(), Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let config = details.config;
        Ok(Some(Secured {
            buffers: LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size()),
            stream: StreamOwned::new(connection, socket),
        }))
    }
}

/// A connection under TLS.
struct Secured {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secured")
    }
}

impl Transport for Secured {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.sock.set_timeout(timeout);
        let output = &self.buffers.output()[..amount];
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.sock.set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
