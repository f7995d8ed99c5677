//! Passphrases and PINs: from a file, or from the terminal without an echo.

use std::io::IsTerminal;
use std::path::PathBuf;

use age::secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroize;

use super::{KEY_FILE_LEN_MAX, KeyError};
use crate::durable;
use crate::error::OperatorError;

/// Names a file with a passphrase, where `--passphrase-file` is not given.
pub const PASSPHRASE_FILE_ENV: &str = "AMPOULE_PASSPHRASE_FILE";

/// Whoever can be asked for a passphrase.
pub trait Secrets {
    /// The passphrase or PIN of something that exists.
    fn existing(&mut self, what: &str) -> Result<SecretString, KeyError>;
    /// A passphrase for something new, asked twice where a person types it.
    fn new_one(&mut self, what: &str) -> Result<SecretString, KeyError>;
}

/// One passphrase for all keys of this run, from the first line of a file.
pub struct FromFile {
    path: PathBuf,
}

impl FromFile {
    /// The file is read when a passphrase is asked for.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

impl Secrets for FromFile {
    fn existing(&mut self, what: &str) -> Result<SecretString, KeyError> {
        let mut bytes = durable::read(&self.path, KEY_FILE_LEN_MAX)?;
        let line = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
        let text = std::str::from_utf8(line).map(|t| t.trim_end_matches('\r').to_owned());
        bytes.zeroize();
        match text {
            Ok(text) if !text.is_empty() => Ok(SecretString::from(text)),
            _ => Err(failed(what, OperatorError::PassphraseEmpty)),
        }
    }

    fn new_one(&mut self, what: &str) -> Result<SecretString, KeyError> {
        self.existing(what)
    }
}

/// A person at the terminal.
pub struct FromTerminal;

impl Secrets for FromTerminal {
    fn existing(&mut self, what: &str) -> Result<SecretString, KeyError> {
        ask(what, &format!("Passphrase of {what}: "))
    }

    fn new_one(&mut self, what: &str) -> Result<SecretString, KeyError> {
        let first = ask(what, &format!("New passphrase for {what}: "))?;
        let second = ask(what, "The same again: ")?;
        if first.expose_secret() != second.expose_secret() {
            return Err(failed(what, OperatorError::PassphrasesDiffer));
        }
        Ok(first)
    }
}

fn ask(what: &str, prompt: &str) -> Result<SecretString, KeyError> {
    if !std::io::stdin().is_terminal() {
        return Err(failed(what, OperatorError::NoTerminal));
    }
    let text = rpassword::prompt_password(prompt).map_err(|e| KeyError::Prompt {
        what: what.to_owned(),
        source: Box::new(e),
    })?;
    if text.is_empty() {
        return Err(failed(what, OperatorError::PassphraseEmpty));
    }
    Ok(SecretString::from(text))
}

fn failed(what: &str, source: OperatorError) -> KeyError {
    KeyError::Prompt {
        what: what.to_owned(),
        source: Box::new(source),
    }
}
