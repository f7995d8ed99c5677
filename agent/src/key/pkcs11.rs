//! `ampoule-agent-pkcs11`: the command behind a device's key on a PKCS#11 token (2.40 or later).
//!
//! ```toml
//! # the file that "server.key" names
//! kind = "command"
//! command = ["/usr/bin/ampoule-agent-pkcs11", "--module", "/usr/lib/vendor/pkcs11.so",
//!            "--token", "device", "--key", "ampoule", "--pin-file", "/etc/ampoule/pin"]
//! ```
//!
//! A program of its own, since the agent's is to stay small, and the vendor's library has no business in
//! the process that writes slots. It speaks as [`super::hook`] says, lives for one question, and is built
//! with the feature `pkcs11`.
//!
//! `create` makes a P-256 pair that cannot be taken out again (`CKA_SENSITIVE`, not `CKA_EXTRACTABLE`);
//! where the token has a private key of that label, that one stays. Signatures are `CKM_ECDSA` over a
//! SHA-256 made here, since many tokens have no hashing mechanism.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::hex;
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::sign::ecdsa_der;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use lexopt::{Arg, Parser, ValueExt};

const HELP: &str = "\
Signs with a device's key on a PKCS#11 token, for ampoule-agent.

usage: ampoule-agent-pkcs11 --module FILE --token LABEL --key LABEL [--pin-file FILE] create | sign

  create   make a P-256 key that never leaves the token, unless it is there; print its public key
  sign     read a message from stdin, print its signature in hex digits

options:
  --module FILE     the vendor's library
  --token LABEL     the token
  --key LABEL       the key on it
  --pin-file FILE   holds the PIN; without it nobody logs in

exit: 0 done; 1 refused or failed; 2 wrong usage
";

/// Bytes of a message: no receipt is longer.
const MESSAGE_LEN_MAX: u64 = 1 << 20;
/// Bytes of a PIN's file.
const PIN_LEN_MAX: u64 = 1024;
/// `prime256v1`, as `CKA_EC_PARAMS` has it.
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// SubjectPublicKeyInfo up to the point, for P-256 (RFC 5480).
const P256_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

type Outcome<T> = Result<T, String>;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let asked = match parse(std::env::args_os().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\nhint: see \"ampoule-agent-pkcs11 --help\"");
            return ExitCode::from(2);
        }
    };
    match asked.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Create,
    Sign,
}

#[derive(Debug)]
struct Asked {
    module: PathBuf,
    token: String,
    label: String,
    pin_file: Option<PathBuf>,
    word: Word,
}

fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Option<Asked>, lexopt::Error> {
    let mut parser = Parser::from_args(words);
    let (mut module, mut token, mut label, mut pin_file, mut word) = (None, None, None, None, None);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("module") => module = Some(PathBuf::from(parser.value()?)),
            Arg::Long("token") => token = Some(parser.value()?.string()?),
            Arg::Long("key") => label = Some(parser.value()?.string()?),
            Arg::Long("pin-file") => pin_file = Some(PathBuf::from(parser.value()?)),
            Arg::Value(value) if word.is_none() && value == "create" => word = Some(Word::Create),
            Arg::Value(value) if word.is_none() && value == "sign" => word = Some(Word::Sign),
            other => return Err(other.unexpected()),
        }
    }
    match (module, token, label, word) {
        (Some(module), Some(token), Some(label), Some(word)) => Ok(Some(Asked {
            module,
            token,
            label,
            pin_file,
            word,
        })),
        _ => Err("--module, --token, --key, and one of create and sign are needed".into()),
    }
}

impl Asked {
    fn run(&self) -> Outcome<()> {
        let pkcs11 = Pkcs11::new(&self.module)
            .map_err(|error| format!("\"{}\" does not load: {error}", self.module.display()))?;
        pkcs11
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .map_err(|error| format!("\"{}\" does not start: {error}", self.module.display()))?;
        let token = self.open(&pkcs11)?;
        let answer = match self.word {
            Word::Create => self.create(&token)?.to_spki_pem(),
            Word::Sign => hex::encode(&self.sign(&token, &message()?)?) + "\n",
        };
        let mut out = io::stdout().lock();
        let written = out.write_all(answer.as_bytes()).and_then(|()| out.flush());
        written.map_err(|error| format!("the answer cannot be written: {error}"))
    }

    /// A session, logged in where there is a PIN.
    fn open(&self, pkcs11: &Pkcs11) -> Outcome<Session> {
        let slots = pkcs11
            .get_slots_with_token()
            .map_err(self.failed("be looked for"))?;
        let is_it = |slot: &cryptoki::slot::Slot| {
            let info = pkcs11.get_token_info(*slot);
            info.is_ok_and(|info| info.label().trim_end() == self.token)
        };
        let slot = slots.into_iter().find(is_it);
        let slot = slot.ok_or_else(|| format!("no slot has a token \"{}\"", self.token))?;
        let session = match self.word {
            Word::Create => pkcs11.open_rw_session(slot),
            Word::Sign => pkcs11.open_ro_session(slot),
        };
        let session = session.map_err(self.failed("be opened"))?;
        if let Some(path) = &self.pin_file {
            let pin = AuthPin::from(pin(path)?);
            let login = session.login(UserType::User, Some(&pin));
            login.map_err(self.failed("be logged in to"))?;
        }
        Ok(session)
    }

