//! The one kind of message that the writer signs for the network half.
//!
//! The device's key signs receipts and requests for certificates, too. A half that was taken over may speak
//! to servers as this device for as long as it lives, which it could anyway; it cannot have signed what it
//! likes. What a client signs in TLS 1.3 (RFC 8446 section 4.4.3) begins with 64 spaces and says what it is,
//! so it is told from everything else that the key signs: a receipt begins with a brace, a request with a
//! sequence in DER.
//!
//! In TLS 1.2 a client signs the handshake itself, which could be made to look like anything: the agent does
//! not speak it.

use std::io;
use std::os::unix::net::UnixStream;

use ampoule_protocol::hex;
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::sign::{Sign, SignError};

use super::words::{Answered, Asked, answer, hear};
use crate::key::DeviceKey;
use crate::net::NetError;

/// What stands before the hash of the handshake, after the spaces.
const CONTEXT: &[u8] = b"TLS 1.3, client CertificateVerify\0";
/// Spaces before that.
const SPACES: usize = 64;
/// Bytes of a hash: SHA-256 and SHA-384.
const HASH_LENS: [usize; 2] = [32, 48];
/// Handshakes for one question: a connection, another one where that had gone stale, and some.
const SIGNATURES_MAX: u32 = 4;

/// Whether this is what a client signs in a handshake.
fn is_handshake(message: &[u8]) -> bool {
    let after = message
        .split_at_checked(SPACES)
        .filter(|(spaces, _)| spaces.iter().all(|byte| *byte == b' '));
    let hash = after.and_then(|(_, rest)| rest.strip_prefix(CONTEXT));
    hash.is_some_and(|hash| HASH_LENS.contains(&hash.len()))
}

/// The writer's side: signs.
pub(super) struct Signing {
    key: DeviceKey,
    /// Signatures that the question at hand may still take.
    rest: u32,
    /// Why there was none.
    fault: Option<String>,
}

impl Signing {
    pub(super) fn new(key: DeviceKey) -> Self {
        Self {
            key,
            rest: 0,
            fault: None,
        }
    }

    /// A question is asked.
    pub(super) fn begin(&mut self) {
        self.rest = SIGNATURES_MAX;
        self.fault = None;
    }

    /// The signature in hex digits; `None` where the key failed.
    ///
    /// # Errors
    /// What is to be signed is no handshake, or there are too many: there is no going on with such a half.
    pub(super) fn sign(&mut self, message: &[u8]) -> io::Result<Option<String>> {
        let refused = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        if !is_handshake(message) {
            return Err(refused(
                "it asks for a signature of something else than a handshake",
            ));
        }
        self.rest = self
            .rest
            .checked_sub(1)
            .ok_or_else(|| refused("it asks for more signatures than there are handshakes"))?;
        match self.key.sign(message) {
            Ok(signature) => Ok(Some(hex::encode(&signature))),
            Err(error) => {
                self.fault = Some(error.to_string());
                Ok(None)
            }
        }
    }

    /// What failed since the question was asked, if it was the key. It is tried again like the network:
    /// a token that is plugged in later, a TPM that is busy, must cost no update.
    pub(super) fn fault(&mut self) -> Option<NetError> {
        let what = self.fault.take()?;
        Some(NetError::new("device-key", what))
    }
}

/// The half's side: asks for signatures.
pub(super) struct RemoteKey {
    public: PublicKey,
    pipe: UnixStream,
}

impl RemoteKey {
    pub(super) fn new(public: PublicKey, pipe: UnixStream) -> Self {
        Self { public, pipe }
    }

    fn ask(&self, message: &[u8]) -> io::Result<Option<String>> {
        answer(&mut &self.pipe, &Answered::ToSign(message.to_vec()))?;
        match hear(&mut &self.pipe)? {
            Some(Asked::Signed { signature }) => Ok(signature),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

impl Sign for RemoteKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self
            .ask(message)
            .map_err(|error| SignError(error.to_string()))?;
        let signature = signature.and_then(|text| hex::decode(&text));
        signature.ok_or_else(|| SignError("the device's key signed nothing".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ampoule_protocol::enrol;
    use ampoule_protocol::name::DeviceId;
    use ampoule_protocol::sign::Ed25519Key;

    use super::*;

    fn handshake(hash_len: usize) -> Vec<u8> {
        [&[b' '; SPACES][..], CONTEXT, &vec![7; hash_len]].concat()
    }

    fn key() -> Ed25519Key {
        Ed25519Key::from_seed(&[7; 32]).expect("a seed")
    }

    /// Catches a half that has receipts or requests signed (`is_handshake` left out).
    #[test]
    fn handshakes_are_signed_and_nothing_else() {
        let mut signing = Signing::new(Arc::new(key()));
        for hash_len in HASH_LENS {
            let message = handshake(hash_len);
            signing.begin();
            let signature = signing.sign(&message).expect("a handshake");
            let signature = hex::decode(&signature.expect("signed")).expect("digits");
            assert!(key().public_key().verify(&message, &signature));
        }
        let device = DeviceId::parse("pump-1").expect("a name");
        let request = enrol::request(&device, &key()).expect("made");
        let mut server = handshake(32);
        server[SPACES + 9] = b's';
        let mut padded = handshake(32);
        padded[0] = b'{';
        for message in [
            &[][..],
            b"{\"_type\":\"receipt\"}",
            &request,
            &server,
            &padded,
            &handshake(0),
            &handshake(33),
            &handshake(1000),
            &handshake(32)[1..],
        ] {
            signing.begin();
            assert!(signing.sign(message).is_err(), "{message:?}");
        }
    }

    #[test]
    fn one_question_takes_a_few_handshakes() {
        let mut signing = Signing::new(Arc::new(key()));
        signing.begin();
        for _ in 0..SIGNATURES_MAX {
            assert!(signing.sign(&handshake(32)).is_ok());
        }
        assert!(signing.sign(&handshake(32)).is_err());
        signing.begin();
        assert!(signing.sign(&handshake(32)).is_ok());
    }

    #[test]
    fn a_key_that_fails_is_told_as_what_it_is() {
        use ampoule_protocol::error::Coded;
        struct Broken(Ed25519Key);
        impl Sign for Broken {
            fn public_key(&self) -> &PublicKey {
                self.0.public_key()
            }
            fn sign(&self, _: &[u8]) -> Result<Vec<u8>, SignError> {
                Err(SignError("no token".to_owned()))
            }
        }
        let mut signing = Signing::new(Arc::new(Broken(key())));
        signing.begin();
        assert_eq!(signing.sign(&handshake(32)).expect("a handshake"), None);
        let fault = signing.fault().expect("told");
        assert_eq!(
            (fault.code(), fault.to_string().as_str()),
            ("device-key", "no token")
        );
        assert!(signing.fault().is_none(), "told once");
    }
}
