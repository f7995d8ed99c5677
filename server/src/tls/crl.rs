//! Certificate revocation lists (RFC 5280 section 5), checked when they are loaded.
//!
//! A list counts only if one of the client authorities signed it and it has not lapsed; every
//! entry counts, whatever its reason. Gap: delta and indirect lists are not understood.

use std::collections::HashSet;
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};
use x509_parser::time::ASN1Time;

use crate::error::ServerError;

/// Issuer name (DER) and serial number of each revoked certificate.
pub(super) type Revoked = HashSet<(Vec<u8>, Vec<u8>)>;

/// Reads and checks every list of the file.
pub(super) fn load(
    path: &Path,
    authorities: &[CertificateDer<'_>],
) -> Result<Revoked, ServerError> {
    let bad = |fault: String| ServerError::pki("revocation list", path, fault);
    let lists = CertificateRevocationListDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(error.to_string()))?;
    if lists.is_empty() {
        return Err(bad("holds no list".into()));
    }
    let mut revoked = HashSet::new();
    for der in &lists {
        let (_, list) = CertificateRevocationList::from_der(der)
            .map_err(|error| bad(format!("is not well-formed: {error}")))?;
        check(&list, authorities).map_err(bad)?;
        let issuer = list.issuer().as_raw();
        revoked.extend(
            list.iter_revoked_certificates()
                .map(|entry| (issuer.to_vec(), entry.raw_serial().to_vec())),
        );
    }
    Ok(revoked)
}

fn check(
    list: &CertificateRevocationList<'_>,
    authorities: &[CertificateDer<'_>],
) -> Result<(), String> {
    let signed = authorities
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok())
        .filter(|(_, authority)| authority.subject().as_raw() == list.issuer().as_raw())
        .any(|(_, authority)| list.verify_signature(authority.public_key()).is_ok());
    if !signed {
        return Err(format!(
            "is not signed by a client authority (issuer {})",
            list.issuer()
        ));
    }
    match list.next_update() {
        Some(lapse) if lapse < ASN1Time::now() => Err(format!("lapsed at {lapse}")),
        _ => Ok(()),
    }
}
