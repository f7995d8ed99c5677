//! Signed notes (C2SP `signed-note`): a text and lines of signatures, each by a named key.
//!
//! Two kinds of signature are known: Ed25519 over the text (`0x01`), by which a log signs, and the
//! timestamped cosignature of a witness (`0x04`, C2SP `tlog-cosignature`). Signatures by keys that
//! nobody named are carried and prove nothing.
//!
//! Invariants:
//! - A note whose signature by a *known* key does not verify is refused whole.
//! - Nothing of a text is believed here: whoever asks names the keys.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::sign::{Ed25519Key, Sign as _};
use data_encoding::{BASE64, HEXLOWER};
use zeroize::Zeroizing;

use super::AuditError;

/// Bytes of a note; a checkpoint with a few dozen witnesses has 10 KiB.
pub const NOTE_LEN_MAX: usize = 64 << 10;
/// Signatures of a note. The specification asks for at least 16.
pub const SIGNATURES_MAX: usize = 64;
/// Bytes of a key's name.
const NAME_LEN_MAX: usize = 255;
/// What stands before each signature.
const MARK: &str = "\u{2014} ";

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The text itself.
    Note,
    /// The text and a time: a witness has seen it grow.
    Cosignature,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Note => 0x01,
            Self::Cosignature => 0x04,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::Note, Self::Cosignature]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }
}

/// A name and a public key: `<name>+<key id>+<base64 of kind and key>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    kind: Kind,
    id: [u8; 4],
    key: PublicKey,
}

impl Verifier {
    fn new(name: &str, kind: Kind, key: PublicKey) -> Result<Self, AuditError> {
        let bad = name.is_empty()
            || name.len() > NAME_LEN_MAX
            || name
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || c == '+');
        if bad {
            let what = format!("{name:?} cannot name a key: no blank, no plus, 1 to 255 bytes");
            return Err(AuditError::Key(what));
        }
        let mut named = name.as_bytes().to_vec();
        named.extend([b'\n', kind.byte()]);
        named.extend(raw(&key));
        let digest = Digest::of(&named);
        let id = [0, 1, 2, 3].map(|place| digest.as_bytes()[place]);
        Ok(Self {
            name: name.to_owned(),
            kind,
            id,
            key,
        })
    }

    /// Reads a verifier key.
    ///
    /// # Errors
    /// It is not one, or its id is another key's.
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let bad = |what: &str| AuditError::Key(format!("{what}, expected NAME+ID+KEY"));
        let text = text.trim();
        let (name, rest) = text.split_once('+').ok_or_else(|| bad("no verifier key"))?;
        let (id, material) = rest.split_once('+').ok_or_else(|| bad("no verifier key"))?;
        let bytes = BASE64.decode(material.as_bytes());
        let bytes = bytes.map_err(|_| bad("a verifier key that is not base64"))?;
        let (kind, key) = match bytes.split_first() {
            Some((kind, key)) => (Kind::of(*kind), <[u8; 32]>::try_from(key).ok()),
            None => (None, None),
        };
        let (Some(kind), Some(key)) = (kind, key) else {
            return Err(bad("a verifier key of a kind that is not known here"));
        };
        let key = PublicKey::ed25519(&key).map_err(|_| bad("a verifier key that is no key"))?;
        let verifier = Self::new(name, kind, key)?;
        if HEXLOWER.encode(&verifier.id) != id {
            return Err(bad("a verifier key with the id of another one"));
        }
        Ok(verifier)
    }

    /// The first half of what names a key: eight hex digits.
    pub fn id(&self) -> String {
        HEXLOWER.encode(&self.id)
    }

    /// Whose it is; for a log, its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it verifies.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Unix time of a cosignature; 0 for a log's signature, which has none.
    fn verify(&self, text: &str, signature: &[u8]) -> Option<u64> {
        match self.kind {
            Kind::Note => self.key.verify(text.as_bytes(), signature).then_some(0),
            Kind::Cosignature => {
                let (time, signature) = signature.split_first_chunk::<8>()?;
                let time = u64::from_be_bytes(*time);
                let message = cosigned(text, time);
                self.key
                    .verify(message.as_bytes(), signature)
                    .then_some(time)
            }
        }
    }
}

impl std::fmt::Display for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = vec![self.kind.byte()];
        bytes.extend(raw(&self.key));
        let (id, key) = (self.id(), BASE64.encode(&bytes));
        write!(f, "{}+{id}+{key}", self.name)
    }
}

/// The 32 bytes of a key: what makes it this key is its kind, one byte, and them.
fn raw(key: &PublicKey) -> Vec<u8> {
    key.material().split_off(1)
}

fn cosigned(text: &str, time: u64) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// A name and a secret key.
pub struct Signer {
    key: Ed25519Key,
    verifier: Verifier,
}

impl Signer {
    /// Of this name and key.
    ///
    /// # Errors
    /// The name cannot be one.
    pub fn new(name: &str, kind: Kind, key: Ed25519Key) -> Result<Self, AuditError> {
        let verifier = Verifier::new(name, kind, key.public_key().clone())?;
        Ok(Self { key, verifier })
    }

