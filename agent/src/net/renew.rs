//! The certificate in use is renewed while it still holds.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ampoule_protocol::time::UtcTime;

use super::est::{self, Answered, Proof};
use super::{Identity, NetError};
use crate::enrol;
use crate::ports::Storage;

/// Between two attempts, whatever the clock says: a wrong one must not make a storm.
const ATTEMPT_INTERVAL: Duration = Duration::from_hours(6);

/// Posts a request for a certificate, PKCS#10 in DER, and gives back what is answered.
pub(super) type Ask<'a> = dyn FnMut(&Identity, &[u8]) -> Result<Answered, NetError> + 'a;

/// The files of the device's identity, and when it was last tried to renew them.
#[derive(Clone)]
pub struct Renewal {
    /// Where they are.
    pub storage: Rc<dyn Storage>,
    /// The certificate, which a renewal replaces.
    pub certificate: PathBuf,
    /// The key, which stays.
    pub key: PathBuf,
    /// Who may vouch for the server.
    pub authorities: PathBuf,
    tried: Option<Instant>,
}

impl Renewal {
    /// Of these files.
    pub fn new(
        storage: Rc<dyn Storage>,
        certificate: PathBuf,
        key: PathBuf,
        authorities: PathBuf,
    ) -> Self {
        Self {
            storage,
            certificate,
            key,
            authorities,
            tried: None,
        }
    }

    /// Renews the certificate, if it is time, by asking as told; whether it did.
    ///
    /// # Errors
    /// Files that cannot be used, and every refusal; the certificate in use stays.
    pub fn tend(&mut self, now: UtcTime, ask: &mut Ask<'_>) -> Result<bool, NetError> {
        if self.tried.is_some_and(|at| at.elapsed() < ATTEMPT_INTERVAL) {
            return Ok(false);
        }
        self.tried = Some(Instant::now());
        let identity = self.identity()?;
        if !enrol::is_due(identity.leaf(), now) {
            return Ok(false);
        }
        let request = ampoule_protocol::enrol::request(&identity.device, &*identity.key);
        let request = request.map_err(|error| failed(&error))?;
        match ask(&identity, &request)? {
            Answered::Certificates(answer) => {
                let (path, key) = (&self.certificate, &*identity.key);
                let kept = enrol::keep(&*self.storage, path, &answer, key);
                kept.map_err(|error| failed(&error)).map(|_| true)
            }
            Answered::Waits(secs) => {
                let text = format!("the server asks to wait for {secs} s");
                Err(NetError::new("renewal-failed", text))
            }
        }
    }

    /// What is in the files now.
    pub(super) fn identity(&self) -> Result<Identity, NetError> {
        let identity = Identity::load(&self.certificate, &self.key, &self.authorities);
        identity.map_err(|error| failed(&error))
    }
}

fn failed(error: &dyn std::fmt::Display) -> NetError {
    NetError::new("renewal-failed", error.to_string())
}

/// Asks the server at `url` for the certificate after that of `identity`.
///
/// # Errors
/// Whatever the network does, and every refusal.
pub fn certify(identity: &Identity, url: &str, request: &[u8]) -> Result<Answered, NetError> {
    let agent = est::client(&identity.authorities, Some(&identity.shown()));
    let url = format!("{url}/.well-known/est/simplereenroll");
    est::ask(&agent, &url, &Proof::Certificate, request)
}
