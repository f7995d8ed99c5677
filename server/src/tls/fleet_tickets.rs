//! Session tickets that every server of a fleet can open.
//!
//! ```text
//!   record "ticket-keys" of the store, sealed   (from | secret) ...   newest first
//!   ticket   name of the key, 8 | nonce, 12 | AES-256-GCM of rustls' state
//!   key      HKDF-SHA256(secret, digest of the client authorities)
//! ```
//!
//! Whoever finds the newest key old makes another, by compare and swap, which counts a minute
//! later: by then all servers have read it. Old ones are removed when no ticket of theirs lives any
//! more, and what was recorded of such a connection cannot be opened by who steals the store later.
//!
//! Invariants:
//! - A ticket that was given under other client authorities opens nothing: rustls does not verify a
//!   chain again when a session is resumed.
//! - A key seals far fewer tickets than random nonces bear (2^32).

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use ampoule_protocol::digest::Digest;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use crate::error::ServerError;
use crate::secrets::Sealer;
use crate::store::records::{Expected, Key, Kind, RecordWrite};
use crate::store::{Store, Write, Written};

/// A key makes tickets for so long.
const ROTATE_SECS: i64 = 6 * 3600;
/// Tickets live for so long.
const LIFETIME_SECS: u32 = 12 * 3600;
/// A new key counts after so long, when every server has read it.
const AHEAD_SECS: i64 = 60;
/// Keys at a time: those of two lifetimes, and the next.
const KEYS_MAX: usize = 8;
const SECRET_LEN: usize = 32;
const FROM_LEN: usize = 8;
const NAME_LEN: usize = 8;
const NONCE_LEN: usize = 12;
/// What the keys are sealed as.
const CONTEXT: &str = "ticket-keys";
const INFO: &[u8] = b"ampoule tickets 1";

/// One key.
struct Secret {
    name: [u8; NAME_LEN],
    /// Unix time from which on it makes tickets.
    from: i64,
    bytes: Zeroizing<[u8; SECRET_LEN]>,
}

/// The keys of a fleet, as this server read them last; none before it did.
#[derive(Default)]
pub struct TicketKeys {
    /// The newest first.
    secrets: RwLock<Vec<Secret>>,
}

impl Secret {
    fn new(from: i64, bytes: Zeroizing<[u8; SECRET_LEN]>) -> Self {
        let named = Zeroizing::new([&b"ampoule ticket key id 1"[..], &*bytes].concat());
        let digest = Digest::of(&named);
        let mut name = [0; NAME_LEN];
        name.copy_from_slice(&digest.as_bytes()[..NAME_LEN]);
        Self { name, from, bytes }
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (from, secret) = bytes.split_first_chunk::<FROM_LEN>()?;
        let secret = Zeroizing::new(<[u8; SECRET_LEN]>::try_from(secret).ok()?);
        Some(Self::new(i64::from_be_bytes(*from), secret))
    }

    fn key(&self, authorities: &Digest) -> LessSafeKey {
        let prk = Salt::new(HKDF_SHA256, authorities.as_bytes()).extract(&*self.bytes);
        let key = prk.expand(&[INFO], &AES_256_GCM);
        let key = key.expect("32 bytes can be expanded from SHA-256");
        LessSafeKey::new(UnboundKey::from(key))
    }
}

impl TicketKeys {
    /// Reads the keys of the fleet, and adds one where the newest is old.
    ///
    /// # Errors
    /// The store failed, or the keys are sealed with a key that this server has not.
    pub fn refresh(&self, store: &dyn Store, sealer: &Sealer, now: i64) -> Result<(), ServerError> {
        let (kind, key) = name();
        let record = store.record(&kind, &key)?;
        let version = record.as_ref().map(|record| record.version);
        let mut secrets = match &record {
            Some(record) => parse(&sealer.unseal(CONTEXT, &record.bytes)?),
            None => Vec::new(),
        };
        let newest = secrets.first().map(|newest| newest.from);
        if newest.is_none_or(|from| now >= from.saturating_add(ROTATE_SECS)) {
            // The first of all has nobody to wait for.
            let from = newest.map_or(now, |_| now.saturating_add(AHEAD_SECS));
            let mut bytes = Zeroizing::new([0; SECRET_LEN]);
            getrandom::fill(&mut *bytes)
                .map_err(|error| ServerError::Tls(format!("no random bytes: {error}")))?;
            secrets.insert(0, Secret::new(from, bytes));
            prune(&mut secrets, now);
            let write = RecordWrite {
                kind,
                key,
                expected: version.map_or(Expected::Absent, Expected::Version),
                bytes: Some(sealer.seal(CONTEXT, &text(&secrets))?),
            };
            let written = store.commit(&[Write::Records(vec![write])])?.pop();
            if !matches!(written, Some(Written::Recorded(_))) {
                // Another server was first; its key comes with the next look.
                secrets.remove(0);
            }
        }
        prune(&mut secrets, now);
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = secrets;
        Ok(())
    }
}

/// Removes keys whose last ticket has ended: a key makes tickets until the next one counts.
fn prune(secrets: &mut Vec<Secret>, now: i64) {
    let mut next_from = i64::MAX;
    secrets.retain(|secret| {
        let ends = next_from.saturating_add(i64::from(LIFETIME_SECS));
        next_from = secret.from;
        now < ends
    });
    secrets.truncate(KEYS_MAX);
}

