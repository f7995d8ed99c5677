//! A few lines of HTTP/1.1 over rustls, blocking.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::SupportedKxGroup;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub config: Arc<ClientConfig>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The stable code of a problem, after checking its form.
    pub fn problem(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        let words = self.json();
        assert_eq!(words["status"], self.status);
        words["code"].as_str().unwrap().into()
    }
}

pub struct Connection {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Client {
    /// With the certificate in `dir`.
    pub fn new(address: SocketAddr, dir: &Path) -> Self {
        let groups = rustls::crypto::aws_lc_rs::default_provider().kx_groups;
        Self::with_groups(address, dir, groups)
    }

    /// With the certificate in `dir`; agrees on keys by one of `groups`, and by suites with SHA-256,
    /// as the agent does.
    pub fn with_groups(
        address: SocketAddr,
        dir: &Path,
        groups: Vec<&'static dyn SupportedKxGroup>,
    ) -> Self {
        let chain = CertificateDer::pem_file_iter(dir.join("device.pem"))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        let key = PrivateKeyDer::from_pem_file(dir.join("device.key")).unwrap();
        let config = builder(&dir.join("ca.pem"), groups)
            .with_client_auth_cert(chain, key)
            .unwrap();
        Self {
            address,
            config: Arc::new(config),
        }
    }

    /// With no certificate.
    pub fn anonymous(address: SocketAddr, ca: &Path) -> Self {
        let groups = rustls::crypto::aws_lc_rs::default_provider().kx_groups;
        Self {
            address,
            config: Arc::new(builder(ca, groups).with_no_client_auth()),
        }
    }

    pub fn connect(&self) -> io::Result<Connection> {
        let tcp = TcpStream::connect(self.address)?;
        tcp.set_read_timeout(Some(Duration::from_secs(20)))?;
        tcp.set_nodelay(true)?;
        let name = "localhost".try_into().unwrap();
        let tls = ClientConnection::new(self.config.clone(), name).unwrap();
        Ok(Connection {
            stream: StreamOwned::new(tls, tcp),
        })
    }

    pub fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &[u8]) -> Reply {
        self.ask("POST", path, &[], body)
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.connect()
            .unwrap()
            .ask(method, path, headers, body)
            .unwrap()
    }
}

impl Connection {
    pub fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        self.send(method, path, headers, body)?;
        self.reply(method)
    }

    pub fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        self.send_host(method, path, "localhost", headers, body)
    }

    /// As [`Self::ask`], to a host of another name: some sign it.
    pub fn ask_host(
        &mut self,
        method: &str,
        path: &str,
        host: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Reply> {
        self.send_host(method, path, host, headers, body)?;
        self.reply(method)
    }

    fn send_host(
        &mut self,
        method: &str,
        path: &str,
        host: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<()> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n");
        for (name, value) in headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        let has_length =
            |(name, _): &(&str, &str)| *name == "content-length" || *name == "transfer-encoding";
        if method == "POST" && !headers.iter().any(has_length) {
            head.extend(["content-length: ", &body.len().to_string(), "\r\n"]);
        }
        head += "\r\n";
        self.stream.write_all(&[head.as_bytes(), body].concat())?;
        self.stream.flush()
    }

    pub fn reply(&mut self, method: &str) -> io::Result<Reply> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            if self.stream.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let status = lines
            .next()
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_string()))
            .collect();
        let len = headers
            .get("content-length")
            .map_or(0, |len| len.parse().unwrap());
        let mut body = vec![
            0;
            if method == "HEAD" || status == 304 {
                0
            } else {
                len
            }
        ];
        self.stream.read_exact(&mut body)?;
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whether the peer ends the connection; what it still sends is thrown away.
    pub fn is_cut(&mut self) -> bool {
        let mut bytes = [0; 1 << 14];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    return !matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                    );
                }
            }
        }
    }
}

fn builder(
    ca: &Path,
    groups: Vec<&'static dyn SupportedKxGroup>,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(ca).unwrap())
        .unwrap();
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups = groups;
    provider.cipher_suites =
        vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
}
