//! What a device says and hears when it asks for its certificate: a request (PKCS#10, RFC 2986),
//! and certificates (certs-only CMS, RFC 5652 section 5, as EST has it: RFC 7030 section 4.1.3).
//!
//! Only what a device needs, in DER: one name, one key, no attributes; and of a certificate, whose
//! key it certifies and when it ends. Who may be believed is decided elsewhere: what comes from the
//! server came over TLS that it proved itself on.

use alloc::vec::Vec;

use ed25519_dalek::pkcs8::spki::der::asn1::{AnyRef, GeneralizedTime, UtcTime as ShortTime};
use ed25519_dalek::pkcs8::spki::der::{Decode, Encode, Reader, SliceReader, Tag, TagNumber};

use crate::key::{PublicKey, Scheme};
use crate::name::DeviceId;
use crate::sign::{Sign, SignError};
use crate::time::UtcTime;

/// Bytes of an answer with certificates.
pub const ANSWER_LEN_MAX: usize = 64 * 1024;
/// Certificates in it; more is no chain.
const CERTIFICATES_MAX: usize = 8;
/// Members of one structure.
const MEMBERS_MAX: usize = 32;

/// `id-at-commonName`, `id-Ed25519`, `ecdsa-with-SHA256`, encoded.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// An answer that is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnrolError {
    /// Not certs-only CMS with a few certificates in it.
    #[error("the answer is not a CMS message that holds certificates alone")]
    Form,
    /// A certificate that cannot be read.
    #[error("a certificate in the answer is not well-formed")]
    Certificate,
    /// None of the certificates is for the key that asked.
    #[error("no certificate in the answer is for this device's key")]
    OtherKey,
}

/// The request of `device` for a certificate of `key`, DER.
///
/// # Errors
/// The key cannot sign now, or is of a kind that requests are not made for.
pub fn request(device: &DeviceId, key: &dyn Sign) -> Result<Vec<u8>, SignError> {
    let algorithm = match key.public_key().scheme() {
        Scheme::Ed25519 => ED25519,
        Scheme::EcdsaP256 => ECDSA_SHA256,
        Scheme::EcdsaP384 | Scheme::RsaPss => {
            return Err(SignError("a device's key is Ed25519 or P-256".into()));
        }
    };
    let name = sequence(&[
        &value(Tag::ObjectIdentifier, COMMON_NAME),
        &value(Tag::Utf8String, device.as_str().as_bytes()),
    ]);
    let subject = sequence(&[&value(Tag::Set, &name)]);
    let attributes = value(context(0), &[]);
    let spki = key.public_key().to_spki_der();
    let version = value(Tag::Integer, &[0]);
    let info = sequence(&[&version, &subject, &spki, &attributes]);
    let signature = [&[0], &*key.sign(&info)?].concat();
    Ok(sequence(&[
        &info,
        &sequence(&[&value(Tag::ObjectIdentifier, algorithm)]),
        &value(Tag::BitString, &signature),
    ]))
}

/// The certificates of an answer, DER, in its order.
///
/// # Errors
/// [`EnrolError::Form`].
pub fn certificates(answer: &[u8]) -> Result<Vec<&[u8]>, EnrolError> {
    let read = || {
        let content = members(only(answer)?)?;
        let signed = members(only(content.get(1)?.value())?)?;
        let set = signed.iter().find(|member| member.is(context(0)))?;
        let list = members(set.any)?;
        let certificates: Vec<&[u8]> = list.iter().map(|certificate| certificate.whole).collect();
        (1..=CERTIFICATES_MAX)
            .contains(&certificates.len())
            .then_some(certificates)
    };
    if answer.len() > ANSWER_LEN_MAX {
        return Err(EnrolError::Form);
    }
    read().ok_or(EnrolError::Form)
}

/// When a certificate begins and ends.
///
/// # Errors
/// [`EnrolError::Certificate`].
pub fn validity(certificate: &[u8]) -> Result<(UtcTime, UtcTime), EnrolError> {
    let read = || {
        let body = to_be_signed(certificate)?;
        let times = members(body.get(4)?.any)?;
        Some((time(times.first()?)?, time(times.get(1)?)?))
    };
    read().ok_or(EnrolError::Certificate)
}

/// The key that a certificate is for.
///
/// # Errors
/// [`EnrolError::Certificate`], and so a key of a kind that is not known here.
pub fn key_of(certificate: &[u8]) -> Result<PublicKey, EnrolError> {
    let body = to_be_signed(certificate).ok_or(EnrolError::Certificate)?;
    let spki = body.get(6).ok_or(EnrolError::Certificate)?;
    PublicKey::from_spki_der(spki.whole).map_err(|_| EnrolError::Certificate)
}