fn parse(bytes: &[u8]) -> Vec<Secret> {
    let each = bytes.chunks_exact(FROM_LEN + SECRET_LEN);
    each.filter_map(Secret::of).take(KEYS_MAX).collect()
}

fn text(secrets: &[Secret]) -> Zeroizing<Vec<u8>> {
    let mut all = Zeroizing::new(Vec::with_capacity(KEYS_MAX * (FROM_LEN + SECRET_LEN)));
    for secret in secrets {
        all.extend_from_slice(&secret.from.to_be_bytes());
        all.extend_from_slice(&*secret.bytes);
    }
    all
}

fn name() -> (Kind, Key) {
    let kind = Kind::parse("server").expect("six small letters");
    let key = Key::parse("ticket-keys").expect("a short text");
    (kind, key)
}

/// Makes tickets with the fleet's keys, under these client authorities.
pub(super) struct FleetTickets {
    keys: Arc<TicketKeys>,
    authorities: Digest,
}

impl FleetTickets {
    /// `authorities` is the digest of whom devices' certificates may be from.
    pub(super) fn new(keys: Arc<TicketKeys>, authorities: Digest) -> Self {
        Self { keys, authorities }
    }

    fn seal(&self, plain: &[u8], now: i64) -> Option<Vec<u8>> {
        let secrets = self.keys.secrets.read();
        let secrets = secrets.unwrap_or_else(PoisonError::into_inner);
        let secret = secrets.iter().find(|secret| secret.from <= now)?;
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce).ok()?;
        let mut body = plain.to_vec();
        secret
            .key(&self.authorities)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(secret.name),
                &mut body,
            )
            .ok()?;
        Some([&secret.name[..], &nonce, &body].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_LEN>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let secrets = self.keys.secrets.read();
        let secrets = secrets.unwrap_or_else(PoisonError::into_inner);
        let secret = secrets.iter().find(|secret| secret.name == *name)?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let key = secret.key(&self.authorities);
        let plain = key.open_in_place(nonce, Aad::from(secret.name), &mut body);
        let len = plain.ok()?.len();
        body.truncate(len);
        Some(body)
    }
}

impl ProducesTickets for FleetTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = i64::try_from(since.ok()?.as_secs()).ok()?;
        self.seal(plain, now)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket)
    }
}

impl fmt::Debug for FleetTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FleetTickets").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(from: &[i64]) -> Arc<TicketKeys> {
        let keys = TicketKeys::default();
        let secret = |from: &i64| {
            let byte = u8::try_from(*from % 251).unwrap();
            Secret::new(*from, Zeroizing::new([byte; SECRET_LEN]))
        };
        *keys.secrets.write().unwrap() = from.iter().map(secret).collect();
        Arc::new(keys)
    }

    /// Catches: a ticket that outlives the authorities it was given under, a bit that may be
    /// flipped, a key that is used before the others know it.
    #[test]
    fn a_ticket_opens_under_its_authorities_and_its_key_alone() {
        let (ours, theirs) = (Digest::of(b"ours"), Digest::of(b"theirs"));
        let one = FleetTickets::new(keys(&[1000, 100]), ours);
        let ticket = one.seal(b"state", 999).unwrap();
        // Another server, where the newer key counts already.
        let two = FleetTickets::new(keys(&[1000, 100]), ours);
        assert_eq!(two.open(&ticket).unwrap(), b"state");
        assert_ne!(
            two.seal(b"state", 1000).unwrap()[..NAME_LEN],
            ticket[..NAME_LEN]
        );
        assert!(
            FleetTickets::new(keys(&[1000, 100]), theirs)
                .open(&ticket)
                .is_none()
        );
        assert!(
            FleetTickets::new(keys(&[1000]), ours)
                .open(&ticket)
                .is_none()
        );
        for at in 0..ticket.len() {
            let mut bad = ticket.clone();
            bad[at] ^= 1;
            assert!(one.open(&bad).is_none(), "byte {at}");
            assert!(one.open(&ticket[..at]).is_none(), "cut {at}");
        }
        assert!(
            FleetTickets::new(keys(&[]), ours)
                .seal(b"state", 5)
                .is_none()
        );
    }

    /// Catches: a key that is forgotten while its tickets live, or kept for ever.
    #[test]
    fn keys_live_as_long_as_their_tickets() {
        let lifetime = i64::from(LIFETIME_SECS);
        let secret = |from| Secret::new(from, Zeroizing::new([1; SECRET_LEN]));
        let left = |now| {
            let mut secrets = vec![secret(2000), secret(1000), secret(0)];
            prune(&mut secrets, now);
            secrets.iter().map(|secret| secret.from).collect::<Vec<_>>()
        };
        assert_eq!(left(1000 + lifetime - 1), [2000, 1000, 0]);
        assert_eq!(left(1000 + lifetime), [2000, 1000]);
        assert_eq!(left(2000 + lifetime), [2000]);
        assert_eq!(left(i64::MAX - 1), [2000], "the newest always stays");
        let bytes = text(&[secret(7), secret(3)]);
        let read: Vec<i64> = parse(&bytes).iter().map(|secret| secret.from).collect();
        assert_eq!(read, [7, 3]);
    }
}
