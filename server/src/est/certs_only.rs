//! Certificates as EST hands them out: a "certs-only" CMS message (RFC 5652, RFC 7030 section
//! 4.1.3), DER in base64 without line breaks (RFC 8951 section 3.1; not every client skips them).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cms::cert::CertificateChoices;
use cms::cert::x509::Certificate;
use cms::cert::x509::der::asn1::{ObjectIdentifier, SetOfVec};
use cms::cert::x509::der::{self, Any, Decode, Encode};
use cms::content_info::{CmsVersion, ContentInfo};
use cms::signed_data::{CertificateSet, EncapsulatedContentInfo, SignedData, SignerInfos};
use rustls_pki_types::CertificateDer;

/// `id-data` and `id-signedData` (RFC 5652 sections 4 and 5.1).
const DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

/// The message that holds `certificates`; `None` where one of them is no certificate.
pub(super) fn message(certificates: &[CertificateDer<'_>]) -> Option<String> {
    encoded(certificates).ok().map(|der| STANDARD.encode(der))
}

/// Without the list of CRLs, which may be left out: strongSwan does not read an empty one.
fn encoded(certificates: &[CertificateDer<'_>]) -> der::Result<Vec<u8>> {
    let mut set = SetOfVec::new();
    for certificate in certificates {
        let certificate = Certificate::from_der(certificate)?;
        set.insert(CertificateChoices::Certificate(certificate))?;
    }
    let signed = SignedData {
        version: CmsVersion::V1,
        digest_algorithms: SetOfVec::new(),
        encap_content_info: EncapsulatedContentInfo {
            econtent_type: DATA,
            econtent: None,
        },
        certificates: Some(CertificateSet(set)),
        crls: None,
        signer_infos: SignerInfos(SetOfVec::new()),
    };
    ContentInfo {
        content_type: SIGNED_DATA,
        content: Any::encode_from(&signed)?,
    }
    .to_der()
}
