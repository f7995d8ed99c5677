//! Refreshes the metadata and looks for a release that this device takes.

use std::collections::BTreeSet;

use ampoule_protocol::director::DirectorError;
use ampoule_protocol::downgrade::Downgrade;
use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::NotFor;
use ampoule_protocol::name::ComponentName;
use ampoule_protocol::release::{Component, FileRef, Release, ReleaseError};
use ampoule_protocol::trust::TrustedTarget;

use super::{Driver, DriverError};
use crate::boot::BootError;
use crate::choose::{self, Candidate, Passed, Policy, RunningImages};
use crate::install::digest_of;
use crate::machine::{BootViews, Event, Fault, Installed, Plan, Slot};
use crate::ports::Access;
use crate::receipt::Reporter;
use crate::trust::{UpdateError, Updater, update_start};

/// What a look at the repository found.
#[derive(Debug)]
pub struct Found {
    /// The update, if there is one.
    pub plan: Option<Plan>,
    /// Releases that this device does not take, with the reason.
    pub passed: Vec<Passed>,
    /// Images that were recognised in running slots.
    pub recognised: Vec<(ComponentName, Slot, Installed)>,
}

/// A look that did not end.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The refresh or a lookup.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// A release description.
    #[error("release \"{path}\" is not understood")]
    Release {
        /// Its target path.
        path: String,
        /// Why.
        source: ReleaseError,
    },
    /// A bundle that was made for others.
    #[error("the bundle is for {}", match .0 {
        NotFor::Product => "another product",
        NotFor::Hardware => "other hardware",
        NotFor::Device => "other devices of this kind",
    })]
    OtherBundle(NotFor),
    /// The boot settings.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The director, or what it says against the image repository.
    #[error(transparent)]
    Director(#[from] DirectorError),
}

impl Coded for LookError {
    fn code(&self) -> &'static str {
        match self {
            Self::Update(error) => error.code(),
            Self::Release { source, .. } => source.code(),
            Self::OtherBundle(_) => "bundle-for-others",
            Self::Boot(error) => error.code(),
            Self::Director(error) => error.code(),
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Update(error) => error.guilty(),
            Self::Release { source, .. } => source.guilty(),
            Self::OtherBundle(_) => Guilty::Operator,
            Self::Boot(error) => error.guilty(),
            Self::Director(error) => error.guilty(),
        }
    }
}

/// Distinct lengths of bases for which an unknown running slot is hashed.
const RECOGNISE_MAX: usize = 8;

impl Driver {
    pub(super) fn perform_check(&mut self) -> Result<Event, DriverError> {
        if let Err(error) = self.send_inventory() {
            self.watch
                .note(&format!("the inventory was not taken: {error}"));
        }
        Ok(match self.look() {
            Ok(found) => {
                self.tell_passed(&found.passed)?;
                match found.plan {
                    Some(plan) => Event::Offered(Box::new(plan)),
                    None => Event::NothingNew(found.recognised),
                }
            }
            Err(error) => {
                let retry_after_secs = match &error {
                    LookError::Update(error) => error.retry_after_secs(),
                    LookError::Release { .. }
                    | LookError::OtherBundle(_)
                    | LookError::Boot(_)
                    | LookError::Director(_) => None,
                };
                Event::Failed(Fault {
                    retry_after_secs,
                    ..Fault::of(&error)
                })
            }
        })
    }

    /// Notes what was passed over and why, for `status`; each is told once.
    fn tell_passed(&mut self, passed: &[Passed]) -> Result<(), DriverError> {
        let known = &self.state.facts.passed;
        let news = passed.iter().filter(|release| !known.contains(release));
        for Passed { version, why, .. } in news {
            self.watch
                .note(&format!("release {version} is passed over: {why}"));
        }
        self.step(Event::PassedOver(passed.to_vec()))?;
        Ok(())
    }

    /// Refreshes the metadata and says what this device would take; installs nothing.
    ///
    /// # Errors
    /// See [`LookError`].
    pub fn look(&mut self) -> Result<Found, LookError> {
        let start = update_start(self.ports.clock.wall(), &self.store);
        let mut updater = Updater::new(&self.store, self.ports.network.as_mut(), Lengths::DEFAULT);
        let mut trusted = updater.refresh(start)?;
        if let Some(bundle) = trusted.set().bundle() {
            let Reporter {
                device,
                product,
                hardware,
            } = &self.device.reporter;
            let fits = bundle.is_for(product, hardware, device);
            fits.map_err(LookError::OtherBundle)?;
        }
        let product = self.device.reporter.product.clone();
        let (targets, records) = updater.listed(&mut trusted, product)?;
        let records = self.readable(&records);
        let targets = self.offered(targets)?;
        let mut candidates = Vec::new();
        for target in targets {
            let candidate = Self::candidate(&target)?;
            candidates.extend(self.on_offer(candidate));
        }
        let views = self.views()?;
        let running = self.running(&views);
        Ok(self.choose(&views, running, candidates, &records))
    }

