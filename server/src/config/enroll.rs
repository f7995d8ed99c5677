//! `[enroll]`: how certificates are issued, and where the key for that is.

use std::path::{Path, PathBuf};

use super::reader::Section;
use crate::pki::CaKey;

/// `[enroll]`: how certificates are issued.
#[derive(Debug, Clone)]
pub struct Enroll {
    /// The issuing certificate; by default the client CA.
    pub ca: PathBuf,
    /// Its key; by default `ca.key` beside it.
    pub ca_key: CaKey,
    /// How long an issued certificate lives.
    pub validity_days: u32,
}

impl Enroll {
    /// The authority that `dev-ca` made in a folder.
    pub fn of_dev_ca(folder: &Path, validity_days: u32) -> Self {
        Self {
            ca: folder.join("ca.pem"),
            ca_key: CaKey::File(folder.join("ca.key")),
            validity_days,
        }
    }

    pub(super) fn read(from: &mut Section<'_, '_>, client_ca: &Path) -> Self {
        let ca = if from.has("ca") {
            from.existing_file("ca")
        } else {
            client_ca.to_path_buf()
        };
        Self {
            ca_key: key(from, &ca),
            ca,
            validity_days: from.number("validity_days", 825, 1, 36_500),
        }
    }
}

fn key(from: &mut Section<'_, '_>, ca: &Path) -> CaKey {
    if !from.has("ca_token") {
        return CaKey::File(if from.has("ca_key") {
            from.path("ca_key")
        } else {
            ca.with_file_name("ca.key")
        });
    }
    if from.has("ca_key") {
        from.fault("ca_key", "and ca_token name two places for one key");
    }
    // PKCS#11 gives a token label 32 bytes.
    let token = from.string("ca_token").unwrap_or_default().to_owned();
    if token.len() > 32 {
        from.fault("ca_token", "is longer than the 32 bytes of a token's label");
    }
    CaKey::Token {
        module: from.existing_file("ca_module"),
        token,
        label: from.string("ca_label").unwrap_or_default().to_owned(),
        pin_file: from.existing_file("ca_pin_file"),
    }
}
