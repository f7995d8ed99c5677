//! Keys for tests, made from names, so that every run has the same ones.

use std::sync::Arc;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::key::{Key, KeyId, PublicKey};
use ampoule_protocol::sign::{Ed25519Key, P256Key, Sign};

/// A key of the simulator: cheap to copy, and its id may be bent.
#[derive(Clone)]
pub struct TestKey {
    secret: Arc<dyn Sign + Send + Sync>,
    /// The id under which metadata lists it; the true one at first.
    pub id: KeyId,
    /// The object that metadata lists; bent where a test wants extra members.
    pub object: Key,
}

impl TestKey {
    /// The Ed25519 key of this name.
    ///
    /// # Panics
    /// Never: the digest of a name is a seed.
    pub fn ed25519(name: &str) -> Self {
        let seed = Digest::of(name.as_bytes());
        Self::of(Arc::new(
            Ed25519Key::from_seed(seed.as_bytes()).expect("a digest is a seed"),
        ))
    }

    /// The ECDSA P-256 key of this name.
    ///
    /// # Panics
    /// Where the digest of the name is no scalar, which has a chance of 2^-32.
    pub fn p256(name: &str) -> Self {
        let scalar = Digest::of(name.as_bytes());
        Self::of(Arc::new(
            P256Key::from_scalar(scalar.as_bytes()).expect("a digest is a scalar"),
        ))
    }

    fn of(secret: Arc<dyn Sign + Send + Sync>) -> Self {
        let object = secret.public_key().to_key();
        Self {
            id: object.id(),
            object,
            secret,
        }
    }

    /// The same key listed under another id.
    pub fn listed_as(&self, id: &str) -> Self {
        Self {
            id: KeyId::new(id),
            ..self.clone()
        }
    }

    /// The same key listed as another object, under that object's own id.
    pub fn written_as(&self, object: Key) -> Self {
        Self {
            id: object.id(),
            object,
            ..self.clone()
        }
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        self.secret.public_key()
    }

    /// Signs.
    ///
    /// # Panics
    /// Never: the key is in memory.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.secret.sign(message).expect("a key in memory signs")
    }
}
