//! Who gets a certificate.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, HeaderMap};
use rustls_pki_types::CertificateDer;

use super::csr::Csr;
use super::ledger::{self, Asked, IssuedRecord, Page, Renewal, Token, Word};
use super::{Caller, Est, renewal};
use crate::audit::{Act, Record};
use crate::file::read_text;
use crate::fleet::Refusal;
use crate::http::problem::Problem;
use crate::identity::Identity;
use crate::pki::Certified;
use crate::rollouts::Heard;
use crate::serve::Shared;
use crate::store::records::Expected;
use crate::store::{Standing, Write, Written};

/// Bytes of the list of those authorised: some 100,000 ids.
const AUTHORISED_LEN_MAX: u64 = 8 << 20;
/// Devices that may wait for a person's word; stops a stolen birth authority from filling the
/// store.
const WAITING_MAX: usize = 10_000;
/// How long a device that waits for a person is told to wait, in seconds.
const WAIT_SECS: u64 = 300;
/// Bytes of an `Authorization` header.
const BASIC_LEN_MAX: usize = 1024;

/// A name and a password (RFC 7617).
pub struct Basic {
    user: String,
    password: String,
}

impl Basic {
    /// From the header, where it is there and well-formed.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, encoded) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || encoded.len() > BASIC_LEN_MAX {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(encoded.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Self {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    }
}

/// A first certificate.
pub(super) async fn first(
    shared: &Shared,
    est: &Est,
    caller: &Caller,
    basic: Option<&Basic>,
    csr: &Csr,
) -> Result<CertificateDer<'static>, Problem> {
    match (caller, basic) {
        (Caller::Device(_), _) => return next(shared, est, caller, csr).await,
        (_, Some(basic)) => {
            let _turn = est.turn.lock().await;
            is_not_ended(shared, csr)?;
            by_token(shared, basic, csr).await?;
            enrol(shared, est, csr).await
        }
        (Caller::Birth(birth), None) => {
            let _turn = est.turn.lock().await;
            is_not_ended(shared, csr)?;
            by_birth(shared, est, birth, csr).await?;
            enrol(shared, est, csr).await
        }
        (Caller::Nobody, None) => Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "enrolment-unproven",
            "a first certificate takes a one-time token or a birth certificate",
        )),
    }
}

/// What was decommissioned does not come back under its name, with whatever it has.
fn is_not_ended(shared: &Shared, csr: &Csr) -> Result<(), Problem> {
    match ledger::ended_at(&*shared.store, &csr.device)? {
        None => Ok(()),
        Some(_) => Err(forbidden(
            "device-decommissioned",
            "this device was decommissioned",
        )),
    }
}

/// The next certificate.
pub(super) async fn next(
    shared: &Shared,
    est: &Est,
    caller: &Caller,
    csr: &Csr,
) -> Result<CertificateDer<'static>, Problem> {
    let Caller::Device(identity) = caller else {
        let detail = "a renewal takes the certificate that is in use";
        return Err(forbidden("renewal-unproven", detail));
    };
    is_named(&identity.device, csr)?;
    let _turn = est.turn.lock().await;
    let refusal = |refusal: Refusal| Problem::from(refusal);
    if shared.tls.current().is_revoked(identity) {
        return Err(refusal(Refusal::Revoked));
    }
    let known = shared.fleet.find(&identity.device);
    let device = known.ok_or_else(|| refusal(Refusal::Unknown))?;
    let now = shared.now().unix();
    match device.admits(identity, now) {
        Ok(()) => {}
        // The answer may have come, and this be its first use.
        Err(Refusal::OtherCertificate) if renewal::promote(shared, est, identity).await? => {}
        Err(other) => return Err(other.into()),
    }
    remember(shared, est, identity).await?;
    let certified = certify(shared, est, csr).await?;
    recorded(shared, Act::Renew, &certified).await?;
    let waiting = Renewal {
        certificate: certified.certificate.digest,
        not_after: certified.certificate.not_after,
    };
    let key = ledger::of_device(&csr.device);
    let record = ledger::change(Page::Renewals, key, Expected::Any, Some(&waiting));
    ledger::write_or_retry(shared, vec![record]).await?;
    shared
        .log
        .note(format_args!("a certificate was renewed for {}", csr.device));
    Ok(certified.der)
}

