//! A store that speaks S3 and checks signatures (`s3s-fs`), over TLS, in this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio_rustls::TlsAcceptor;

use super::World;

pub const ACCESS_KEY: &str = "AKIAEXAMPLE";
pub const SECRET_KEY: &str = "a-secret-that-nobody-else-has";

/// A store with one bucket, `fleet`; its thread ends with the process.
pub struct Bucket {
    pub address: SocketAddr,
    /// Requests by a link so far.
    pub links: Arc<AtomicUsize>,
}

impl Bucket {
    /// Its certificate is the one of the world's server.
    pub fn start(world: &World) -> Self {
        let folder = world.path("s3");
        std::fs::create_dir_all(folder.join("fleet")).unwrap();
        let chain = CertificateDer::pem_file_iter(world.path("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(world.path("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut builder = S3ServiceBuilder::new(FileSystem::new(folder).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let links = Arc::new(AtomicUsize::new(0));
        let counting = links.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (acceptor, service) = (acceptor.clone(), service.clone());
                    let links = counting.clone();
                    let counted = service_fn(move |request: Request<Incoming>| {
                        let query = request.uri().query().unwrap_or_default();
                        let is_link = query.contains("X-Amz-Signature=");
                        links.fetch_add(usize::from(is_link), Ordering::Relaxed);
                        Service::call(&service, request)
                    });
                    tokio::spawn(async move {
                        let stream = acceptor.accept(stream).await.ok()?;
                        let builder = Builder::new(TokioExecutor::new());
                        let io = TokioIo::new(stream);
                        builder.serve_connection(io, counted).await.ok()
                    });
                }
            });
        });
        Self { address, links }
    }

    /// `[blobs]` for it, with the credentials in a file.
    pub fn section(&self, world: &World, secret: &str, more: &str) -> String {
        let credentials = format!("access_key = \"{ACCESS_KEY}\"\nsecret_key = \"{secret}\"\n");
        std::fs::write(world.path("s3.toml"), credentials).unwrap();
        format!(
            "[blobs]\nendpoint = \"https://localhost:{}\"\nbucket = \"fleet\"\nprefix = \"pumps\"\n\
             ca = \"ca.pem\"\ncredentials = \"s3.toml\"\npoll_secs = 1\n{more}\n",
            self.address.port()
        )
    }
}
