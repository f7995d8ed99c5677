//! What devices tell: inventories and receipts; and what we know of them.
//!
//! The device is the one of the certificate; a report that names another is refused. A receipt
//! must be signed by the key of that certificate, so that it proves later what was said now.
//! Nothing is acknowledged before the store's writer says that it is durable.

use std::sync::Arc;
use std::time::Duration;

use ampoule_protocol::device::{Acknowledged, CheckedIn, DeviceView, Inventory, Receipt};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::problem::Problem;
use crate::audit::{Act, Record};
use crate::fleet::Device;
use crate::rollouts::Heard;
use crate::serve::{Peer, Shared};
use crate::store::{DeviceRow, Standing, Store, StoreError, Write, Written};

/// Bytes of a refused body that are read and thrown away before the refusal; more ends the stream.
const PASSED_LEN_MAX: u64 = 1 << 20;
/// How long that may take; who announces a body and waits for a word gets it then.
const PASSED_FOR_MAX: Duration = Duration::from_secs(2);
/// Receipts in a [`DeviceView`].
const VIEWED_RECEIPTS_MAX: usize = 16;

/// `POST /device/v1/inventory`.
pub(super) async fn inventory(
    shared: &Shared,
    peer: &Peer,
    body: Incoming,
) -> Result<Response<Body>, Problem> {
    let bytes = read(shared, body).await?;
    let inventory = Inventory::parse(&bytes)?;
    is_own(peer, &inventory.device)?;
    let write = inventory_write(&inventory, &bytes, shared.now());
    let row = durable(shared, write).await?;
    if let Some(row) = row {
        let heard = Heard::Inventory(row.number, Box::new(inventory.clone()));
        shared.rollouts.hear(heard);
    }
    let poll_interval_secs = u32::try_from(shared.config.devices.poll_interval_secs).ok();
    Ok(json(&CheckedIn {
        seq: inventory.seq,
        poll_interval_secs,
    }))
}

/// `POST /device/v1/receipts`.
pub(super) async fn receipt(
    shared: &Shared,
    peer: &Peer,
    body: Incoming,
) -> Result<Response<Body>, Problem> {
    let bytes = read(shared, body).await?;
    let key = peer.identity.key().ok_or_else(|| {
        let detail = "the key of this certificate is neither Ed25519 nor P-256";
        Problem::new(StatusCode::FORBIDDEN, "key-cannot-sign", detail)
    })?;
    let receipt = Receipt::verify(&bytes, &key)?;
    is_own(peer, &receipt.device)?;
    let digest = Digest::of(&bytes);
    let write = Write::Receipt {
        device: receipt.device.clone(),
        at: shared.now().unix(),
        digest,
        bytes: bytes.to_vec(),
    };
    let new = durable(shared, write).await?;
    // Also where the store had it: the server may have been cut off before it came to the log.
    let record = receipt_record(&receipt, digest);
    shared.audit.record(record, shared.now()).await?;
    if let Some(row) = new {
        let heard = Heard::Receipt(row.number, Box::new(receipt), None);
        shared.rollouts.hear(heard);
    }
    Ok(json(&Acknowledged {
        acknowledged: vec![digest],
    }))
}

/// An inventory, as it is kept; `bytes` is how it came.
pub fn inventory_write(inventory: &Inventory, bytes: &[u8], now: UtcTime) -> Write {
    Write::Inventory {
        device: inventory.device.clone(),
        at: now.unix(),
        seq: inventory.seq,
        time: inventory.time.unix(),
        digest: lasting_digest(inventory),
        bytes: bytes.to_vec(),
    }
}

/// How an update ended, and which gates and health commands decided it.
fn receipt_record(receipt: &Receipt, digest: Digest) -> Record {
    Record::new(Act::Receipt, format!("device:{}", receipt.device))
        .about("device", &receipt.device)
        .digest(digest)
        .with("outcome", receipt.outcome)
        .with("release", &receipt.release)
        .with("seq", receipt.seq)
        .with("gates", &receipt.gates)
        .with("health", &receipt.health)
}

/// `GET /device/v1/self`.
pub(super) async fn view(shared: &Shared, device: &Arc<Device>) -> Result<Response<Body>, Problem> {
    let (store, row) = (shared.store.clone(), device.row());
    let view = tokio::task::spawn_blocking(move || view_of(&*store, &row)).await;
    match view {
        Ok(view) => Ok(json(&view?)),
        Err(_) => Err(Problem::unavailable(
            "store-unavailable",
            "the store cannot be read",
            60,
        )),
    }
}

