//! Keys in hardware: tokens behind PKCS#11 2.40 or later (cryptoki).
//!
//! ```toml
//! kind = "pkcs11"
//! module = "/usr/lib/softhsm/libsofthsm2.so"   # the vendor's library
//! token = "release"                            # label of the token
//! label = "alice"                              # label of the key pair on it
//! ```
//!
//! The public key is read from the token. P-256 signs by `CKM_ECDSA` over a SHA-256 that we
//! compute, since many tokens have no hashing mechanism; its `r || s` becomes DER. Ed25519 signs
//! by pure `CKM_EDDSA`. The PIN is asked for like a passphrase.

use std::path::{Path, PathBuf};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::sign::{Sign, SignError, ecdsa_der};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;

use super::{KeyError, KeySource, Secrets};
use crate::toml_doc::Section;

/// A key pair on a token, not yet logged in to.
pub struct TokenKey {
    module: PathBuf,
    token: String,
    label: String,
}

impl TokenKey {
    /// By the vendor's library, the token's label and the key's.
    pub fn new(module: &Path, token: &str, label: &str) -> Self {
        Self {
            module: module.to_owned(),
            token: token.to_owned(),
            label: label.to_owned(),
        }
    }

    /// Reads the description above; `None` after noting faults.
    pub(super) fn read(section: &Section<'_, '_>) -> Option<Self> {
        // PKCS#11 gives a token label 32 bytes; object labels are free.
        let module = section.text("module", 4096);
        let token = section.text("token", 32);
        let label = section.text("label", 256);
        Some(Self::new(
            Path::new(&module?.value),
            &token?.value,
            &label?.value,
        ))
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Error) -> KeyError {
        let token = self.token.clone();
        move |source| KeyError::Token {
            action,
            token,
            source: Box::new(source),
        }
    }

    fn absent(&self, what: &str) -> KeyError {
        KeyError::NoSuchToken {
            what: format!("{what} \"{}\"", self.token),
        }
    }

    fn slot(&self, pkcs11: &Pkcs11) -> Result<Slot, KeyError> {
        let slots = pkcs11
            .get_slots_with_token()
            .map_err(self.failed("look for"))?;
        slots
            .into_iter()
            .find(|slot| {
                pkcs11
                    .get_token_info(*slot)
                    .is_ok_and(|info| info.label().trim_end() == self.token)
            })
            .ok_or_else(|| self.absent("there is no token"))
    }

    fn object(&self, session: &Session, class: ObjectClass) -> Result<ObjectHandle, KeyError> {
        let template = [
            Attribute::Class(class),
            Attribute::Label(self.label.as_bytes().to_vec()),
        ];
        let found = session
            .find_objects(&template)
            .map_err(self.failed("search"))?;
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(self.absent(&format!("there is no key \"{}\" on the token", self.label))),
            _ => Err(self.absent(&format!(
                "there are several keys \"{}\" on the token",
                self.label
            ))),
        }
    }
}

impl KeySource for TokenKey {
    fn describe(&self) -> String {
        format!("key \"{}\" on token \"{}\"", self.label, self.token)
    }

    fn open(&self, secrets: &mut dyn Secrets) -> Result<Box<dyn Sign>, KeyError> {
        let pkcs11 = Pkcs11::new(&self.module).map_err(self.failed("load the library of"))?;
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            // Another key of this run uses the same library.
            Ok(())
            | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, Function::Initialize)) => {}
            Err(e) => return Err(self.failed("initialise the library of")(e)),
        }
        let slot = self.slot(&pkcs11)?;
        let session = pkcs11.open_ro_session(slot).map_err(self.failed("open"))?;
        let pin = secrets.existing(&self.describe())?;
        match session.login(UserType::User, Some(&to_pin(&pin))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(e) => return Err(self.failed("log in to")(e)),
        }
        let public = self.object(&session, ObjectClass::PUBLIC_KEY)?;
        let attributes = session
            .get_attributes(public, &[AttributeType::EcPoint])
            .map_err(self.failed("read the public key from"))?;
        let public = attributes
            .iter()
            .find_map(|attribute| match attribute {
                Attribute::EcPoint(point) => public_of(point),
                _ => None,
            })
            .ok_or_else(|| self.absent("neither a P-256 nor an Ed25519 key is on the token"))?;
        let secret = self.object(&session, ObjectClass::PRIVATE_KEY)?;
        Ok(Box::new(TokenSigner {
            session,
            secret,
            public,
        }))
    }
}

/// The two crates each bring their own secret string.
fn to_pin(pin: &age::secrecy::SecretString) -> cryptoki::types::AuthPin {
    use age::secrecy::ExposeSecret;
    cryptoki::types::AuthPin::from(pin.expose_secret().to_owned())
}

struct TokenSigner {
    session: Session,
    secret: ObjectHandle,
    public: PublicKey,
}

impl Sign for TokenSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        use ampoule_protocol::key::Scheme;
        let failed = |e: Error| SignError(e.to_string());
        match self.public.scheme() {
            Scheme::Ed25519 => {
                let parameters = EddsaParams::new(EddsaSignatureScheme::Pure);
                self.session
                    .sign(&Mechanism::Eddsa(parameters), self.secret, message)
                    .map_err(failed)
            }
            Scheme::EcdsaP256 => {
                let digest = Digest::of(message);
                let raw = self
                    .session
                    .sign(&Mechanism::Ecdsa, self.secret, digest.as_bytes())
                    .map_err(failed)?;
                ecdsa_der(&raw).ok_or_else(|| SignError("its signature is not 64 bytes".to_owned()))
            }
            Scheme::EcdsaP384 | Scheme::RsaPss => Err(SignError(
                "tokens sign with Ed25519 or P-256 here".to_owned(),
            )),
        }
    }
}

/// The public key in `CKA_EC_POINT`: a DER octet string of the point (PKCS#11 2.40 section
/// 2.3.3), which some tokens leave bare.
fn public_of(ec_point: &[u8]) -> Option<PublicKey> {
    /// SubjectPublicKeyInfo up to the point, for the named curve P-256 (RFC 5480).
    const P256_PREFIX: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let point = match ec_point {
        [0x04, len, point @ ..] if usize::from(*len) == point.len() => point,
        bare => bare,
    };
    match point.len() {
        65 => PublicKey::from_spki_der(&[&P256_PREFIX, point].concat()).ok(),
        32 => PublicKey::ed25519(point.try_into().ok()?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_that_is_no_point_is_no_key() {
        assert!(public_of(&[]).is_none());
        assert!(public_of(&[4; 65]).is_none());
        assert!(public_of(&[0; 32]).is_none());
    }
}
