//! Certificates for trying out: an authority, a server certificate, device certificates.
//!
//! A fleet has its own authority; then only [`DeviceCertificate::read`] is used, to enrol what that
//! authority issued. The device id stands as URI `urn:ampoule:device:<id>` in the subject
//! alternative name and as common name in the subject.

mod ca_key;

use std::path::Path;
use std::time::{Duration, SystemTime};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::sign::Ed25519Key;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::config::Enroll;
use crate::error::ServerError;
use crate::file::{self, Readers};
use crate::identity::{Identity, URN};
use crate::secrets::Sealer;
pub use ca_key::{CaKey, seal};

/// Clocks of devices in the field are rarely exact.
const BACKDATE: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
/// How long a revocation list says that it holds.
const CRL_LIFE: Duration = DAY;

/// The key of a device certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA with P-256, as most secure elements offer.
    P256,
}

impl KeyKind {
    /// A new key, and its PKCS#8 PEM. Ed25519 is written in the first version of that format,
    /// without the public key, since OpenSSL 3.0 reads no other.
    fn generate(self) -> Result<(KeyPair, Zeroizing<String>), ServerError> {
        match self {
            Self::Ed25519 => {
                let mut seed = Zeroizing::new([0; 32]);
                random(&mut *seed)?;
                let key = Ed25519Key::from_seed(&seed)
                    .map_err(|error| ServerError::Tls(error.to_string()))?;
                let pem = key.to_pkcs8_pem();
                let pair = KeyPair::from_pem(&pem).map_err(making("a key"))?;
                Ok((pair, pem))
            }
            Self::P256 => {
                let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
                    .map_err(making("a key"))?;
                let pem = Zeroizing::new(pair.serialize_pem());
                Ok((pair, pem))
            }
        }
    }
}

fn random(bytes: &mut [u8]) -> Result<(), ServerError> {
    getrandom::fill(bytes).map_err(|error| ServerError::Tls(format!("no random bytes: {error}")))
}

/// Writes `ca.pem`, `ca.key`, `server.pem` and `server.key` into `folder`.
///
/// # Errors
/// One of the files exists, or cannot be written.
pub fn make_dev_ca(folder: &Path, server_names: &[String], days: u32) -> Result<(), ServerError> {
    std::fs::create_dir_all(folder).map_err(ServerError::file("create", folder))?;
    for name in ["ca.pem", "ca.key", "server.pem", "server.key"] {
        let path = folder.join(name);
        if path.exists() {
            return Err(ServerError::Exists(path));
        }
    }
    let (ca_key, ca_key_pem) = KeyKind::P256.generate()?;
    let mut ca = params("Ampoule development CA", days)?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_certificate = ca
        .self_signed(&ca_key)
        .map_err(making("the CA certificate"))?;

    let (server_key, server_key_pem) = KeyKind::P256.generate()?;
    let mut server = params("Ampoule development server", days)?;
    server.subject_alt_names = CertificateParams::new(server_names)
        .map_err(making("the server certificate"))?
        .subject_alt_names;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let issuer = Issuer::from_params(&ca, &ca_key);
    let server = server
        .signed_by(&server_key, &issuer)
        .map_err(making("the server certificate"))?;

    let write = |name: &str, text: &str, readers| {
        file::create(&folder.join(name), text.as_bytes(), readers)
    };
    write("ca.key", &ca_key_pem, Readers::Owner)?;
    write("ca.pem", &ca_certificate.pem(), Readers::All)?;
    write("server.key", &server_key_pem, Readers::Owner)?;
    write("server.pem", &server.pem(), Readers::All)
}

/// The authority that issues device certificates.
pub struct Authority {
    issuer: Issuer<'static, ca_key::Opened>,
    pem: String,
    /// Its name, DER.
    name: Vec<u8>,
}

/// What was issued to one device.
pub struct Issued {
    /// The certificate, PEM.
    pub certificate_pem: String,
    /// The key, PKCS#8 PEM.
    pub key_pem: Zeroizing<String>,
    /// What the server needs to know of it.
    pub certificate: DeviceCertificate,
}

/// A certificate that was made for a key of somebody else's.
pub struct Certified {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its serial number, as its bytes stand.
    pub serial: Vec<u8>,
    /// What the server needs to know of it.
    pub certificate: DeviceCertificate,
}

/// An entry of a revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlEntry {
    /// The certificate's serial number, as its bytes stand.
    pub serial: Vec<u8>,
    /// Unix time of its revocation.
    pub at: i64,
    /// Whether a newer certificate took its place.
    pub superseded: bool,
}

impl Authority {
    /// Reads the authority's certificate and opens its key; `sealer` opens a sealed one.
    ///
    /// # Errors
    /// One of the files, or the token, cannot be used, or the key is not the certificate's.
    pub fn load(config: &Enroll, sealer: Option<&Sealer>) -> Result<Self, ServerError> {
        let certificate = config.ca.as_path();
        let fault = |what: &str| ServerError::pki("authority certificate", certificate, what);
        let pem = std::fs::read_to_string(certificate);
        let pem = pem.map_err(ServerError::file("read", certificate))?;
        let key = config.ca_key.open(sealer)?;
        let der = CertificateDer::from_pem_slice(pem.as_bytes());
        let der = der.map_err(|_| fault("holds no certificate"))?;
        let (name, public) = subject_of(&der).ok_or_else(|| fault("has no name"))?;
        // A token is easily the wrong one, and what it signs would be found wrong by devices only.
        if public != key.der_bytes() {
            return Err(fault("is not of the authority's key"));
        }
        let issuer =
            Issuer::from_ca_cert_pem(&pem, key).map_err(|error| fault(&error.to_string()))?;
        Ok(Self { issuer, pem, name })
    }

