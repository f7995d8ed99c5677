//! Session tickets without the device's certificates.
//!
//! A ticket of rustls holds the chain that the device showed, so that a resumed session knows whom
//! it is with. It goes over the wire twice in each poll, down when it is issued and up when it is
//! used, and is the larger half of one. The server has seen the chain: it keeps it in memory, once
//! for each device, and the ticket holds its digest.
//!
//! ```text
//!   plain of rustls   before | total | length DER ... | after
//!   plain of ours     place, 2 bytes | SHA-256 of the middle | before | after
//! ```
//!
//! The middle is found by its shape and put back byte for byte, so that a wrong guess costs bytes
//! and nothing else. A ticket whose chain is not in memory any more (the server was started again,
//! or certificates were loaded again) resumes nothing; the device makes a full handshake.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use ampoule_protocol::digest::Digest;
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// Chains that are kept; a fleet beyond that gets longer tickets. Some 64 MiB at the most.
const CHAINS_MAX: usize = 1 << 17;
/// The longest chain that is kept: a device's certificate and one above it.
const CHAIN_LEN_MAX: usize = 4096;
/// No certificate is shorter.
const CERTIFICATE_LEN_MIN: usize = 128;

/// The first byte of a plain that is whole, and of one without its chain.
const WHOLE: u8 = 0;
const SLIM: u8 = 1;
const DIGEST_LEN: usize = 32;

/// See the module's head.
pub(super) struct SlimTickets {
    inner: Arc<dyn ProducesTickets>,
    chains: RwLock<HashMap<Digest, Arc<[u8]>>>,
}

impl SlimTickets {
    /// Around the ticketer that encrypts.
    pub(super) fn new(inner: Arc<dyn ProducesTickets>) -> Self {
        Self {
            inner,
            chains: RwLock::default(),
        }
    }

    /// Keeps a chain; `false` where there is no room.
    fn keep(&self, digest: Digest, chain: &[u8]) -> bool {
        let is_known = |chains: &HashMap<Digest, _>| chains.contains_key(&digest);
        if is_known(&self.chains.read().unwrap_or_else(PoisonError::into_inner)) {
            return true;
        }
        let mut chains = self.chains.write().unwrap_or_else(PoisonError::into_inner);
        if chains.len() >= CHAINS_MAX {
            return is_known(&chains);
        }
        chains.insert(digest, chain.into());
        true
    }

    fn slim(&self, plain: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (place, len) = find_chain(plain)?;
        let chain = &plain[place..place + len];
        let digest = Digest::of(chain);
        if !self.keep(digest, chain) {
            return None;
        }
        let mut slim = Zeroizing::new(Vec::with_capacity(plain.len()));
        slim.push(SLIM);
        slim.extend_from_slice(&u16::try_from(place).ok()?.to_be_bytes());
        slim.extend_from_slice(digest.as_bytes());
        slim.extend_from_slice(&plain[..place]);
        slim.extend_from_slice(&plain[place + len..]);
        Some(slim)
    }

    fn whole(&self, slim: &[u8]) -> Option<Vec<u8>> {
        let (place, rest) = slim.split_first_chunk::<2>()?;
        let (digest, rest) = rest.split_first_chunk::<DIGEST_LEN>()?;
        let (before, after) = rest.split_at_checked(u16::from_be_bytes(*place).into())?;
        let chains = self.chains.read().unwrap_or_else(PoisonError::into_inner);
        let chain = chains.get(&Digest::from_bytes(*digest))?;
        Some([before, chain, after].concat())
    }
}

impl ProducesTickets for SlimTickets {
    fn enabled(&self) -> bool {
        self.inner.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if let Some(slim) = self.slim(plain) {
            return self.inner.encrypt(&slim);
        }
        let mut whole = Zeroizing::new(Vec::with_capacity(plain.len() + 1));
        whole.push(WHOLE);
        whole.extend_from_slice(plain);
        self.inner.encrypt(&whole)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let plain = Zeroizing::new(self.inner.decrypt(ticket)?);
        let (kind, rest) = plain.split_first()?;
        match *kind {
            WHOLE => Some(rest.to_vec()),
            SLIM => self.whole(rest),
            _ => None,
        }
    }
}

