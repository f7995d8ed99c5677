//! A device in a fleet: it acts where director and image repository agree.
//!
//! Whether a device lives alone or in a fleet is its own configuration's word
//! ([`Driver::in_fleet`]); nothing received changes it. The director is asked when the device looks
//! for an update, and once more before it leaves service: an offer that was taken back meanwhile
//! ends the update, and one whose time is over does not begin.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::director::{self, Agreed, Assignment, WITHDRAWN_CODE};
use ampoule_protocol::error::Guilty;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::TrustedTarget;

use super::{Driver, DriverError, LookError};
use crate::machine::{Event, Fault};
use crate::trust::{DirectorFetch, MetadataStore, Updater, update_start};

/// What a device in a fleet keeps beside what a device alone keeps.
pub(super) struct Fleet {
    store: MetadataStore,
    /// The offer as it was heard last in this process.
    heard: Option<Heard>,
}

#[derive(Clone, Copy)]
struct Heard {
    release: Digest,
    begin_before: Option<UtcTime>,
}

impl Driver {
    /// Puts the device in a fleet, with the director's root that it was made with.
    ///
    /// # Errors
    /// The director's metadata store cannot be opened.
    pub fn in_fleet(mut self, director_root: &[u8]) -> Result<Self, DriverError> {
        let folder = self.device.data_dir.join("director");
        let store = MetadataStore::open(self.ports.storage.clone(), &folder)?;
        store.init(director_root)?;
        self.fleet = Some(Fleet { store, heard: None });
        Ok(self)
    }

    /// Of the image repository's releases, the one that the director offers, where both agree.
    pub(super) fn offered(
        &mut self,
        targets: Vec<TrustedTarget>,
    ) -> Result<Vec<TrustedTarget>, LookError> {
        let Some(assignment) = self.assignment()? else {
            return Ok(targets);
        };
        let Some(offer) = assignment.offer() else {
            return Ok(Vec::new());
        };
        let unknown = director::DirectorError::Differ {
            what: "existence",
            path: offer.path().clone(),
        };
        let target = targets
            .into_iter()
            .find(|target| target.path() == offer.path());
        let agreed: Agreed = offer.agree(target.ok_or(unknown)?)?;
        Ok(vec![agreed.target().clone()])
    }

    /// What the director says; `None` for a device that lives alone.
    fn assignment(&mut self) -> Result<Option<Assignment>, LookError> {
        let Some(fleet) = &mut self.fleet else {
            return Ok(None);
        };
        let start = update_start(self.ports.clock.wall(), &fleet.store);
        let mut fetch = DirectorFetch(self.ports.network.as_mut());
        let trusted = Updater::new(&fleet.store, &mut fetch, director::LENGTHS).refresh(start)?;
        let reporter = &self.device.reporter;
        let assignment = Assignment::read(&trusted, &reporter.device, &reporter.hardware)?;
        fleet.heard = assignment.offer().and_then(|offer| {
            Some(Heard {
                release: offer.sha256()?,
                begin_before: offer.terms().begin_before,
            })
        });
        Ok(Some(assignment))
    }

    /// Before the device leaves service: whether the offer still stands. Where the director cannot
    /// be reached, the offer as it was heard last counts for as long as its own time; one that
    /// this process never heard does not count.
    pub(super) fn still_offered(&mut self, event: Event) -> Event {
        if self.fleet.is_none() || event != Event::GatesOpen {
            return event;
        }
        let Some(wanted) = self.state.phase.plan().map(|plan| plan.release.sha256) else {
            return event;
        };
        let asked = self.assignment();
        let reached = match &asked {
            Ok(_) => true,
            Err(LookError::Update(error)) if error.is_network() => false,
            Err(error) => {
                self.watch
                    .note(&format!("the director is not believed: {error}"));
                return closed();
            }
        };
        let heard = self.fleet.as_ref().and_then(|fleet| fleet.heard);
        let now = self.now();
        match heard {
            Some(heard) if heard.release == wanted => match heard.begin_before {
                Some(end) if now >= end => {
                    withdrawn(&format!("its time to begin was over at {end}"))
                }
                _ => event,
            },
            _ if reached => withdrawn("the director does not offer it any more"),
            _ => {
                self.watch
                    .note("waiting for: director, which cannot be reached");
                closed()
            }
        }
    }
}

fn closed() -> Event {
    Event::GatesClosed(vec!["director".to_owned()])
}

fn withdrawn(text: &str) -> Event {
    Event::Withdrawn(Fault {
        guilty: Guilty::Repository.into(),
        code: WITHDRAWN_CODE.to_owned(),
        text: text.to_owned(),
        retry_after_secs: None,
    })
}
