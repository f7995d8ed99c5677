//! `receipts`: takes in what devices without a network sent by file.
//!
//! The file is what `ampoule-agent receipts` writes (docs/FORMAT.md, "Receipts in a file"). All of
//! it is verified before any of it is kept: the certificate must be the one that is enrolled, and
//! its key must have signed every receipt. What is acknowledged is durable.

use std::path::{Path, PathBuf};

use ampoule_protocol::device::{Acknowledged, REPORT_LEN_MAX, Receipt};
use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::chain;
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::name::DeviceId;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;

use super::Common;
use super::devices::{ask, expect_device, print};
use crate::admin::{Ask, Told};
use crate::config::Config;
use crate::error::ServerError;
use crate::file::{self, Readers};
use crate::identity::Identity;
use crate::store::Standing;

/// Receipts in one file: more than a device's outbox holds.
const RECEIPTS_MAX: usize = 4096;
/// Bytes of one file.
const FILE_LEN_MAX: u64 = 64 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Receipts {
    /// What `ampoule-agent receipts` wrote.
    file: PathBuf,
    /// Where to write what the device is to be told.
    #[arg(long)]
    acknowledged: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// The first line of a file.
#[derive(Deserialize)]
struct Head {
    format: u32,
    device: DeviceId,
    certificate: String,
}

impl Receipts {
    pub(super) fn run(&self) -> Result<(), ServerError> {
        let config = Config::load(&self.common.config)?;
        let text = file::read_text(&self.file, FILE_LEN_MAX)?;
        let (device, receipts) = self.verified(&text, &config)?;
        let mut acknowledged = Vec::new();
        for bytes in receipts {
            let digest = Digest::of(bytes.as_bytes());
            let question = Ask::Receipt {
                device: device.clone(),
                receipt: bytes.to_owned(),
            };
            expect_device(&question, &config)?;
            acknowledged.push(digest);
        }
        let count = acknowledged.len();
        let words = serde_json::to_vec(&Acknowledged { acknowledged }).unwrap_or_default();
        file::replace(&self.acknowledged, &words, Readers::All)?;
        let told = serde_json::json!({ "device": device, "receipts": count });
        print(self.common.json, &told, || {
            let back = self.acknowledged.display();
            format!("kept {count} receipts of {device}; carry \"{back}\" back to it")
        });
        Ok(())
    }

    /// The device, and its receipts as they were signed.
    fn verified<'a>(
        &self,
        text: &'a str,
        config: &Config,
    ) -> Result<(DeviceId, Vec<&'a str>), ServerError> {
        let mut lines = text.lines();
        let head = self.head(lines.next().unwrap_or_default())?;
        let key = self.key_of(&head, config)?;
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        if lines.len() > RECEIPTS_MAX {
            return Err(self.bad(format!("more than {RECEIPTS_MAX} receipts")));
        }
        for (number, line) in lines.iter().enumerate() {
            let at = |what: String| self.bad(format!("line {}: {what}", number + 2));
            if line.len() > REPORT_LEN_MAX {
                return Err(at(format!("longer than {REPORT_LEN_MAX} bytes")));
            }
            let receipt = Receipt::verify(line.as_bytes(), &key)
                .map_err(|error| at(chain(&error, None).replace('\n', "; ")))?;
            if receipt.device != head.device {
                return Err(at(format!("a receipt of {:?}", receipt.device)));
            }
        }
        Ok((head.device, lines))
    }

    fn head(&self, line: &str) -> Result<Head, ServerError> {
        let head: Head = serde_json::from_str(line)
            .map_err(|error| self.bad(format!("line 1 is not its head: {error}")))?;
        if head.format != 1 {
            return Err(self.bad(format!("format {}, expected 1", head.format)));
        }
        Ok(head)
    }

    /// The key of the certificate in the file, if that is the one that is enrolled.
    fn key_of(&self, head: &Head, config: &Config) -> Result<PublicKey, ServerError> {
        let der = CertificateDer::from_pem_slice(head.certificate.as_bytes())
            .map_err(|error| self.bad(format!("its certificate: {error}")))?;
        let identity =
            Identity::of(&der).map_err(|error| self.bad(format!("its certificate {error}")))?;
        if identity.device != head.device {
            let other = identity.device;
            return Err(self.bad(format!("its certificate is that of {other:?}")));
        }
        let question = Ask::Show {
            device: head.device.clone(),
        };
        let Told::Details(details) = ask(&question, config, head.device.as_str())? else {
            return Err(ServerError::Refused("an answer to something else".into()));
        };
        let row = details.row;
        if row.standing != Standing::Enrolled || row.certificate != identity.digest {
            return Err(self.bad("its certificate is not the one that is enrolled".to_owned()));
        }
        identity
            .key()
            .ok_or_else(|| self.bad("its key signs no receipts".to_owned()))
    }

    fn bad(&self, what: String) -> ServerError {
        ServerError::Receipts {
            path: Path::to_owned(&self.file),
            what,
        }
    }
}