/// The certificate of an answer that is for `key`.
///
/// # Errors
/// There is none, or one cannot be read.
pub fn for_key<'a>(list: &[&'a [u8]], key: &PublicKey) -> Result<&'a [u8], EnrolError> {
    let wanted = key.to_spki_der();
    for certificate in list {
        let body = to_be_signed(certificate).ok_or(EnrolError::Certificate)?;
        if body.get(6).is_some_and(|spki| spki.whole == wanted) {
            return Ok(certificate);
        }
    }
    Err(EnrolError::OtherKey)
}

/// A member of a structure: its value, and its bytes with tag and length.
#[derive(Clone, Copy)]
struct Member<'a> {
    any: AnyRef<'a>,
    whole: &'a [u8],
}

impl<'a> Member<'a> {
    fn is(&self, tag: Tag) -> bool {
        use ed25519_dalek::pkcs8::spki::der::Tagged;
        self.any.tag() == tag
    }

    fn value(&self) -> &'a [u8] {
        self.any.value()
    }
}

/// Version, serial number, algorithm, issuer, validity, subject, key, extensions (RFC 5280 section
/// 4.1), of which version 3 certificates have all.
fn to_be_signed(certificate: &[u8]) -> Option<Vec<Member<'_>>> {
    let outer = members(only(certificate)?)?;
    let body = members(outer.first()?.any)?;
    body.first()?.is(context(0)).then_some(body)
}

/// The one value in `bytes`.
fn only(bytes: &[u8]) -> Option<AnyRef<'_>> {
    AnyRef::from_der(bytes).ok()
}

fn members(any: AnyRef<'_>) -> Option<Vec<Member<'_>>> {
    let bytes = any.value();
    let mut reader = SliceReader::new(bytes).ok()?;
    let mut list = Vec::new();
    while !reader.is_finished() {
        let from = usize::try_from(reader.position()).ok()?;
        let any = AnyRef::decode(&mut reader).ok()?;
        let to = usize::try_from(reader.position()).ok()?;
        let whole = bytes.get(from..to)?;
        list.push(Member { any, whole });
        if list.len() > MEMBERS_MAX {
            return None;
        }
    }
    Some(list)
}

fn time(member: &Member<'_>) -> Option<UtcTime> {
    let since = if member.is(Tag::UtcTime) {
        let time: ShortTime = member.any.decode_as().ok()?;
        time.to_unix_duration()
    } else {
        let time: GeneralizedTime = member.any.decode_as().ok()?;
        time.to_unix_duration()
    };
    Some(UtcTime::from_unix(i64::try_from(since.as_secs()).ok()?))
}

const fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    value(Tag::Sequence, &parts.concat())
}

fn value(tag: Tag, bytes: &[u8]) -> Vec<u8> {
    AnyRef::new(tag, bytes)
        .and_then(|any| any.to_der())
        .expect("what is put together here is short")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign::{Ed25519Key, P256Key};

    #[test]
    fn a_request_holds_name_key_and_a_signature_that_verifies() {
        let device = DeviceId::parse("pump-0042").expect("a name");
        let ed25519 = Ed25519Key::from_seed(&[7; 32]).expect("a seed");
        let p256 = P256Key::from_scalar(&[7; 32]).expect("a scalar");
        for key in [&ed25519 as &dyn Sign, &p256] {
            let der = request(&device, key).expect("a key in memory");
            let parts = members(only(&der).expect("DER")).expect("a sequence");
            let signature = &parts[2].value()[1..];
            assert!(key.public_key().verify(parts[0].whole, signature));
            let info = members(parts[0].any).expect("a sequence");
            assert_eq!(info[2].whole, key.public_key().to_spki_der());
            assert!(der.windows(9).any(|part| part == b"pump-0042"));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(certificates(b""), Err(EnrolError::Form));
        assert_eq!(certificates(&[0x30, 0]), Err(EnrolError::Form));
        assert_eq!(
            certificates(&alloc::vec![0x30; 70_000]),
            Err(EnrolError::Form)
        );
        assert_eq!(validity(&[0x30, 0]), Err(EnrolError::Certificate));
        // A chain that opens and never ends: no depth is followed but the one that is known.
        let deep = [0x30, 0x80].repeat(1000);
        assert_eq!(certificates(&deep), Err(EnrolError::Form));
    }
}
