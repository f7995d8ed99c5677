//! A key that never comes into the agent: in a TPM, a secure element, a PKCS#11 token.
//!
//! ```toml
//! # the file that "server.key" names, where it is no PEM
//! kind = "command"
//! command = ["/usr/lib/ampoule/tpm2-key", "0x81010001"]
//! timeout_secs = 10              # 1 to 60
//! ```
//!
//! The command is run directly, through no shell, with one more word at its end:
//!
//! | word | stdin | stdout |
//! |---|---|---|
//! | `create` | | makes the key if there is none yet; its public key either way: SubjectPublicKeyInfo in PEM, of P-256 or Ed25519 |
//! | `sign` | the message | the signature in hex digits: DER (ECDSA over SHA-256), or 64 bytes (Ed25519) |
//!
//! It exits with 0; anything else is a failure, and so is an answer that is too late, too long or wrong.
//!
//! Invariants:
//! - No signature leaves here that the key of the device's certificate does not verify.
//! - A command is ended with all its children when its time is over, and reads no more than it is given.

use std::time::Duration;

use ampoule_protocol::hex;
use ampoule_protocol::key::{PublicKey, Scheme};
use ampoule_protocol::sign::{Sign, SignError};

use crate::gate::feed;
use crate::system::CommandLine;

/// A command that has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// The command, without its last word.
    pub command: CommandLine,
    /// How long one call may take; 1 to 60 seconds.
    pub timeout: Duration,
}

impl Hook {
    /// The key, which the command makes if there is none yet.
    ///
    /// # Errors
    /// The command failed, or answered something else.
    pub fn create(self) -> Result<HookKey, SignError> {
        let answer = self.ask("create", &[])?;
        let text = std::str::from_utf8(&answer).unwrap_or_default();
        let public = PublicKey::from_spki_pem(text.trim());
        let public = public.ok().filter(|public| {
            let scheme = public.scheme();
            matches!(scheme, Scheme::EcdsaP256 | Scheme::Ed25519)
        });
        match public {
            Some(public) => Ok(HookKey::new(self, public)),
            None => Err(self.failed("answered something other than a P-256 or Ed25519 key")),
        }
    }

    fn ask(&self, word: &str, input: &[u8]) -> Result<Vec<u8>, SignError> {
        let mut command = self.command.clone();
        command.push(word.to_owned());
        let ended = feed(&command, input, self.timeout)
            .map_err(|what| SignError(format!("key command {what}")))?;
        match ended.code {
            Some(0) => Ok(ended.output),
            Some(code) => Err(self.failed(&format!("exited with {code} when asked to {word}"))),
            None => Err(self.failed(&format!("was ended by a signal when asked to {word}"))),
        }
    }

    fn failed(&self, what: &str) -> SignError {
        let program = self.command.first().map_or("", String::as_str);
        SignError(format!("key command \"{program}\" {what}"))
    }
}

/// The key behind a command.
#[derive(Debug)]
pub struct HookKey {
    hook: Hook,
    public: PublicKey,
}

impl HookKey {
    /// The one of `public`, as long as the command signs with it.
    pub fn new(hook: Hook, public: PublicKey) -> Self {
        Self { hook, public }
    }
}

impl Sign for HookKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let answer = self.hook.ask("sign", message)?;
        let text = std::str::from_utf8(&answer).unwrap_or_default().trim();
        let signature = hex::decode(text).filter(|signature| !signature.is_empty());
        let Some(signature) = signature else {
            return Err(self.hook.failed("answered something other than hex digits"));
        };
        if !self.public.verify(message, &signature) {
            let what = "answered a signature that this device's key does not verify";
            return Err(self.hook.failed(what));
        }
        Ok(signature)
    }

    /// What a TPM signs twice has two signatures.
    fn repeats(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ampoule_protocol::sign::P256Key;

    const MESSAGE: &[u8] = b"message";

    fn sh(script: &str, secs: u64) -> Hook {
        // The word comes after the name that the script goes by.
        let command = ["/bin/sh", "-c", script, "hook"].map(str::to_owned);
        Hook {
            command: command.to_vec(),
            timeout: Duration::from_secs(secs),
        }
    }

    fn key() -> P256Key {
        P256Key::from_scalar(&[7; 32]).expect("a scalar")
    }

    fn why(script: &str, secs: u64) -> String {
        let key = HookKey::new(sh(script, secs), key().public_key().clone());
        key.sign(MESSAGE).expect_err("it is wrong").0
    }

    #[test]
    fn what_it_answers_is_taken() {
        let own = key();
        let pem = own.public_key().to_spki_pem();
        let signature = hex::encode(&own.sign(MESSAGE).expect("signed"));
        let script = format!(
            "case $1 in create) echo '{pem}';; sign) test \"$(cat)\" = message && echo {signature};; esac"
        );
        let made = sh(&script, 20).create().expect("a key");
        assert_eq!(made.public_key(), own.public_key());
        let signed = made.sign(MESSAGE).expect("a signature");
        assert!(own.public_key().verify(MESSAGE, &signed));
    }

    /// Catches a signature that is handed on unseen (`verify` left out).
    #[test]
    fn what_is_wrong_is_named() {
        let other = P256Key::from_scalar(&[8; 32]).expect("a scalar");
        let other = hex::encode(&other.sign(MESSAGE).expect("signed"));
        for (script, expected) in [
            ("exit 3", "exited with 3 when asked to sign"),
            ("kill -9 $$", "was ended by a signal when asked to sign"),
            ("echo key", "answered something other than hex digits"),
            ("true", "answered something other than hex digits"),
            ("echo 0", "answered something other than hex digits"),
            ("yes", "printed more than 4096 bytes"),
            ("echo 00", "that this device's key does not verify"),
            (
                &format!("echo {other}"),
                "that this device's key does not verify",
            ),
        ] {
            let found = why(script, 20);
            assert!(found.contains(expected), "{script}: {found}");
        }
        assert!(why("sleep 60", 1).contains("gave no answer in 1 seconds"));
        let none = Hook {
            command: vec!["/nonexistent/key".to_owned()],
            timeout: Duration::from_secs(1),
        };
        let found = HookKey::new(none, key().public_key().clone()).sign(MESSAGE);
        assert!(found.expect_err("none").0.contains("cannot be run"));
        for script in ["true", "echo key", "exit 1"] {
            assert!(sh(script, 20).create().is_err(), "{script}");
        }
    }

    /// A receipt may be longer than a pipe holds, and a command need not read it to its end.
    #[test]
    fn a_long_message_goes_through() {
        let message = vec![b'x'; 300_000];
        let own = key();
        let signature = hex::encode(&own.sign(&message).expect("signed"));
        let reads = format!("test $(wc -c) = 300000 && echo {signature}");
        let made = HookKey::new(sh(&reads, 20), own.public_key().clone());
        made.sign(&message).expect("read whole");
        let skips = format!("echo {signature}");
        let made = HookKey::new(sh(&skips, 20), own.public_key().clone());
        made.sign(&message).expect("not read");
    }
}