    /// From what [`Signer::to_text`] wrote: the verifier key, and the key in PEM.
    ///
    /// # Errors
    /// It is not that, or the two do not belong together.
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let bad = |what: String| AuditError::Key(what);
        let (verifier, pem) = text
            .split_once('\n')
            .ok_or_else(|| bad("no key file".into()))?;
        let verifier = Verifier::parse(verifier)?;
        let key = Ed25519Key::from_pkcs8_pem(pem).map_err(|error| bad(error.to_string()))?;
        let signer = Self::new(&verifier.name, verifier.kind, key)?;
        if signer.verifier.id != verifier.id {
            return Err(bad(
                "a key file whose two keys do not belong together".into()
            ));
        }
        Ok(signer)
    }

    /// For a file that only its owner reads.
    pub fn to_text(&self) -> Zeroizing<String> {
        let pem = self.key.to_pkcs8_pem();
        Zeroizing::new(format!("{}\n{}", self.verifier, *pem))
    }

    /// The key that verifies what this one signs.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// One line of signature, at this Unix time.
    ///
    /// # Errors
    /// The key failed; keys in files do not.
    pub fn sign(&self, text: &str, time: u64) -> Result<String, AuditError> {
        let failed = |error: ampoule_protocol::sign::SignError| AuditError::Key(error.to_string());
        let mut bytes = self.verifier.id.to_vec();
        match self.verifier.kind {
            Kind::Note => bytes.extend(self.key.sign(text.as_bytes()).map_err(failed)?),
            Kind::Cosignature => {
                let message = cosigned(text, time);
                bytes.extend(time.to_be_bytes());
                bytes.extend(self.key.sign(message.as_bytes()).map_err(failed)?);
            }
        }
        let name = &self.verifier.name;
        Ok(format!("{MARK}{name} {}\n", BASE64.encode(&bytes)))
    }
}

/// A note as it came: nothing of it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl Note {
    /// Takes a note apart.
    ///
    /// # Errors
    /// It is not one, or beyond its bounds.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuditError> {
        let bad = |what: &str| AuditError::Note(what.to_owned());
        if bytes.len() > NOTE_LEN_MAX {
            return Err(bad("is longer than 65536 bytes"));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| bad("is not UTF-8"))?;
        if whole.chars().any(|c| c < ' ' && c != '\n') {
            return Err(bad("has control characters"));
        }
        let at = whole.rfind("\n\n").ok_or_else(|| bad("has no signature"))?;
        let (text, lines) = (&whole[..=at], &whole[at + 2..]);
        if !lines.ends_with('\n') {
            return Err(bad("does not end with its signatures"));
        }
        let signatures: Option<Vec<_>> = lines.lines().map(Signature::parse).collect();
        let signatures = signatures.ok_or_else(|| bad("has a line that is no signature"))?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(bad("has more than 64 signatures"));
        }
        Ok(Self {
            text: text.to_owned(),
            signatures,
        })
    }

    /// What was signed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether this key signed; the time of a cosignature, 0 for a log's own.
    ///
    /// # Errors
    /// A signature in this key's name is not by this key.
    pub fn signed_by(&self, verifier: &Verifier) -> Result<Option<u64>, AuditError> {
        let mut newest = None;
        for signature in self.signatures.iter().filter(|one| one.is_by(verifier)) {
            let time = verifier.verify(&self.text, &signature.bytes);
            let time = time.ok_or_else(|| AuditError::Signature(verifier.name.clone()))?;
            newest = newest.max(Some(time));
        }
        Ok(newest)
    }
}

impl Note {
    /// The note with the signatures of these keys and no others.
    #[must_use]
    pub fn only(&self, keys: &[&Verifier]) -> Self {
        let kept = |one: &&Signature| keys.iter().any(|key| one.is_by(key));
        Self {
            text: self.text.clone(),
            signatures: self.signatures.iter().filter(kept).cloned().collect(),
        }
    }

    /// The note with the signatures of these keys as `other`, a note of the same text, has them.
    #[must_use]
    pub fn with(mut self, other: &Self, keys: &[&Verifier]) -> Self {
        let is_by_them = |one: &Signature| keys.iter().any(|key| one.is_by(key));
        self.signatures.retain(|one| !is_by_them(one));
        self.signatures.extend(other.only(keys).signatures);
        self
    }
}

impl Signature {
    /// Whether it claims to be by this key.
    fn is_by(&self, key: &Verifier) -> bool {
        self.name == key.name && self.id == key.id
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, signature) = line.strip_prefix(MARK)?.split_once(' ')?;
        let bytes = BASE64.decode(signature.as_bytes()).ok()?;
        let (id, bytes) = bytes.split_first_chunk::<4>()?;
        (!name.is_empty() && !bytes.is_empty()).then(|| Self {
            name: name.to_owned(),
            id: *id,
            bytes: bytes.to_vec(),
        })
    }
}

/// As it stands in a file.
impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.text)?;
        for Signature { name, id, bytes } in &self.signatures {
            let signature = BASE64.encode(&[&id[..], bytes].concat());
            writeln!(f, "{MARK}{name} {signature}")?;
        }
        Ok(())
    }
}