impl fmt::Debug for SlimTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlimTickets").finish_non_exhaustive()
    }
}

/// Place and length of a certificate chain as TLS writes one: three bytes for all of it, then for
/// each certificate three bytes and its DER.
fn find_chain(plain: &[u8]) -> Option<(usize, usize)> {
    (0..plain.len()).find_map(|place| {
        let rest = &plain[place..];
        let (len, chain) = with_length(rest)?;
        if !(CERTIFICATE_LEN_MIN..=CHAIN_LEN_MAX).contains(&len) {
            return None;
        }
        let mut left = chain;
        while !left.is_empty() {
            let (len, certificate) = with_length(left)?;
            // SEQUENCE, its length in two bytes: as every certificate begins.
            let is_der = certificate.starts_with(&[0x30, 0x82])
                && certificate.get(2..4)? == u16::try_from(len.checked_sub(4)?).ok()?.to_be_bytes();
            if !is_der {
                return None;
            }
            left = &left[3 + len..];
        }
        Some((place, 3 + len))
    })
}

/// A length in three bytes, and as many bytes behind it.
fn with_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<3>()?;
    let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    Some((len, rest.get(..len)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encrypts nothing, so that a test sees what would be.
    #[derive(Debug)]
    struct Bare;

    impl ProducesTickets for Bare {
        fn enabled(&self) -> bool {
            true
        }

        fn lifetime(&self) -> u32 {
            1
        }

        fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
            Some(plain.to_vec())
        }

        fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
            Some(ticket.to_vec())
        }
    }

    fn chain(lengths: &[usize]) -> Vec<u8> {
        let mut all = Vec::new();
        for len in lengths {
            all.extend_from_slice(&u32::try_from(len + 4).unwrap().to_be_bytes()[1..]);
            all.extend_from_slice(&[0x30, 0x82]);
            all.extend_from_slice(&u16::try_from(*len).unwrap().to_be_bytes());
            all.extend(std::iter::repeat_n(0x5a, *len));
        }
        let mut chain = u32::try_from(all.len()).unwrap().to_be_bytes()[1..].to_vec();
        chain.extend(all);
        chain
    }

    #[test]
    fn a_ticket_holds_a_digest_for_the_chain_and_gives_the_chain_back() {
        let tickets = SlimTickets::new(Arc::new(Bare));
        for lengths in [vec![400], vec![420, 380]] {
            let plain = [b"secret ".as_slice(), &chain(&lengths), b" and more"].concat();
            let ticket = tickets.encrypt(&plain).unwrap();
            assert_eq!(ticket.len(), 1 + 2 + 32 + b"secret  and more".len());
            assert_eq!(tickets.decrypt(&ticket), Some(plain));
        }
    }

    #[test]
    fn what_is_no_chain_stays_as_it_is() {
        let tickets = SlimTickets::new(Arc::new(Bare));
        let mut cut = chain(&[400]);
        cut.pop();
        let mut long = chain(&[CHAIN_LEN_MAX]);
        long.push(0);
        for plain in [b"".to_vec(), vec![0; 600], chain(&[20]), cut, long] {
            let ticket = tickets.encrypt(&plain).unwrap();
            assert_eq!(ticket.len(), plain.len() + 1);
            assert_eq!(tickets.decrypt(&ticket), Some(plain));
        }
    }

    /// Catches: a device that is taken for another, or for nobody, after a restart.
    #[test]
    fn a_ticket_whose_chain_is_not_known_resumes_nothing() {
        let plain = [b"secret ".as_slice(), &chain(&[400]), b" and more"].concat();
        let ticket = SlimTickets::new(Arc::new(Bare)).encrypt(&plain).unwrap();
        let other = SlimTickets::new(Arc::new(Bare));
        assert_eq!(other.decrypt(&ticket), None);
        for cut in 0..ticket.len() {
            // It was authenticated by whoever decrypts; no length may lead out of it all the same.
            let _ = other.decrypt(&ticket[..cut]);
        }
        assert_eq!(other.decrypt(&[2, 0, 0]), None);
    }
}
