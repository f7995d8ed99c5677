//! The set of trusted metadata, a type for each place in the client workflow.

use alloc::collections::BTreeMap;
use alloc::string::ToString;

use super::{Fresh, KeyRing, TrustError, UpdateStart, Verified};
use crate::metadata::{
    Bundle, Envelope, MetaFile, Payload, RoleType, Root, Snapshot, Targets, Timestamp,
};
use crate::name::RoleName;
use crate::version::MetaVersion;

/// The trusted metadata so far; `S` says how far the workflow came and holds what is known there.
#[derive(Debug, Clone)]
pub struct TrustedSet<S> {
    root: Verified<Root>,
    state: S,
}

/// Newer roots are being looked for.
#[derive(Debug, Clone)]
pub struct Rotating(());

/// Root is final; the timestamp comes next.
#[derive(Debug, Clone)]
pub struct AtTimestamp {
    start: UpdateStart,
    floor: Option<Verified<Timestamp>>,
}

/// What says which snapshot is the newest.
#[derive(Debug, Clone)]
enum Vouching {
    Timestamp(Fresh<Timestamp>),
    Bundle(Fresh<Bundle>),
}

impl Vouching {
    fn snapshot(&self) -> &MetaFile {
        match self {
            Self::Timestamp(timestamp) => &timestamp.snapshot,
            Self::Bundle(bundle) => &bundle.snapshot,
        }
    }

    fn bundle(&self) -> Option<&Bundle> {
        match self {
            Self::Timestamp(_) => None,
            Self::Bundle(bundle) => Some(bundle),
        }
    }
}

/// The timestamp, or a bundle's statement, is trusted; the snapshot comes next.
#[derive(Debug, Clone)]
pub struct AtSnapshot {
    start: UpdateStart,
    vouching: Vouching,
    floor: Option<Verified<Snapshot>>,
}

/// The snapshot is trusted; top-level targets come next.
#[derive(Debug, Clone)]
pub struct AtTargets {
    start: UpdateStart,
    vouching: Vouching,
    snapshot: Fresh<Snapshot>,
}

/// All four top-level roles are trusted; delegated ones join as they are needed.
#[derive(Debug, Clone)]
pub struct Complete {
    start: UpdateStart,
    vouching: Vouching,
    snapshot: Fresh<Snapshot>,
    targets: Fresh<Targets>,
    /// By (delegator, role): the same role file may be trusted by one delegator and not by
    /// another.
    delegated: BTreeMap<(RoleName, RoleName), Fresh<Targets>>,
}

/// Whether a file replaced the trusted one and is to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It is trusted now.
    New,
    /// It has the version of the trusted one, which stays.
    Kept,
}

impl<S> TrustedSet<S> {
    /// The trusted root.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The version under which a file is named: its own with consistent snapshots, else none.
    pub fn file_version(&self, version: MetaVersion) -> Option<MetaVersion> {
        self.root.consistent_snapshot.then_some(version)
    }

    fn top_level<T: Payload>(&self, bytes: &[u8]) -> Result<Verified<T>, TrustError> {
        let name = T::NAME;
        KeyRing::of_root(&self.root, T::TYPE).verify(name, &read(name, bytes)?)
    }
}

fn read(name: &str, bytes: &[u8]) -> Result<Envelope, TrustError> {
    Envelope::parse(bytes).map_err(|source| TrustError::envelope(name, source))
}

impl TrustedSet<Rotating> {
    /// Begins with the root that is trusted already: shipped with the device, or stored before
    /// (5.2). It must be signed by its own keys.
    pub fn begin(bytes: &[u8]) -> Result<Self, TrustError> {
        let envelope = read("root", bytes)?;
        let root = self_signed(&envelope)?;
        Ok(Self {
            root,
            state: Rotating(()),
        })
    }

    /// The version of the root to ask for next (5.3.2); `None` at the end of the numbers.
    pub fn next_version(&self) -> Option<MetaVersion> {
        self.root.common.version.next()
    }

    /// Takes the next root: signed by the trusted root's keys and by its own (5.3.4), and exactly
    /// one version newer (5.3.5). It may be expired (5.3.7).
    pub fn rotate(self, bytes: &[u8]) -> Result<Self, TrustError> {
        let envelope = read("root", bytes)?;
        KeyRing::of_root(&self.root, RoleType::Root).verify::<Root>("root", &envelope)?;
        let root = self_signed(&envelope)?;
        let (found, trusted) = (root.common.version, self.root.common.version);
        match self.next_version() {
            Some(expected) if found == expected => Ok(Self { root, ..self }),
            Some(expected) => Err(TrustError::Version {
                role: "root".to_string(),
                found,
                expected,
            }),
            None => Err(TrustError::Rollback {
                role: "root".to_string(),
                found,
                trusted,
            }),
        }
    }

    /// There is no newer root: the one we have must not be expired (5.3.10).
    ///
    /// Fast-forward recovery (5.3.11) needs no deletion here: what was stored before is believed
    /// only if the keys of *this* root signed it, so rotated keys drop it.
    pub fn finish_root(self, start: UpdateStart) -> Result<TrustedSet<AtTimestamp>, TrustError> {
        self.root.clone().fresh("root", start)?;
        Ok(TrustedSet {
            root: self.root,
            state: AtTimestamp { start, floor: None },
        })
    }
}

