//! Mutual TLS for tests: an authority, a server and one device, made by the server's own tool.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use ampoule_agent::net::Identity;
use ampoule_protocol::name::DeviceId;
use ampoule_server::config::Enroll;
use ampoule_server::pki::{Authority, KeyKind, make_dev_ca};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::http::Stream;

/// The files of an authority, in a folder of their own.
pub struct Pki {
    folder: tempfile::TempDir,
}

impl Pki {
    /// An authority, a certificate for `127.0.0.1`, and one for `device`.
    ///
    /// # Panics
    /// Where the files cannot be made.
    pub fn new(device: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let pki = Self { folder };
        make_dev_ca(pki.folder.path(), &["127.0.0.1".into()], 2).expect("an authority");
        let authority = Authority::load(&Enroll::of_dev_ca(pki.folder.path(), 2), None);
        let device = DeviceId::parse(device).expect("a device id");
        let issued = authority.and_then(|authority| authority.issue(&device, KeyKind::Ed25519, 2));
        let issued = issued.expect("a certificate for the device");
        std::fs::write(pki.path("device.pem"), &issued.certificate_pem).expect("written");
        std::fs::write(pki.path("device.key"), issued.key_pem.as_bytes()).expect("written");
        pki
    }

    /// Who the device is.
    ///
    /// # Panics
    /// Where the agent does not read what the server's tool wrote.
    pub fn identity(&self) -> Identity {
        let file = |name| self.path(name);
        Identity::load(&file("device.pem"), &file("device.key"), &file("ca.pem"))
            .expect("the agent reads what the server's tool wrote")
    }

    /// What wraps an accepted connection: the handshake happens at the first read.
    ///
    /// # Panics
    /// Where the files are not what they should be.
    pub fn wrap(
        &self,
    ) -> impl Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync + 'static {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in self.certificates("ca.pem") {
            roots.add(certificate).expect("an authority");
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .expect("one authority");
        let key = PrivateKeyDer::from_pem_file(self.path("server.key")).expect("a key");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.certificates("server.pem"), key)
            .expect("key and certificate fit");
        let config = Arc::new(config);
        move |stream| {
            let connection =
                ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
            Ok(Box::new(StreamOwned::new(connection, stream)))
        }
    }

    fn certificates(&self, name: &str) -> Vec<CertificateDer<'static>> {
        let found = CertificateDer::pem_file_iter(self.path(name)).expect("a PEM file");
        found
            .map(|certificate| certificate.expect("a certificate"))
            .collect()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}