/// The token is for this device, in time, and for this key or for none yet.
async fn by_token(shared: &Shared, basic: &Basic, csr: &Csr) -> Result<(), Problem> {
    let refused = || {
        let detail = "there is no such token for this device, or its time is over";
        Problem::new(StatusCode::UNAUTHORIZED, "token-refused", detail)
    };
    let device = DeviceId::parse(&basic.user).map_err(|_| refused())?;
    let key = ledger::of_device(&device);
    let seen = ledger::read::<Token>(&*shared.store, Page::Tokens, &key)?.ok_or_else(refused)?;
    let token = seen.value;
    // Digests are compared: how long that takes tells nothing of the token.
    let is_right = token.hash == Digest::of(basic.password.as_bytes());
    if !is_right || token.ends_at < shared.now().unix() {
        return Err(refused());
    }
    is_named(&device, csr)?;
    match token.key {
        Some(used) if used == csr.key => Ok(()),
        Some(_) => Err(forbidden(
            "token-used",
            "this token was used already, with another key",
        )),
        None => {
            let used = Token {
                key: Some(csr.key),
                ..token
            };
            let expected = Expected::Version(seen.version);
            let record = ledger::change(Page::Tokens, key, expected, Some(&used));
            ledger::write_or_retry(shared, vec![record]).await
        }
    }
}

/// The manufacturer vouches for the device; the list or a person lets it in.
async fn by_birth(shared: &Shared, est: &Est, birth: &Identity, csr: &Csr) -> Result<(), Problem> {
    is_named(&birth.device, csr)?;
    let row = shared.fleet.find(&csr.device).map(|device| device.row());
    let key = ledger::of_device(&csr.device);
    let seen = ledger::read::<Asked>(&*shared.store, Page::Requests, &key)?;
    let asked = seen.as_ref().map(|seen| &seen.value);
    if let Some(asked) = asked.filter(|asked| asked.key == csr.key && asked.birth == birth.digest) {
        match asked.word {
            Word::Approved => return Ok(()),
            Word::Denied => {
                return Err(forbidden(
                    "enrolment-denied",
                    "an operator denied this device",
                ));
            }
            Word::Waiting => return Err(waits()),
        }
    }
    if row
        .as_ref()
        .is_some_and(|row| row.standing == Standing::Revoked)
    {
        return Err(Refusal::Revoked.into());
    }
    let again = row.is_some();
    let word = if !again && is_authorised(est, &csr.device)? {
        Word::Approved
    } else {
        Word::Waiting
    };
    if word == Word::Waiting && asked.is_none() && is_full(shared)? {
        let detail = "more devices wait for a person's word than may";
        return Err(Problem::unavailable("too-many-waiting", detail, WAIT_SECS));
    }
    let asked = Asked {
        device: csr.device.clone(),
        key: csr.key,
        birth: birth.digest,
        at: shared.now().unix(),
        again,
        word,
    };
    let expected = seen.map_or(Expected::Absent, |seen| Expected::Version(seen.version));
    let record = ledger::change(Page::Requests, key, expected, Some(&asked));
    ledger::write_or_retry(shared, vec![record]).await?;
    if word == Word::Approved {
        return Ok(());
    }
    let how = if again {
        "is enrolled already and asks with another key: it was reset, or its birth certificate \
         was copied"
    } else {
        "waits to be approved"
    };
    shared.log.warn(format_args!("device {} {how}", csr.device));
    Err(waits())
}

fn waits() -> Problem {
    Problem::waits("an operator has to approve this device", WAIT_SECS)
}