    /// The public key of the pair, which is made where there is none.
    fn create(&self, session: &Session) -> Outcome<PublicKey> {
        if self.find(session, ObjectClass::PRIVATE_KEY)?.is_none() {
            let label = || Attribute::Label(self.label.as_bytes().to_vec());
            let public = [
                Attribute::Token(true),
                Attribute::Private(false),
                Attribute::Verify(true),
                Attribute::EcParams(P256.to_vec()),
                label(),
            ];
            let private = [
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::Sign(true),
                label(),
            ];
            let made = session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private);
            made.map_err(self.failed("make a key"))?;
        }
        let public = self.find(session, ObjectClass::PUBLIC_KEY)?;
        let public = public.ok_or_else(|| self.absent("public"))?;
        let attributes = session.get_attributes(public, &[AttributeType::EcPoint]);
        let attributes = attributes.map_err(self.failed("give the public key"))?;
        let point = attributes.iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(point) => public_of(point),
            _ => None,
        });
        point.ok_or_else(|| format!("the key \"{}\" is not one of P-256", self.label))
    }

    fn sign(&self, session: &Session, message: &[u8]) -> Outcome<Vec<u8>> {
        let private = self.find(session, ObjectClass::PRIVATE_KEY)?;
        let private = private.ok_or_else(|| self.absent("private"))?;
        let digest = Digest::of(message);
        let raw = session.sign(&Mechanism::Ecdsa, private, digest.as_bytes());
        let raw = raw.map_err(self.failed("sign"))?;
        ecdsa_der(&raw).ok_or_else(|| "the token's signature is not one of P-256".to_owned())
    }

    fn find(&self, session: &Session, class: ObjectClass) -> Outcome<Option<ObjectHandle>> {
        let label = Attribute::Label(self.label.as_bytes().to_vec());
        let found = session.find_objects(&[Attribute::Class(class), label]);
        match found.map_err(self.failed("be searched"))?.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            all => Err(format!(
                "the token \"{}\" has {} keys \"{}\", expected 1",
                self.token,
                all.len(),
                self.label
            )),
        }
    }

    fn absent(&self, which: &str) -> String {
        let (token, label) = (&self.token, &self.label);
        format!("the token \"{token}\" has no {which} key \"{label}\"")
    }

    fn failed(&self, act: &'static str) -> impl FnOnce(cryptoki::error::Error) -> String {
        let token = self.token.clone();
        move |error| format!("the token \"{token}\" cannot {act}: {error}")
    }
}

fn message() -> Outcome<Vec<u8>> {
    let mut message = Vec::new();
    let read = io::stdin()
        .take(MESSAGE_LEN_MAX + 1)
        .read_to_end(&mut message);
    read.map_err(|error| format!("the message cannot be read: {error}"))?;
    if message.len() as u64 > MESSAGE_LEN_MAX {
        return Err(format!(
            "the message is longer than {MESSAGE_LEN_MAX} bytes"
        ));
    }
    Ok(message)
}

fn pin(path: &Path) -> Outcome<String> {
    let mut text = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(PIN_LEN_MAX).read_to_string(&mut text))
        .map_err(|error| format!("\"{}\" cannot be read: {error}", path.display()))?;
    Ok(text.trim_end().to_owned())
}

/// The key in `CKA_EC_POINT`: a DER octet string of the point, which some tokens leave bare.
fn public_of(ec_point: &[u8]) -> Option<PublicKey> {
    let point = match ec_point {
        [0x04, len, point @ ..] if usize::from(*len) == point.len() => point,
        bare => bare,
    };
    PublicKey::from_spki_der(&[&P256_PREFIX, point].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_comes_bare_or_wrapped() {
        use ampoule_protocol::sign::{P256Key, Sign};
        let key = P256Key::from_scalar(&[7; 32]).expect("a scalar");
        let der = key.public_key().to_spki_der();
        let point = &der[P256_PREFIX.len()..];
        assert_eq!(public_of(point).as_ref(), Some(key.public_key()));
        let wrapped = [&[0x04, 65], point].concat();
        assert_eq!(public_of(&wrapped).as_ref(), Some(key.public_key()));
        for bad in [&[][..], &[4; 65], &[0; 32], &point[1..]] {
            assert!(public_of(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn wrong_usage_is_named() {
        let words = |text: &str| parse(text.split_whitespace().map(OsString::from));
        assert!(words("--help").expect("fine").is_none());
        let asked = words("--module m --token t --key k sign").expect("fine");
        assert_eq!(asked.map(|asked| asked.word), Some(Word::Sign));
        for bad in [
            "",
            "sign",
            "--module m --token t --key k",
            "--module m sign sign",
        ] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
