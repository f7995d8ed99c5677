//! A client of the server that is measured: loopback, mutual TLS 1.3, HTTP/1.1 by hand.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// A connection that blocks.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// The longest head of an answer that is read, in bytes.
const HEAD_LEN_MAX: usize = 64 << 10;

/// Whom to ask, for what, and as whom.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    ca: String,
    certificate: String,
    key: String,
}

/// Whether the connection serves another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Close,
    Keep,
}

impl Peer {
    /// From the words `ADDRESS PATH CA CERTIFICATE KEY`.
    pub(crate) fn parse(words: &[String; 5]) -> Result<Self, Box<dyn Error>> {
        let [address, path, ca, certificate, key] = words.clone();
        let address: SocketAddr = address.parse()?;
        if !address.ip().is_loopback() {
            return Err(format!("{address} is not a loopback address").into());
        }
        Ok(Self {
            address,
            path,
            ca,
            certificate,
            key,
        })
    }

    /// What a handshake needs; sessions are resumed from what `resumption` keeps.
    pub(crate) fn tls(
        &self,
        resumption: Resumption,
        protocol: &[u8],
    ) -> Result<Arc<ClientConfig>, Box<dyn Error>> {
        let mut roots = RootCertStore::empty();
        for found in CertificateDer::pem_file_iter(&self.ca)? {
            roots.add(found?)?;
        }
        let chain =
            CertificateDer::pem_file_iter(&self.certificate)?.collect::<Result<Vec<_>, _>>()?;
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        // As the agent offers it; a group that only one side prefers would cost a round more.
        provider.kx_groups = vec![rustls::crypto::aws_lc_rs::kx_group::X25519];
        // And in the agent's order: the suites with SHA-256 first.
        provider.cipher_suites.sort_by_key(|suite| {
            suite
                .tls13()
                .is_none_or(|suite| suite.common.hash_provider.output_len() != 32)
        });
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, PrivateKeyDer::from_pem_file(&self.key)?)?;
        config.resumption = resumption;
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config))
    }

    pub(crate) fn connect(&self, tls: &Arc<ClientConfig>) -> Result<Stream, Box<dyn Error>> {
        let socket = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        let name = ServerName::try_from("localhost")?;
        Ok(StreamOwned::new(
            ClientConnection::new(tls.clone(), name)?,
            socket,
        ))
    }

    /// One request; the bytes of its body.
    pub(crate) fn ask(
        &self,
        stream: &mut Stream,
        after: After,
        buffer: &mut [u8],
    ) -> io::Result<u64> {
        let close = match after {
            After::Keep => "",
            After::Close => "Connection: close\r\n",
        };
        let path = &self.path;
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = Vec::new();
        let body_start = loop {
            let read = stream.read(buffer)?;
            if read == 0 || head.len() > HEAD_LEN_MAX {
                return Err(io::Error::other("the answer has no head"));
            }
            head.extend_from_slice(&buffer[..read]);
            if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        let length = body_length(&head[..body_start])?;
        let mut got = (head.len() - body_start) as u64;
        while got < length {
            let read = stream.read(buffer)?;
            if read == 0 {
                return Err(io::Error::other("the answer ends early"));
            }
            got += read as u64;
        }
        Ok(length)
    }
}

fn body_length(head: &[u8]) -> io::Result<u64> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("http/1.1 200") {
        return Err(io::Error::other(format!(
            "the server answered \"{status}\""
        )));
    }
    lines
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
        .ok_or_else(|| io::Error::other("the answer has no length"))
}