/// What the store knows of a device, in the words of the wire.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn view_of(store: &dyn Store, row: &DeviceRow) -> Result<DeviceView, StoreError> {
    let inventory = store
        .inventory(row)?
        .and_then(|bytes| Inventory::parse(&bytes).ok());
    let receipts = store.receipts(row)?;
    Ok(DeviceView {
        device: row.device.clone(),
        enrolled: row.standing == Standing::Enrolled,
        inventory: inventory.map(|inventory| Inventory {
            seq: row.inventory_seq,
            time: UtcTime::from_unix(row.inventory_time),
            ..inventory
        }),
        last_seen: row.seen_at.map(UtcTime::from_unix),
        receipts: receipts
            .iter()
            .rev()
            .take(VIEWED_RECEIPTS_MAX)
            .filter_map(|stored| read_again(&stored.bytes))
            .collect(),
    })
}

/// A receipt of our own store: it was verified when it came.
fn read_again(bytes: &[u8]) -> Option<Receipt> {
    #[derive(serde::Deserialize)]
    struct Stored {
        signed: Receipt,
    }
    serde_json::from_slice::<Stored>(bytes)
        .ok()
        .map(|stored| stored.signed)
}

/// The digest of an inventory without what changes from poll to poll.
fn lasting_digest(inventory: &Inventory) -> Digest {
    let lasting = Inventory {
        seq: 0,
        time: UtcTime::EPOCH,
        ..inventory.clone()
    };
    Digest::of(&serde_json::to_vec(&lasting).unwrap_or_default())
}

fn is_own(peer: &Peer, named: &DeviceId) -> Result<(), Problem> {
    if *named == peer.identity.device {
        return Ok(());
    }
    let detail = format!(
        "the report names {named:?}, the certificate {:?}",
        peer.identity.device
    );
    Err(Problem::new(StatusCode::FORBIDDEN, "other-device", detail))
}

/// The device as it is then, where the write is new.
async fn durable(shared: &Shared, write: Write) -> Result<Option<DeviceRow>, Problem> {
    match shared.writer.write(write).await? {
        Written::Done(row) => Ok(Some(row)),
        Written::Repeated(_) | Written::Kept | Written::Recorded(_) | Written::Conflict { .. } => {
            Ok(None)
        }
        Written::UnknownDevice => Err(crate::fleet::Refusal::Unknown.into()),
    }
}

/// The whole body, as long as it is short enough and comes in time.
pub(crate) async fn read(shared: &Shared, mut body: Incoming) -> Result<Bytes, Problem> {
    let limits = &shared.config.limits;
    let too_large = || Problem::too_large(limits.body_len_max);
    if body.size_hint().lower() > limits.body_len_max as u64 {
        let_pass(shared, &mut body).await;
        return Err(too_large());
    }
    let limited = http_body_util::Limited::new(&mut body, limits.body_len_max).collect();
    match tokio::time::timeout(limits.body_timeout, limited).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            let_pass(shared, &mut body).await;
            Err(too_large())
        }
        Ok(Err(_)) => {
            let detail = "the body ended before it was whole";
            Err(Problem::new(StatusCode::BAD_REQUEST, "body-cut", detail))
        }
        Err(_) => {
            let detail = "the body did not come in time";
            Err(Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-slow",
                detail,
            ))
        }
    }
}

/// Reads what is left of a body that nobody wants, so that who sends it hears the answer.
///
/// Over HTTP/2 clients in the field take an answer that overtakes their body for a broken stream,
/// and over HTTP/1 the end of a connection with unread bytes takes the answer along.
pub(super) async fn let_pass(shared: &Shared, body: &mut Incoming) {
    if body.size_hint().lower() > PASSED_LEN_MAX {
        return;
    }
    let passing = async {
        let mut left = PASSED_LEN_MAX;
        while let Some(Ok(frame)) = body.frame().await {
            let len = frame.data_ref().map_or(0, |data| data.len() as u64);
            left = left.saturating_sub(len);
            if left == 0 {
                return;
            }
        }
    };
    let patience = shared.config.limits.body_timeout.min(PASSED_FOR_MAX);
    let _ = tokio::time::timeout(patience, passing).await;
}

pub(super) fn json<T: Serialize>(words: &T) -> Response<Body> {
    let text = serde_json::to_vec(words).unwrap_or_default();
    let mut response = Response::new(Body::full(text.into()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
