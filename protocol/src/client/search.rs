//! Lookups in the targets of a finished refresh.

use alloc::vec::Vec;

use super::refresh::at_most;
use super::{Answer, LocalName, Step, Trusted, Wanted};
use crate::downgrade;
use crate::name::{ProductName, RoleName, TargetPath};
use crate::paths;
use crate::release;
use crate::trust::{TrustError, TrustedTarget, Walk, WalkStep};

/// A conversation that looks something up, driven like a refresh.
pub trait Search {
    /// What is needed next.
    ///
    /// # Errors
    /// A role that is delegated to and not in the snapshot; too many roles.
    fn step(&mut self, trusted: &Trusted) -> Result<Step, TrustError>;

    /// Takes the answer to the last `step`.
    ///
    /// # Errors
    /// A role's file that is not believed.
    fn answer(&mut self, trusted: &mut Trusted, answer: Answer<'_>) -> Result<(), TrustError>;
}

/// Looks for one target by its path.
pub struct Find {
    walk: Walk,
    need: Need,
    found: Option<TrustedTarget>,
}

/// What the walk waits for.
enum Need {
    Nothing,
    Local(RoleName),
    Remote(RoleName),
    Store(RoleName, Vec<u8>),
}

impl Find {
    /// Looks for `path`.
    pub fn new(path: TargetPath) -> Self {
        Self {
            walk: Walk::new(path),
            need: Need::Nothing,
            found: None,
        }
    }

    /// The target; `None` before [`Step::Done`], and where no role describes it.
    pub fn found(&self) -> Option<&TrustedTarget> {
        self.found.as_ref()
    }
}

impl Search for Find {
    fn step(&mut self, trusted: &Trusted) -> Result<Step, TrustError> {
        if matches!(self.need, Need::Nothing) {
            match self.walk.step(&trusted.set)? {
                WalkStep::Need(role) => self.need = Need::Local(role),
                WalkStep::Found(target) => self.found = Some(*target),
                WalkStep::NotFound => {}
            }
        }
        match &self.need {
            Need::Nothing => Ok(Step::Done),
            Need::Local(role) => {
                trusted.set.wanted(role)?;
                Ok(Step::Load(LocalName::Targets(role.clone())))
            }
            Need::Remote(role) => {
                let wanted = trusted.set.wanted(role)?;
                let file = paths::role_file(role, trusted.set.file_version(wanted.version));
                let max_len = at_most(wanted, trusted.lengths.targets);
                Ok(Step::Fetch(Wanted { file, max_len }))
            }
            Need::Store(role, bytes) => {
                Ok(Step::Store(LocalName::Targets(role.clone()), bytes.clone()))
            }
        }
    }

    fn answer(&mut self, trusted: &mut Trusted, answer: Answer<'_>) -> Result<(), TrustError> {
        let need = core::mem::replace(&mut self.need, Need::Nothing);
        self.need = match (need, answer) {
            (Need::Local(role), Answer::Bytes(bytes)) => {
                match self.walk.take(&mut trusted.set, bytes) {
                    Ok(()) => Need::Nothing,
                    Err(_) => Need::Remote(role),
                }
            }
            (Need::Local(role), Answer::NotFound) => Need::Remote(role),
            (Need::Remote(role), Answer::Bytes(bytes)) => {
                self.walk.take(&mut trusted.set, bytes)?;
                Need::Store(role, bytes.to_vec())
            }
            (Need::Remote(role), Answer::NotFound) => {
                return Err(TrustError::Missing {
                    file: paths::role_file(&role, None),
                });
            }
            (Need::Store(..), Answer::Stored) => Need::Nothing,
            _ => return Err(TrustError::OutOfTurn),
        };
        Ok(())
    }
}

/// Looks for all releases of a product: loads the roles that are trusted for its paths, then
/// lists the release targets in them, each resolved by a walk of its own, so that only the role
/// that a lookup would find counts.
pub struct Releases {
    probe: Find,
    product: ProductName,
}

impl Releases {
    /// Of this product.
    pub fn new(product: ProductName) -> Self {
        let probe = TargetPath::parse(&release::probe_path(&product))
            .expect("a product name and a fixed word make a path");
        Self {
            probe: Find::new(probe),
            product,
        }
    }

    /// The release targets; complete after [`Step::Done`].
    pub fn found(&self, trusted: &Trusted) -> Vec<TrustedTarget> {
        self.listed(trusted, |path| {
            release::is_release_path(&self.product, path)
        })
    }

    /// The downgrade records; complete after [`Step::Done`].
    pub fn downgrades(&self, trusted: &Trusted) -> Vec<TrustedTarget> {
        self.listed(trusted, |path| {
            downgrade::serial_of(&self.product, path).is_some()
        })
    }

    fn listed(
        &self,
        trusted: &Trusted,
        is_wanted: impl Fn(&TargetPath) -> bool,
    ) -> Vec<TrustedTarget> {
        let seen = self.probe.walk.seen_targets(&trusted.set);
        let paths = seen.map(|(path, _)| path).filter(|path| is_wanted(path));
        let resolved = paths.filter_map(|path| match Walk::new(path.clone()).step(&trusted.set) {
            Ok(WalkStep::Found(target)) => Some(*target),
            _ => None,
        });
        let mut targets: Vec<TrustedTarget> = resolved.collect();
        targets.sort_by(|a, b| a.path().cmp(b.path()));
        targets.dedup();
        targets
    }
}

impl Search for Releases {
    fn step(&mut self, trusted: &Trusted) -> Result<Step, TrustError> {
        self.probe.step(trusted)
    }

    fn answer(&mut self, trusted: &mut Trusted, answer: Answer<'_>) -> Result<(), TrustError> {
        self.probe.answer(trusted, answer)
    }
}
