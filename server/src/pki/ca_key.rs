//! The key that issues device certificates: a file, a file that is sealed, or a token.
//!
//! Whoever has it can make a certificate in any device's name. A plain file is for trying out. A
//! sealed one opens only with the key of `[secrets]`, which lies elsewhere; a token (PKCS#11, P-256
//! by `CKM_ECDSA`) never gives it away at all.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::sign::ecdsa_der;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Function, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use zeroize::Zeroizing;

use crate::error::ServerError;
use crate::file;
use crate::secrets::Sealer;

/// The first line of a sealed key file.
const SEALED_HEAD: &str = "ampoule-sealed-key-1";
/// What it is sealed as.
const CONTEXT: &str = "enroll/ca-key";
/// Bytes of a key file or a PIN file.
const FILE_LEN_MAX: u64 = 16 << 10;
/// An uncompressed point of P-256.
const POINT_LEN: usize = 65;

/// Where the key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaKey {
    /// PKCS#8 PEM, or what [`seal`] made of it.
    File(PathBuf),
    /// On a token.
    Token {
        /// The vendor's PKCS#11 library.
        module: PathBuf,
        /// The token's label.
        token: String,
        /// The key pair's label.
        label: String,
        /// The file with the PIN.
        pin_file: PathBuf,
    },
}

/// The key, ready to sign.
pub(super) enum Opened {
    Pair(KeyPair),
    Token(TokenKey),
}

impl CaKey {
    /// Opens it.
    ///
    /// # Errors
    /// The file or the token cannot be used.
    pub(super) fn open(&self, sealer: Option<&Sealer>) -> Result<Opened, ServerError> {
        match self {
            Self::File(path) => {
                let pem = read(path, sealer)?;
                let pair = KeyPair::from_pem(&pem);
                let pair = pair.map_err(|error| ServerError::pki("authority key", path, error))?;
                Ok(Opened::Pair(pair))
            }
            Self::Token {
                module,
                token,
                label,
                pin_file,
            } => {
                let pin = Zeroizing::new(file::read_text(pin_file, FILE_LEN_MAX)?);
                let fault = |what: String| {
                    ServerError::pki("authority key on token", Path::new(token), what)
                };
                let opened = TokenKey::open(module, token, label, pin.trim_end());
                Ok(Opened::Token(opened.map_err(fault)?))
            }
        }
    }
}

/// Seals a key for [`CaKey::File`]; the text of the new file.
///
/// # Errors
/// The file holds no key, or the system gives no randomness.
pub fn seal(path: &Path, sealer: &Sealer) -> Result<String, ServerError> {
    let pem = Zeroizing::new(file::read_text(path, FILE_LEN_MAX)?);
    KeyPair::from_pem(&pem).map_err(|error| ServerError::pki("authority key", path, error))?;
    let sealed = sealer.seal(CONTEXT, pem.as_bytes())?;
    Ok(format!("{SEALED_HEAD}\n{}\n", STANDARD.encode(sealed)))
}

fn read(path: &Path, sealer: Option<&Sealer>) -> Result<Zeroizing<String>, ServerError> {
    let text = Zeroizing::new(file::read_text(path, FILE_LEN_MAX)?);
    let Some(sealed) = text.strip_prefix(SEALED_HEAD) else {
        return Ok(text);
    };
    let fault = |what| ServerError::pki("authority key", path, what);
    let sealer =
        sealer.ok_or_else(|| fault("is sealed, and the configuration has no [secrets]"))?;
    let sealed = STANDARD.decode(sealed.trim());
    let sealed = sealed.map_err(|_| fault("is sealed, and was altered"))?;
    let pem = sealer.unseal(CONTEXT, &sealed)?;
    let pem = std::str::from_utf8(&pem).map_err(|_| fault("is sealed, and holds no text"))?;
    Ok(Zeroizing::new(pem.to_owned()))
}

impl PublicKeyData for Opened {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Pair(pair) => pair.der_bytes(),
            Self::Token(token) => &token.point,
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Self::Pair(pair) => pair.algorithm(),
            Self::Token(_) => &rcgen::PKCS_ECDSA_P256_SHA256,
        }
    }
}

impl SigningKey for Opened {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        match self {
            Self::Pair(pair) => pair.sign(message),
            Self::Token(token) => token.sign(message).ok_or(rcgen::Error::RemoteKeyError),
        }
    }
}

/// A P-256 key pair on a token that is logged in to.
pub(super) struct TokenKey {
    session: Mutex<Session>,
    secret: ObjectHandle,
    point: Vec<u8>,
}

impl TokenKey {
    fn open(module: &Path, token: &str, label: &str, pin: &str) -> Result<Self, String> {
        let failed = |act: &'static str| move |error: Error| format!("does not {act}: {error}");
        let pkcs11 = Pkcs11::new(module).map_err(failed("load its library"))?;
        match pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(())
            | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, Function::Initialize)) => {}
            Err(error) => return Err(failed("initialise its library")(error)),
        }
        let slots = pkcs11
            .get_slots_with_token()
            .map_err(failed("list its slots"))?;
        let is_it = |slot: &cryptoki::slot::Slot| {
            let info = pkcs11.get_token_info(*slot);
            info.is_ok_and(|info| info.label().trim_end() == token)
        };
        let slot = slots.into_iter().find(is_it);
        let slot = slot.ok_or("is not there: no slot has a token of that label")?;
        let session = pkcs11.open_ro_session(slot).map_err(failed("open"))?;
        match session.login(UserType::User, Some(&AuthPin::from(pin.to_owned()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(failed("let us in")(error)),
        }
        let find = |class: ObjectClass| {
            let template = [
                Attribute::Class(class),
                Attribute::Label(label.as_bytes().to_vec()),
            ];
            let found = session.find_objects(&template).map_err(failed("search"))?;
            match found.as_slice() {
                [one] => Ok(*one),
                all => Err(format!("has {} keys \"{label}\", expected 1", all.len())),
            }
        };
        let public = find(ObjectClass::PUBLIC_KEY)?;
        let attributes = session.get_attributes(public, &[AttributeType::EcPoint]);
        let attributes = attributes.map_err(failed("give the public key"))?;
        let point = attributes.iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(point) => point_of(point),
            _ => None,
        });
        let point = point.ok_or_else(|| format!("holds no P-256 key \"{label}\""))?;
        let secret = find(ObjectClass::PRIVATE_KEY)?;
        Ok(Self {
            session: Mutex::new(session),
            secret,
            point,
        })
    }

    /// Many tokens have no hashing mechanism, so the digest is ours.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let digest = Digest::of(message);
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let raw = session.sign(&Mechanism::Ecdsa, self.secret, digest.as_bytes());
        ecdsa_der(&raw.ok()?)
    }
}

/// `CKA_EC_POINT` is a DER octet string of the point, which some tokens leave bare.
fn point_of(ec_point: &[u8]) -> Option<Vec<u8>> {
    let point = match ec_point {
        [0x04, len, point @ ..] if usize::from(*len) == point.len() => point,
        bare => bare,
    };
    (point.len() == POINT_LEN).then(|| point.to_vec())
}
