//! The certificate in use is renewed while it still holds.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ampoule_protocol::time::UtcTime;

use super::est::{Proof, client};
use super::{Identity, NetError};
use crate::enrol::{self, Asked, Question};
use crate::ports::Storage;

/// Between two attempts, whatever the clock says: a wrong one must not make a storm.
const ATTEMPT_INTERVAL: Duration = Duration::from_hours(6);

/// The files of the device's identity, and when it was last tried to renew them.
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

    /// Renews the certificate at the server, if it is time; the new identity then.
    pub(super) fn tend(&mut self, url: &str, now: UtcTime) -> Result<Option<Identity>, NetError> {
        let failed = |text: String| NetError::new("renewal-failed", text);
        if self.tried.is_some_and(|at| at.elapsed() < ATTEMPT_INTERVAL) {
            return Ok(None);
        }
        self.tried = Some(Instant::now());
        let load = || Identity::load(&self.certificate, &self.key, &self.authorities);
        let identity = load().map_err(|error| failed(error.to_string()))?;
        if !enrol::is_due(&identity.leaf, now) {
            return Ok(None);
        }
        let agent = client(&identity.authorities, Some(identity.certificate));
        let question = Question {
            agent: &agent,
            url: &format!("{url}/.well-known/est/simplereenroll"),
            proof: Proof::Certificate,
            certificate: &self.certificate,
        };
        let asked = enrol::ask(&*self.storage, &question, &*identity.key, &identity.device);
        match asked.map_err(|error| failed(error.to_string()))? {
            Asked::Until(_) => load().map(Some).map_err(|error| failed(error.to_string())),
            Asked::Waits(secs) => Err(failed(format!("the server asks to wait for {secs} s"))),
        }
    }
}
