//! Looking a target up: a preorder walk over delegations (TUF 1.0.34 section 5.6.7).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{Complete, TrustError, TrustedSet};
use crate::limits::DELEGATED_ROLES_MAX;
use crate::metadata::{TargetFile, Targets};
use crate::name::{RoleName, TargetPath};

/// A target, described by a role that is trusted for its path. Only [`Walk`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedTarget {
    path: TargetPath,
    role: RoleName,
    file: TargetFile,
}

impl TrustedTarget {
    /// Its path.
    pub fn path(&self) -> &TargetPath {
        &self.path
    }

    /// The role that describes it.
    pub fn role(&self) -> &RoleName {
        &self.role
    }

    /// Length, digests, custom.
    pub fn file(&self) -> &TargetFile {
        &self.file
    }
}

/// A role on the way, and through whom it was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Visit {
    role: RoleName,
    /// Its delegator, and that one's own; none for top-level targets.
    delegator: Option<(RoleName, Option<RoleName>)>,
}

/// A lookup under way.
///
/// Each role is visited once, at most [`DELEGATED_ROLES_MAX`] of them; a terminating delegation
/// that is trusted for the path ends the asking of others, found or not.
#[derive(Debug, Clone)]
pub struct Walk {
    path: TargetPath,
    stack: Vec<Visit>,
    seen: BTreeSet<RoleName>,
    visited: Vec<Visit>,
}

/// What a walk needs, or found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WalkStep {
    /// This role's file, then ask again.
    Need(RoleName),
    /// The target.
    Found(Box<TrustedTarget>),
    /// No role describes it.
    NotFound,
}

impl Walk {
    /// Looks for `path`.
    pub fn new(path: TargetPath) -> Self {
        let first = Visit {
            role: RoleName::targets(),
            delegator: None,
        };
        Self {
            path,
            stack: alloc::vec![first],
            seen: BTreeSet::new(),
            visited: Vec::new(),
        }
    }

    /// What it looks for.
    pub fn path(&self) -> &TargetPath {
        &self.path
    }

    /// Goes on as far as the set allows.
    ///
    /// # Errors
    /// Too many roles.
    pub fn step(&mut self, set: &TrustedSet<Complete>) -> Result<WalkStep, TrustError> {
        while let Some(visit) = self.stack.last() {
            if self.seen.contains(&visit.role) {
                self.stack.pop();
                continue;
            }
            let Some(targets) = visit.targets(set) else {
                if self.visited.len() > DELEGATED_ROLES_MAX {
                    return Err(TrustError::TooManyRoles {
                        path: self.path.clone(),
                    });
                }
                return Ok(WalkStep::Need(visit.role.clone()));
            };
            if let Some(file) = targets.targets.get(&self.path) {
                let (path, role) = (self.path.clone(), visit.role.clone());
                let target = TrustedTarget {
                    path,
                    role,
                    file: file.clone(),
                };
                return Ok(WalkStep::Found(Box::new(target)));
            }
            let visit = visit.clone();
            self.descend(visit, targets);
        }
        Ok(WalkStep::NotFound)
    }

    fn descend(&mut self, visit: Visit, targets: &Targets) {
        self.stack.pop();
        let from = visit.delegator.as_ref().map(|(name, _)| name.clone());
        let mut children = Vec::new();
        for (role, terminating) in targets
            .delegations
            .iter()
            .flat_map(|delegations| delegations.roles_for(&self.path))
        {
            children.push(Visit {
                role,
                delegator: Some((visit.role.clone(), from.clone())),
            });
            if terminating {
                self.stack.clear();
                break;
            }
        }
        self.stack.extend(children.into_iter().rev());
        self.seen.insert(visit.role.clone());
        self.visited.push(visit);
    }

    /// Hands in the file of the role that was needed.
    ///
    /// # Errors
    /// As [`TrustedSet::delegated`]; nothing was asked for.
    pub fn take(&self, set: &mut TrustedSet<Complete>, bytes: &[u8]) -> Result<(), TrustError> {
        let visit = self.stack.last().ok_or(TrustError::OutOfTurn)?;
        let (name, from) = visit.delegator.as_ref().ok_or(TrustError::OutOfTurn)?;
        set.delegated((name, from.as_ref()), &visit.role, bytes)
    }

    /// All targets of the roles visited so far, in the order of the walk.
    pub fn seen_targets<'a>(
        &'a self,
        set: &'a TrustedSet<Complete>,
    ) -> impl Iterator<Item = (&'a TargetPath, &'a TargetFile)> {
        let targets = self.visited.iter().filter_map(|visit| visit.targets(set));
        targets.flat_map(|targets| &targets.targets)
    }
}

impl Visit {
    fn targets<'a>(&self, set: &'a TrustedSet<Complete>) -> Option<&'a Targets> {
        match &self.delegator {
            None => Some(set.targets()),
            Some((delegator, _)) => set.role(delegator, &self.role),
        }
    }
}
