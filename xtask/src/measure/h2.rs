//! The same requests over HTTP/2, many at a time on each connection.

use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::load::Tally;
use crate::peer::Peer;

/// Requests that are open at a time on one connection; servers allow no fewer.
const STREAMS: usize = 32;

type Failed = Box<dyn Error + Send + Sync>;

/// Asks on `connections` connections until the time is up; a tally for each stream.
pub(crate) fn ask_until(
    peer: &Peer,
    connections: usize,
    until: Instant,
) -> Result<Vec<Tally>, Box<dyn Error>> {
    let tls = peer.tls(Resumption::disabled(), b"h2")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        let mut streams = JoinSet::new();
        for _ in 0..connections {
            let sender = connect(peer, tls.clone()).await?;
            for _ in 0..STREAMS {
                streams.spawn(stream(sender.clone(), peer.path.clone(), until));
            }
        }
        let mut tallies = Vec::new();
        while let Some(tally) = streams.join_next().await {
            tallies.push(tally??);
        }
        Ok::<_, Failed>(tallies)
    });
    done.map_err(|error| error as Box<dyn Error>)
}

async fn connect(peer: &Peer, tls: Arc<ClientConfig>) -> Result<SendRequest<Empty<Bytes>>, Failed> {
    let socket = TcpStream::connect(peer.address).await?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let stream = TlsConnector::from(tls).connect(name, socket).await?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    // It ends with its sender; what went wrong is told to whoever asked.
    tokio::spawn(connection);
    Ok(sender)
}

async fn stream(
    mut sender: SendRequest<Empty<Bytes>>,
    path: String,
    until: Instant,
) -> Result<Tally, Failed> {
    let mut tally = Tally::default();
    while Instant::now() < until {
        sender.ready().await?;
        let uri = format!("https://localhost{path}");
        let request = Request::get(uri).body(Empty::new())?;
        let mut answer = sender.send_request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the server answered {}", answer.status()).into());
        }
        while let Some(frame) = answer.frame().await {
            tally.bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        tally.requests += 1;
    }
    Ok(tally)
}
