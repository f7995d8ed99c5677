//! Keys and values as sled should see them: fixed-width big-endian keys, values below 512 bytes.
//!
//! Larger values are cut into pieces. A value that sled thinks too large for its log goes to a
//! file of its own, which our fdatasync of the log would not cover; with pieces none ever does.
//!
//! | key | value |
//! |---|---|
//! | `h` | [`Header`], JSON |
//! | `d` number | [`super::DeviceRow`], see [`super::rows`] |
//! | `i` number piece | inventory |
//! | `r` number slot piece | receipt: seq, at, digest, length, bytes |
//! | `x` number digest/2 | seq of the receipt with that digest |
//! | `e` number slot | [`super::Event`], see [`super::rows`] |
//! | `t` number piece | tags, JSON |
//! | `o` SHA-256/2 of the name, piece | rollout, JSON |
//! | `p` SHA-256/2 of the name, number | deployment, JSON |
//! | `n` kind 0 key 0 piece | named record: version, length, bytes |

use ampoule_protocol::digest::Digest;
use serde::{Deserialize, Serialize};

use super::records::{Key, Kind, Record};
use super::{StoreError, StoredReceipt};
use crate::rollout::RolloutId;

/// The longest value that is written.
pub(super) const PIECE_LEN: usize = 480;

pub(super) const HEADER: &[u8] = b"h";

/// What must agree with the rows when the store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// The layout above is 2; 1 had JSON for rows and events.
    pub(super) format: u32,
    /// Rows under `d`.
    pub(super) devices: u32,
    /// The size of the ring of receipts when they were written.
    pub(super) receipts_max: u32,
    /// The size of the ring of events when they were written.
    pub(super) events_max: u32,
    /// Groups that were committed; see [`super::high_water`].
    #[serde(default)]
    pub(super) commits: u64,
    /// Versions of named records given so far.
    #[serde(default)]
    pub(super) record_versions: u64,
}

fn key(kind: u8, number: u32, rest: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&number.to_be_bytes());
    for part in rest {
        key.extend_from_slice(part);
    }
    key
}

pub(super) fn device(number: u32) -> Vec<u8> {
    key(b'd', number, &[])
}

pub(super) fn inventory(number: u32, piece: u16) -> Vec<u8> {
    key(b'i', number, &[&piece.to_be_bytes()])
}

pub(super) fn receipt(number: u32, slot: u32, piece: u16) -> Vec<u8> {
    key(b'r', number, &[&slot.to_be_bytes(), &piece.to_be_bytes()])
}

pub(super) fn receipt_by_digest(number: u32, digest: &Digest) -> Vec<u8> {
    key(b'x', number, &[&digest.as_bytes()[..16]])
}

pub(super) fn event(number: u32, slot: u32) -> Vec<u8> {
    key(b'e', number, &[&slot.to_be_bytes()])
}

pub(super) fn tags(number: u32, piece: u16) -> Vec<u8> {
    key(b't', number, &[&piece.to_be_bytes()])
}

/// Names differ in length; the first half of their digest does not.
fn of_rollout(kind: u8, name: &RolloutId, rest: &[u8]) -> Vec<u8> {
    let digest = Digest::of(name.as_str().as_bytes());
    [&[kind], &digest.as_bytes()[..16], rest].concat()
}

pub(super) fn rollout(name: &RolloutId, piece: u16) -> Vec<u8> {
    of_rollout(b'o', name, &piece.to_be_bytes())
}

pub(super) fn deployment(rollout: &RolloutId, number: u32) -> Vec<u8> {
    of_rollout(b'p', rollout, &number.to_be_bytes())
}

/// The prefix of all deployments of a rollout.
pub(super) fn deployments(rollout: &RolloutId) -> Vec<u8> {
    of_rollout(b'p', rollout, &[])
}

/// The prefix of all records of a kind. No kind and no key holds a zero byte, so that records
/// stand in the order of their keys.
pub(super) fn records(kind: &Kind) -> Vec<u8> {
    [b"n", kind.as_str().as_bytes(), b"\0"].concat()
}

/// The prefix of all pieces of a record.
pub(super) fn record(kind: &Kind, key: &Key) -> Vec<u8> {
    [&records(kind), key.as_str().as_bytes(), b"\0"].concat()
}

pub(super) fn record_piece(kind: &Kind, key: &Key, piece: u16) -> Vec<u8> {
    [&record(kind, key)[..], &piece.to_be_bytes()].concat()
}

/// The key, and whether this is its first piece, out of what follows [`records`].
pub(super) fn key_of_record(rest: &[u8]) -> Option<(Key, bool)> {
    let (head, piece) = rest.split_last_chunk::<2>()?;
    let text = std::str::from_utf8(head.strip_suffix(b"\0")?).ok()?;
    Some((Key::parse(text).ok()?, *piece == [0, 0]))
}

const RECORD_HEAD_LEN: usize = 8 + 4;