    /// The downgrade records that are understood; another one lets nothing fall, and holds nobody
    /// else's update up.
    fn readable(&mut self, records: &[TrustedTarget]) -> Vec<Downgrade> {
        let mut readable = Vec::new();
        for target in records {
            match Downgrade::of_target(target) {
                Ok(record) => readable.push(record),
                Err(error) => {
                    let path = target.path();
                    self.watch
                        .note(&format!("\"{path}\" is left aside: {error}"));
                }
            }
        }
        readable
    }

    /// What can be had of a release here: a bundle holds some releases and some deltas.
    fn on_offer(&self, mut candidate: Candidate) -> Option<Candidate> {
        let holds = |file: &FileRef| self.ports.network.holds(&file.file_name());
        for component in &mut candidate.release.components {
            component.deltas.retain(|delta| holds(&delta.file));
        }
        holds(&candidate.target).then_some(candidate)
    }

    fn candidate(target: &TrustedTarget) -> Result<Candidate, LookError> {
        let path = target.path().clone();
        let fail = |source| LookError::Release {
            path: path.to_string(),
            source,
        };
        let release = Release::of_target(target).map_err(fail)?;
        let sha256 = target
            .file()
            .hashes
            .sha256
            .ok_or_else(|| fail(ReleaseError::Form("its target has no SHA-256".to_owned())))?;
        let length = target.file().length;
        Ok(Candidate {
            target: FileRef {
                path: path.clone(),
                length,
                sha256,
            },
            release,
        })
    }

    fn choose(
        &self,
        views: &BootViews,
        mut running: RunningImages,
        candidates: Vec<Candidate>,
        records: &[Downgrade],
    ) -> Found {
        let device = &self.device;
        let policy = Policy {
            hardware: &device.hardware,
            region: device.region.as_deref(),
            facts: &device.facts,
            patch_memory_max: device.patch_memory_max,
            whole_bytes_max: device.whole_bytes_max,
            now: self.now(),
            places: &device.places,
            views,
            device: &device.reporter.device,
            records,
        };
        let facts = &self.state.facts;
        let (allowed, mut passed) = choose::allowed(&policy, facts, &running, candidates);
        let mut recognised = Vec::new();
        let mut settled = BTreeSet::new();
        for candidate in allowed {
            for component in candidate.release.for_hardware(&device.hardware) {
                if running.contains_key(&component.name) {
                    continue;
                }
                if let Some((slot, image)) = self.recognise(views, component, &candidate.release) {
                    recognised.push((component.name.clone(), slot, image.clone()));
                    running.insert(component.name.clone(), image);
                }
            }
            match choose::plan(&policy, facts, &running, &candidate, &settled) {
                // A release of the drug library alone does not hide the last of the rest.
                Ok(None) => {
                    let named = candidate.release.for_hardware(&device.hardware);
                    settled.extend(named.map(|component| component.name.clone()));
                }
                Ok(plan) => {
                    return Found {
                        plan,
                        passed,
                        recognised,
                    };
                }
                Err(refused) => passed.push(refused),
            }
        }
        Found {
            plan: None,
            passed,
            recognised,
        }
    }

    /// What runs, where the journal knows it.
    pub(super) fn running(&self, views: &BootViews) -> RunningImages {
        let slots = &self.state.facts.slots;
        let image = |(component, view): (&ComponentName, &crate::machine::BootView)| {
            let image = slots.get(component)?.get(&view.running)?;
            Some((component.clone(), image.clone()))
        };
        views.iter().filter_map(image).collect()
    }

    /// Recognises the image in a running slot that nobody told of, by its digest: the release's
    /// own, or a base of its patches.
    fn recognise(
        &self,
        views: &BootViews,
        component: &Component,
        release: &Release,
    ) -> Option<(Slot, Installed)> {
        let view = views.get(&component.name)?;
        let place = self
            .device
            .places
            .iter()
            .find(|place| place.component == component.name && !place.is_module())?;
        let storage = &self.ports.storage;
        let file = storage
            .open(place.slot_path(view.running), Access::Read)
            .ok()?;
        let found_len = file.len().ok()?;
        let own = Installed {
            version: Some(release.version.clone()),
            rollback_index: release.rollback_index,
            sha256: component.artifact.sha256,
            length: component.artifact.length,
        };
        let bases = component.deltas.iter().map(|delta| Installed {
            version: Some(delta.base.version.clone()),
            rollback_index: self.state.facts.floor,
            sha256: delta.base.sha256,
            length: delta.base.length,
        });
        let mut known: Vec<Installed> = std::iter::once(own).chain(bases).collect();
        known.retain(|image| image.length <= found_len);
        let mut lengths: Vec<u64> = known.iter().map(|image| image.length).collect();
        lengths.sort_unstable();
        lengths.dedup();
        for length in lengths.into_iter().take(RECOGNISE_MAX) {
            let digest = digest_of(file.as_ref(), length, &mut |_| {}).ok()?;
            let same = |image: &&Installed| image.length == length && image.sha256 == digest;
            if let Some(image) = known.iter().find(same) {
                return Some((view.running, image.clone()));
            }
        }
        None
    }
}