/// Read each time: a list is replaced without a word to the server.
fn is_authorised(est: &Est, device: &DeviceId) -> Result<bool, Problem> {
    let Some(path) = &est.authorised else {
        return Ok(false);
    };
    let text = read_text(path, AUTHORISED_LEN_MAX).map_err(|_| {
        let detail = "the list of authorised devices cannot be read";
        Problem::unavailable("list-unreadable", detail, WAIT_SECS)
    })?;
    Ok(text.lines().any(|line| line.trim() == device.as_str()))
}

fn is_full(shared: &Shared) -> Result<bool, Problem> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = ledger::list::<Asked>(&*shared.store, Page::Requests, after.as_ref())?;
        count += page
            .iter()
            .filter(|(_, seen)| seen.value.word == Word::Waiting)
            .count();
        match page.into_iter().next_back() {
            Some((last, _)) if count < WAITING_MAX => after = Some(last),
            Some(_) => return Ok(true),
            None => return Ok(false),
        }
    }
}

fn is_named(proven: &DeviceId, csr: &Csr) -> Result<(), Problem> {
    if *proven == csr.device {
        return Ok(());
    }
    let detail = format!(
        "the request names {:?}, the caller proved {proven:?}",
        csr.device
    );
    Err(Problem::new(StatusCode::FORBIDDEN, "other-device", detail))
}

fn forbidden(code: &'static str, detail: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, code, detail)
}

/// Issues a certificate and remembers it before anybody has it.
async fn certify(shared: &Shared, est: &Est, csr: &Csr) -> Result<Certified, Problem> {
    let made = est
        .authority
        .certify(&csr.der, &csr.device, est.validity_days);
    let certified = made.map_err(|error| {
        shared
            .log
            .warn(format_args!("no certificate for {}: {error}", csr.device));
        Problem::unavailable("authority-failed", "the authority cannot sign now", 60)
    })?;
    let issued = IssuedRecord {
        certificate: certified.certificate.digest,
        not_after: certified.certificate.not_after,
        at: shared.now().unix(),
    };
    let key = ledger::of_certificate(&csr.device, &certified.serial);
    let record = ledger::change(Page::Issued, key, Expected::Any, Some(&issued));
    ledger::write_or_retry(shared, vec![record]).await?;
    Ok(certified)
}

/// A certificate that an operator had issued is known here from its first renewal on, so that it is
/// on the revocation list when it is replaced.
async fn remember(shared: &Shared, est: &Est, identity: &Identity) -> Result<(), Problem> {
    let key = ledger::of_certificate(&identity.device, &identity.serial);
    let known = ledger::read::<IssuedRecord>(&*shared.store, Page::Issued, &key)?;
    if known.is_some() || !est.authority.issued(identity) {
        return Ok(());
    }
    let issued = IssuedRecord {
        certificate: identity.digest,
        not_after: identity.not_after,
        at: shared.now().unix(),
    };
    let record = ledger::change(Page::Issued, key, Expected::Absent, Some(&issued));
    ledger::write_or_retry(shared, vec![record]).await
}

/// The audit log has it before the device does.
async fn recorded(shared: &Shared, act: Act, certified: &Certified) -> Result<(), Problem> {
    let certificate = &certified.certificate;
    let record = Record::new(act, "est")
        .about("device", &certificate.device)
        .digest(certificate.digest);
    shared.audit.record(record, shared.now()).await?;
    Ok(())
}

/// Issues a first certificate and gives the device its place.
async fn enrol(shared: &Shared, est: &Est, csr: &Csr) -> Result<CertificateDer<'static>, Problem> {
    let certified = certify(shared, est, csr).await?;
    recorded(shared, Act::Enroll, &certified).await?;
    let write = Write::Enroll {
        device: csr.device.clone(),
        certificate: certified.certificate.digest,
        not_after: certified.certificate.not_after,
        at: shared.now().unix(),
    };
    let written = shared.writer.write(write).await?;
    if let Written::Done(row) = written {
        shared.rollouts.hear(Heard::Row(row));
    }
    renewal::retire(shared, &csr.device, Some(&certified.certificate.digest)).await?;
    shared.log.note(format_args!("{} was enrolled", csr.device));
    Ok(certified.der)
}
