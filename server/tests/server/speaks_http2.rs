//! The same over HTTP/2: files, reports, and a reader that never grants a window.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::common::tree::IMAGE_LEN;
use crate::common::{Device, Server, World};

type Sender = http2::SendRequest<Full<Bytes>>;

/// Streams get a window of 64 KiB at first, and more only as the client reads.
async fn connect(device: &Device, server: &Server) -> (Sender, tokio::task::JoinHandle<()>) {
    let mut config = (*device.client(server).config).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let tls = TlsConnector::from(Arc::new(config));
    let tls = tls
        .connect("localhost".try_into().unwrap(), tcp)
        .await
        .unwrap();
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(65_535)
        .initial_connection_window_size(65_535);
    let (sender, connection) = builder.handshake(TokioIo::new(tls)).await.unwrap();
    let driving = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, driving)
}

fn request(method: &str, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .body(Full::new(body.into()))
        .unwrap()
}

fn block_on(future: impl Future) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async {
            tokio::time::timeout(Duration::from_mins(1), future)
                .await
                .expect("it ends");
        });
}

#[test]
fn files_and_reports() {
    let world = World::new();
    let device = world.enroll("pump-1");
    let server = world.start();
    block_on(async {
        let (mut sender, _driving) = connect(&device, &server).await;
        let answer =
            sender.send_request(request("POST", "/device/v1/inventory", device.inventory(3)));
        assert_eq!(answer.await.unwrap().status(), 200);
        let image = format!("/tuf/image/{}", world.tree.image_path);
        let answer = sender
            .send_request(request("GET", &image, Vec::new()))
            .await
            .unwrap();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), IMAGE_LEN);
        let answer = sender
            .send_request(request("GET", "/nowhere", Vec::new()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 404);
    });
    server.stop();
}

#[test]
fn a_reader_that_grants_no_window_is_cut() {
    let mut world = World::new();
    world.limits = "write_stall_secs = 1\nheader_timeout_secs = 2".into();
    let device = world.enroll("pump-1");
    let server = world.start();
    block_on(async {
        let (mut sender, driving) = connect(&device, &server).await;
        let image = format!("/tuf/image/{}", world.tree.image_path);
        let answer = sender
            .send_request(request("GET", &image, Vec::new()))
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        // The body is held and never read; the sender stays, so only the server ends this.
        driving.await.unwrap();
        drop((sender, answer));
    });
    server.stop();
}