pub(super) fn encode_record(version: u64, bytes: &[u8]) -> Vec<u8> {
    [&version.to_be_bytes()[..], &with_len(bytes)].concat()
}

/// Version and length, out of a record's first piece.
pub(super) fn record_head(piece: &[u8]) -> Option<(u64, usize)> {
    let (version, rest) = piece.split_first_chunk::<8>()?;
    let len = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    Some((u64::from_be_bytes(*version), len as usize))
}

/// How many pieces a record of `len` bytes has.
pub(super) fn record_pieces(len: usize) -> u16 {
    u16::try_from((RECORD_HEAD_LEN + len).div_ceil(PIECE_LEN)).unwrap_or(u16::MAX)
}

pub(super) fn decode_record(key: Key, all: &[u8]) -> Result<Record, StoreError> {
    let damaged = || StoreError::Damaged("a named record is cut short".into());
    let (version, len) = record_head(all).ok_or_else(damaged)?;
    let bytes = all.get(RECORD_HEAD_LEN..).and_then(|all| all.get(..len));
    Ok(Record {
        key,
        version,
        bytes: bytes.ok_or_else(damaged)?.to_vec(),
    })
}

/// With its length before it: pieces of a longer one that stood there before may follow.
pub(super) fn with_len(bytes: &[u8]) -> Vec<u8> {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&len.to_be_bytes(), bytes].concat()
}

/// What [`with_len`] was given.
pub(super) fn without_len(all: &[u8]) -> Option<&[u8]> {
    let (len, bytes) = all.split_first_chunk::<4>()?;
    bytes.get(..u32::from_be_bytes(*len) as usize)
}

/// The place of the `seq`th entry in a ring of `max`.
pub(super) fn slot(seq: u64, max: u32) -> u32 {
    u32::try_from(seq % u64::from(max.max(1))).unwrap_or(0)
}

/// `bytes` in pieces, numbered; at least one, so that what was there before is overwritten.
pub(super) fn cut(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let empty = bytes.is_empty().then_some((0, bytes));
    empty.into_iter().chain((0..).zip(bytes.chunks(PIECE_LEN)))
}

const RECEIPT_HEAD_LEN: usize = 8 + 8 + 32 + 4;

pub(super) fn encode_receipt(receipt: &StoredReceipt) -> Vec<u8> {
    let len = u32::try_from(receipt.bytes.len()).unwrap_or(u32::MAX);
    let mut all = Vec::with_capacity(RECEIPT_HEAD_LEN + receipt.bytes.len());
    all.extend_from_slice(&receipt.seq.to_be_bytes());
    all.extend_from_slice(&receipt.at.to_be_bytes());
    all.extend_from_slice(receipt.digest.as_bytes());
    all.extend_from_slice(&len.to_be_bytes());
    all.extend_from_slice(&receipt.bytes);
    all
}

/// The receipt in `bytes`, which may end with pieces of a longer one that stood there before.
pub(super) fn decode_receipt(bytes: &[u8]) -> Result<StoredReceipt, StoreError> {
    let damaged = || StoreError::Damaged("a receipt is cut short or altered".into());
    let (seq, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (at, rest) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (digest, rest) = rest.split_first_chunk::<32>().ok_or_else(damaged)?;
    let (len, rest) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
    let body = rest
        .get(..u32::from_be_bytes(*len) as usize)
        .ok_or_else(damaged)?;
    let digest = Digest::from_bytes(*digest);
    if Digest::of(body) != digest {
        return Err(damaged());
    }
    Ok(StoredReceipt {
        seq: u64::from_be_bytes(*seq),
        at: i64::from_be_bytes(*at),
        digest,
        bytes: body.to_vec(),
    })
}

/// A row as it is kept.
pub(super) fn json<T: serde::Serialize>(row: &T) -> Vec<u8> {
    serde_json::to_vec(row).expect("rows are plain data with text for keys")
}

/// A row as it was kept.
pub(super) fn read<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    serde_json::from_slice(bytes)
        .map_err(|error| StoreError::Damaged(format!("a row cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_come_back_and_flipped_bits_are_found() {
        let bytes = vec![7; 1300];
        let receipt = StoredReceipt {
            seq: 3,
            at: -1,
            digest: Digest::of(&bytes),
            bytes,
        };
        let whole = encode_receipt(&receipt);
        let pieces: Vec<_> = cut(&whole).collect();
        assert!(pieces.iter().all(|(_, piece)| piece.len() <= PIECE_LEN));
        let joined: Vec<u8> = pieces
            .iter()
            .flat_map(|(_, piece)| piece.iter().copied())
            .collect();
        assert_eq!(decode_receipt(&joined).unwrap(), receipt);
        for at in [20, 50, 60, 1000] {
            let mut bad = joined.clone();
            bad[at] ^= 1;
            assert!(decode_receipt(&bad).is_err(), "byte {at}");
        }
    }
}
