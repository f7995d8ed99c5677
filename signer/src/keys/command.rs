//! Keys behind an external command: a cloud KMS, a smart card with tools of its own, a colleague.
//!
//! ```toml
//! kind = "command"
//! command = ["/usr/local/bin/kms-sign", "--key", "release"]
//! public = "release.pub"        # beside this file
//! timeout_secs = 120
//! ```
//!
//! The command gets the bytes to sign on standard input and answers the signature in hex on
//! standard output: 64 bytes for Ed25519, DER for ECDSA. It is run directly, through no shell.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ampoule_protocol::key::PublicKey;
use ampoule_protocol::sign::{Sign, SignError};

use super::{KeyError, KeySource, Secrets, public};
use crate::toml_doc::Section;
use ampoule_protocol::hex;

/// A person may have to touch a card; nobody needs longer than ten minutes.
const TIMEOUT_SECS: std::ops::RangeInclusive<u64> = 1..=600;
const TIMEOUT_DEFAULT_SECS: u64 = 120;
/// Bytes of an answer we read; an RSA-8192 signature in hex has 2,048.
const ANSWER_LEN_MAX: u64 = 8192;
const POLL: Duration = Duration::from_millis(10);

/// A key that an external command signs with.
pub struct CommandKey {
    command: Vec<String>,
    public: PathBuf,
    timeout: Duration,
}

impl CommandKey {
    /// Reads the description above; `None` after noting faults.
    pub(super) fn read(section: &Section<'_, '_>, folder: &Path) -> Option<Self> {
        let command: Vec<_> = section
            .texts("command", 1..=64, 4096)
            .into_iter()
            .map(|t| t.value)
            .collect();
        let public = section.text("public", 4096);
        let timeout_secs = section
            .integer_opt("timeout_secs", TIMEOUT_SECS)
            .map_or(TIMEOUT_DEFAULT_SECS, |at| at.value);
        let timeout = Duration::from_secs(timeout_secs);
        Some(Self {
            command,
            public: folder.join(public?.value),
            timeout,
        })
    }
}

impl KeySource for CommandKey {
    fn describe(&self) -> String {
        format!("the command \"{}\"", self.command.join(" "))
    }

    fn open(&self, _: &mut dyn Secrets) -> Result<Box<dyn Sign>, KeyError> {
        Ok(Box::new(CommandSigner {
            public: public::read_usable(&self.public)?,
            command: self.command.clone(),
            timeout: self.timeout,
        }))
    }
}

struct CommandSigner {
    public: PublicKey,
    command: Vec<String>,
    timeout: Duration,
}

impl Sign for CommandSigner {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let answer = self.run(message)?;
        let text = String::from_utf8_lossy(&answer);
        hex::decode(text.trim())
            .filter(|signature| !signature.is_empty())
            .ok_or_else(|| SignError("it answered something other than hex digits".to_owned()))
    }
}

impl CommandSigner {
    fn run(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(SignError("the command is empty".to_owned()));
        };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| SignError(format!("it could not be started: {e}")))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let message = message.to_vec();
        // Both pipes have threads, so that neither side can wait for the other for ever.
        let writer = thread::spawn(move || stdin.map(|mut pipe| pipe.write_all(&message)));
        let reader = thread::spawn(move || {
            let mut answer = Vec::new();
            if let Some(pipe) = stdout {
                let _ = pipe.take(ANSWER_LEN_MAX).read_to_end(&mut answer);
            }
            answer
        });
        self.wait(&mut child)?;
        // A command that does not read its input may still have signed; the check of the
        // signature decides.
        let _ = writer.join();
        reader
            .join()
            .map_err(|_| SignError("its answer could not be read".to_owned()))
    }

    fn wait(&self, child: &mut Child) -> Result<(), SignError> {
        let start = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(SignError(format!("it ended with {status}"))),
                Ok(None) if start.elapsed() < self.timeout => thread::sleep(POLL),
                Ok(None) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let secs = self.timeout.as_secs();
                    return Err(SignError(format!(
                        "it did not answer within {secs} seconds"
                    )));
                }
                Err(e) => return Err(SignError(format!("it could not be waited for: {e}"))),
            }
        }
    }
}