fn self_signed(envelope: &Envelope) -> Result<Verified<Root>, TrustError> {
    let root = <Root as Payload>::from_signed(envelope.unverified())
        .map_err(|source| TrustError::format("root", source))?;
    KeyRing::of_root(&root, RoleType::Root).verify("root", envelope)
}

impl TrustedSet<AtTimestamp> {
    /// Takes the stored timestamp as the floor, expired or not. An error only means that there is
    /// no floor.
    pub fn local_timestamp(&mut self, bytes: &[u8]) -> Result<(), TrustError> {
        self.state.floor = Some(self.top_level(bytes)?);
        Ok(())
    }

    /// Takes the repository's timestamp (5.4).
    ///
    /// Off-spec: an equal version keeps the trusted file and goes on rather than ending the
    /// update (5.4.3.1), as every client does: the snapshot may not have been stored yet.
    pub fn timestamp(self, bytes: &[u8]) -> Result<(TrustedSet<AtSnapshot>, Adopted), TrustError> {
        let new: Verified<Timestamp> = self.top_level(bytes)?;
        let AtTimestamp { start, floor } = self.state;
        let (chosen, adopted) = match floor {
            None => (new, Adopted::New),
            Some(floor) if floor.common.version == new.common.version => (floor, Adopted::Kept),
            Some(floor) => {
                never_falls("timestamp", new.common.version, floor.common.version)?;
                never_falls("snapshot", new.snapshot.version, floor.snapshot.version)?;
                (new, Adopted::New)
            }
        };
        let vouching = Vouching::Timestamp(chosen.fresh("timestamp", start)?);
        let set = Self::vouched(self.root, start, vouching);
        Ok((set, adopted))
    }

    /// Takes a bundle's statement in place of the timestamp. It says nothing about timestamps and
    /// replaces none: the stored one stays the floor of the next.
    pub fn bundle(self, bytes: &[u8]) -> Result<TrustedSet<AtSnapshot>, TrustError> {
        let bundle: Verified<Bundle> = self.top_level(bytes)?;
        let AtTimestamp { start, floor } = self.state;
        if let Some(floor) = floor {
            never_falls("snapshot", bundle.snapshot.version, floor.snapshot.version)?;
        }
        let vouching = Vouching::Bundle(bundle.fresh(<Bundle as Payload>::NAME, start)?);
        Ok(Self::vouched(self.root, start, vouching))
    }

    fn vouched(
        root: Verified<Root>,
        start: UpdateStart,
        vouching: Vouching,
    ) -> TrustedSet<AtSnapshot> {
        let state = AtSnapshot {
            start,
            vouching,
            floor: None,
        };
        TrustedSet { root, state }
    }
}

fn never_falls(role: &str, found: MetaVersion, trusted: MetaVersion) -> Result<(), TrustError> {
    if found < trusted {
        return Err(TrustError::Rollback {
            role: role.to_string(),
            found,
            trusted,
        });
    }
    Ok(())
}

/// What the stored snapshot is good for.
#[derive(Debug)]
pub enum LocalSnapshot {
    /// It is the one that the timestamp names.
    Current(TrustedSet<AtTargets>),
    /// It is a floor at best; the repository has to be asked.
    Older(TrustedSet<AtSnapshot>),
}

impl TrustedSet<AtSnapshot> {
    /// The snapshot that is vouched for.
    pub fn wanted(&self) -> &MetaFile {
        self.state.vouching.snapshot()
    }

    /// The bundle's statement, where it is one that vouches.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.state.vouching.bundle()
    }

    /// Takes the stored snapshot: as it is where the timestamp still names it, else as the floor.
    pub fn local_snapshot(mut self, bytes: &[u8]) -> LocalSnapshot {
        let Ok(snapshot) = self.top_level::<Snapshot>(bytes) else {
            return LocalSnapshot::Older(self);
        };
        let start = self.state.start;
        let named = snapshot.common.version == self.wanted().version && self.wanted().fits(bytes);
        match snapshot.clone().fresh("snapshot", start) {
            Ok(fresh) if named => LocalSnapshot::Current(self.with_snapshot(fresh)),
            _ => {
                self.state.floor = Some(snapshot);
                LocalSnapshot::Older(self)
            }
        }
    }

    /// Takes the repository's snapshot (5.5).
    pub fn snapshot(self, bytes: &[u8]) -> Result<TrustedSet<AtTargets>, TrustError> {
        if !self.wanted().fits(bytes) {
            return Err(TrustError::Mismatch {
                role: "snapshot".to_string(),
            });
        }
        let new: Verified<Snapshot> = self.top_level(bytes)?;
        if let Some(floor) = &self.state.floor {
            for (file, trusted) in &floor.meta {
                let found = new
                    .meta
                    .get(file)
                    .ok_or_else(|| TrustError::Removed { file: file.clone() })?;
                never_falls(file, found.version, trusted.version)?;
            }
        }
        expect_version("snapshot", new.common.version, self.wanted().version)?;
        let fresh = new.fresh("snapshot", self.state.start)?;
        Ok(self.with_snapshot(fresh))
    }

    fn with_snapshot(self, snapshot: Fresh<Snapshot>) -> TrustedSet<AtTargets> {
        let AtSnapshot {
            start, vouching, ..
        } = self.state;
        TrustedSet {
            root: self.root,
            state: AtTargets {
                start,
                vouching,
                snapshot,
            },
        }
    }
}