    /// The authority's certificate, DER.
    ///
    /// # Panics
    /// Never: [`Self::load`] read it.
    pub fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("it was read before")
    }

    /// Whether it issued this certificate.
    pub fn issued(&self, identity: &Identity) -> bool {
        identity.issuer == self.name
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Makes a key and a certificate for `device`.
    ///
    /// # Errors
    /// The system's randomness or the authority's key failed.
    pub fn issue(
        &self,
        device: &DeviceId,
        kind: KeyKind,
        days: u32,
    ) -> Result<Issued, ServerError> {
        let (key, key_pem) = kind.generate()?;
        let made = of_device(device, days)?
            .signed_by(&key, &self.issuer)
            .map_err(making("the certificate"))?;
        let certificate = DeviceCertificate::parse(made.der())
            .map_err(|fault| ServerError::Tls(fault.to_string()))?;
        Ok(Issued {
            certificate_pem: made.pem(),
            key_pem,
            certificate,
        })
    }

    /// Makes a certificate for `device` and the key in `request`, whose signature was checked. Of
    /// the request, only the key is taken.
    ///
    /// # Errors
    /// The system's randomness or the authority's key failed.
    pub fn certify(
        &self,
        request: &CertificateSigningRequestDer<'_>,
        device: &DeviceId,
        days: u32,
    ) -> Result<Certified, ServerError> {
        let mut wanted = CertificateSigningRequestParams::from_der(request)
            .map_err(making("sense of the request"))?;
        wanted.params = of_device(device, days)?;
        let made = wanted
            .signed_by(&self.issuer)
            .map_err(making("the certificate"))?;
        let identity =
            Identity::of(made.der()).map_err(|fault| ServerError::Tls(fault.to_string()))?;
        Ok(Certified {
            der: made.der().clone(),
            serial: identity.serial.clone(),
            certificate: identity.into(),
        })
    }

    /// The revocation list of `entries`, PEM; its number is the time.
    ///
    /// # Errors
    /// The authority's key failed, or may not sign lists.
    pub fn revocation_list(&self, entries: &[CrlEntry], now: i64) -> Result<String, ServerError> {
        let at = |unix: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or_default())
        };
        let revoked_certs = entries.iter().map(|entry| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&entry.serial),
            revocation_time: at(entry.at).into(),
            reason_code: entry
                .superseded
                .then_some(rcgen::RevocationReason::Superseded),
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: at(now).into(),
            next_update: (at(now) + CRL_LIFE).into(),
            crl_number: SerialNumber::from(u64::try_from(now).unwrap_or_default()),
            issuing_distribution_point: None,
            revoked_certs: revoked_certs.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let made = params.signed_by(&self.issuer);
        made.and_then(|list| list.pem())
            .map_err(making("the revocation list"))
    }
}

/// The name and the public key of a certificate, both as their bytes stand.
fn subject_of(der: &CertificateDer<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let public = &certificate.public_key().subject_public_key.data;
    Some((certificate.subject().as_raw().to_vec(), public.to_vec()))
}

fn of_device(device: &DeviceId, days: u32) -> Result<CertificateParams, ServerError> {
    let mut wanted = params(device.as_str(), days)?;
    let uri = format!("{URN}{device}")
        .try_into()
        .map_err(making("the device's name in a certificate"))?;
    wanted.subject_alt_names = vec![SanType::URI(uri)];
    wanted.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    wanted.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(wanted)
}

/// The facts of a device's certificate that its enrolment binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCertificate {
    /// Whose it is.
    pub device: DeviceId,
    /// SHA-256 of its DER.
    pub digest: Digest,
    /// The last second of its life, in Unix time.
    pub not_after: i64,
}

impl DeviceCertificate {
    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    /// There is none, or it names no device.
    pub fn read(path: &Path) -> Result<Self, ServerError> {
        let der = CertificateDer::from_pem_file(path)
            .map_err(|error| ServerError::pki("device certificate", path, error))?;
        Self::parse(&der).map_err(|fault| ServerError::pki("device certificate", path, fault))
    }

    fn parse(der: &CertificateDer<'_>) -> Result<Self, crate::identity::IdentityError> {
        Ok(Identity::of(der)?.into())
    }
}

impl From<Identity> for DeviceCertificate {
    fn from(identity: Identity) -> Self {
        Self {
            device: identity.device,
            digest: identity.digest,
            not_after: identity.not_after,
        }
    }
}

fn params(common_name: &str, days: u32) -> Result<CertificateParams, ServerError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let now = SystemTime::now();
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + DAY * days).into();
    params.use_authority_key_identifier_extension = true;
    let mut serial = [0; 16];
    random(&mut serial)?;
    // A serial number is positive, and its first byte counts.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn making(what: &'static str) -> impl Fn(rcgen::Error) -> ServerError {
    move |source| ServerError::Issue { what, source }
}
