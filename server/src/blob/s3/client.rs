//! HTTP/1.1 to the bucket, over rustls with the authorities of the configuration.
//!
//! Bounds: a connection, an answer's head and each piece of its body have their time; a store that
//! stalls costs one request, never a thread.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::Uri;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// For TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From a request to the head of its answer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(20);
/// For one piece of a body.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that are kept for the next request.
const IDLE_MAX: usize = 16;

/// Gives `object_store` the client below.
#[derive(Debug)]
pub(super) struct Connector(Option<Arc<ClientConfig>>);

impl Connector {
    pub(super) fn new(tls: Option<Arc<ClientConfig>>) -> Self {
        Self(tls)
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MAX)
            .build(Connecting(self.0.clone()));
        Ok(HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(Client<Connecting, HttpRequestBody>);

impl HttpService for Service {
    fn call<'life, 'async_trait>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(async move {
            let late = |_| fault(HttpErrorKind::Timeout, "the store does not answer");
            let answer = timeout(HEAD_TIMEOUT, self.0.request(request)).await;
            let response = answer.map_err(late)?.map_err(|error| {
                let kind = if error.is_connect() {
                    HttpErrorKind::Connect
                } else {
                    HttpErrorKind::Request
                };
                HttpError::new(kind, error)
            })?;
            Ok(response.map(|body| HttpResponseBody::new(Paced::new(body))))
        })
    }
}

fn fault(kind: HttpErrorKind, what: &'static str) -> HttpError {
    HttpError::new(kind, io::Error::other(what))
}

/// A body whose every piece has its time.
struct Paced {
    body: Incoming,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn new(body: Incoming) -> Self {
        Self {
            body,
            patience: None,
        }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.patience = None;
            let broken = |error| HttpError::new(HttpErrorKind::Interrupted, error);
            return Poll::Ready(frame.map(|frame| frame.map_err(broken)));
        }
        let patience = this
            .patience
            .get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        match patience.as_mut().poll(context) {
            Poll::Ready(()) => {
                let stalled = fault(HttpErrorKind::Timeout, "the store stopped sending");
                Poll::Ready(Some(Err(stalled)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Makes connections.
#[derive(Debug, Clone)]
struct Connecting(Option<Arc<ClientConfig>>);

impl tower_service::Service<Uri> for Connecting {
    type Response = Link;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Link>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let tls = self.0.clone();
        Box::pin(async move {
            timeout(CONNECT_TIMEOUT, connect(tls, &to))
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
    }
}

async fn connect(tls: Option<Arc<ClientConfig>>, to: &Uri) -> io::Result<Link> {
    let host = to.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = to
        .port_u16()
        .unwrap_or(if tls.is_some() { 443 } else { 80 });
    let tcp = TcpStream::connect((host, port)).await?;
    tcp.set_nodelay(true)?;
    Ok(Link(match tls {
        Some(config) => {
            let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, tcp).await?;
            Stream::Tls(TokioIo::new(Box::new(stream)))
        }
        None => Stream::Plain(TokioIo::new(tcp)),
    }))
}

/// A connection to the store.
struct Link(Stream);

enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(TokioIo<Box<TlsStream<TcpStream>>>),
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl Write for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