fn expect_version(role: &str, found: MetaVersion, expected: MetaVersion) -> Result<(), TrustError> {
    if found != expected {
        return Err(TrustError::Version {
            role: role.to_string(),
            found,
            expected,
        });
    }
    Ok(())
}

fn in_snapshot<'a>(snapshot: &'a Snapshot, role: &RoleName) -> Result<&'a MetaFile, TrustError> {
    snapshot
        .role(role)
        .ok_or_else(|| TrustError::NotInSnapshot {
            role: role.to_string(),
        })
}

/// Steps 5.6.2 to 5.6.5, for targets and delegated roles alike.
fn check_targets(
    name: &RoleName,
    ring: &KeyRing<'_>,
    meta: &MetaFile,
    start: UpdateStart,
    bytes: &[u8],
) -> Result<Fresh<Targets>, TrustError> {
    if !meta.fits(bytes) {
        return Err(TrustError::Mismatch {
            role: name.to_string(),
        });
    }
    let targets: Verified<Targets> = ring.verify(name.as_str(), &read(name.as_str(), bytes)?)?;
    expect_version(name.as_str(), targets.common.version, meta.version)?;
    targets.fresh(name.as_str(), start)
}

impl TrustedSet<AtTargets> {
    /// The top-level targets that the snapshot names.
    pub fn wanted(&self) -> Result<&MetaFile, TrustError> {
        in_snapshot(&self.state.snapshot, &RoleName::targets())
    }

    /// Checks top-level targets, stored or fetched (5.6).
    pub fn check_targets(&self, bytes: &[u8]) -> Result<Fresh<Targets>, TrustError> {
        let ring = KeyRing::of_root(&self.root, RoleType::Targets);
        check_targets(
            &RoleName::targets(),
            &ring,
            self.wanted()?,
            self.state.start,
            bytes,
        )
    }

    /// Goes on with what [`Self::check_targets`] gave.
    pub fn targets(self, targets: Fresh<Targets>) -> TrustedSet<Complete> {
        let AtTargets {
            start,
            vouching,
            snapshot,
        } = self.state;
        let delegated = BTreeMap::new();
        let state = Complete {
            start,
            vouching,
            snapshot,
            targets,
            delegated,
        };
        TrustedSet {
            root: self.root,
            state,
        }
    }
}

impl TrustedSet<Complete> {
    /// When this update started.
    pub fn start(&self) -> UpdateStart {
        self.state.start
    }

    /// The trusted timestamp, where it is one that vouches for the snapshot.
    pub fn timestamp(&self) -> Option<&Timestamp> {
        match &self.state.vouching {
            Vouching::Timestamp(timestamp) => Some(timestamp),
            Vouching::Bundle(_) => None,
        }
    }

    /// The bundle's statement, where it is one that vouches for the snapshot.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.state.vouching.bundle()
    }

    /// The trusted snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.state.snapshot
    }

    /// The trusted top-level targets.
    pub fn targets(&self) -> &Targets {
        &self.state.targets
    }

    /// A delegated role, where it was taken already for this delegator.
    pub fn role(&self, delegator: &RoleName, role: &RoleName) -> Option<&Targets> {
        self.state
            .delegated
            .get(&(delegator.clone(), role.clone()))
            .map(|fresh| &**fresh)
    }

    /// The file of a delegated role that the snapshot names.
    pub fn wanted(&self, role: &RoleName) -> Result<&MetaFile, TrustError> {
        in_snapshot(&self.state.snapshot, role)
    }

    /// Takes a delegated role, stored or fetched, whose `delegator` was reached on the way
    /// `from` its own delegator (5.6.7).
    pub fn delegated(
        &mut self,
        delegator: (&RoleName, Option<&RoleName>),
        role: &RoleName,
        bytes: &[u8],
    ) -> Result<(), TrustError> {
        let (name, from) = delegator;
        let not_delegated = || TrustError::NotDelegated {
            delegator: name.clone(),
            role: role.clone(),
        };
        let parent = match from {
            None => self.targets(),
            Some(from) => self.role(from, name).ok_or_else(not_delegated)?,
        };
        let ring = parent
            .delegations
            .as_ref()
            .and_then(|delegations| KeyRing::of_delegated(delegations, role))
            .ok_or_else(not_delegated)?;
        let fresh = check_targets(role, &ring, self.wanted(role)?, self.state.start, bytes)?;
        self.state
            .delegated
            .insert((name.clone(), role.clone()), fresh);
        Ok(())
    }
}
