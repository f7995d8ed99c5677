//! A published tree, read back and verified, expiry aside.
//!
//! The workspace builds on what was signed last; it must not build on what somebody else put
//! there. So every file is verified as a client would (TUF 1.0.34 section 5), except that an
//! expired file still says what was signed last.
//!
//! A crash may fall between the new root and the new timestamp ([`crate::publish`] writes them
//! last, in this order). Then the newest root may name keys that the timestamp does not have yet,
//! and the tree is read under the root before.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{
    Envelope, Listing, MetaFile, Payload, RoleType, Root, Snapshot, Targets, Timestamp,
};
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::trust::{KeyRing, TrustError};
use ampoule_protocol::version::MetaVersion;

use crate::durable;
use crate::error::{SignerError, TreeError};

/// Root versions in one tree; a rotation a day for 27 years.
const ROOTS_MAX: u64 = 10_000;
/// We read trees of our own, so the bound is the signer's, not a device's.
const TARGETS_LEN_MAX: u64 = 64 << 20;

/// A metadata file that a threshold signed.
#[derive(Debug, Clone)]
pub struct SignedFile<T> {
    /// Its bytes as published.
    pub bytes: Vec<u8>,
    /// The same with its signatures apart.
    pub envelope: Envelope,
    /// What it says.
    pub payload: T,
}

/// What a tree says, as of its timestamp.
#[derive(Debug, Clone)]
pub struct Published {
    /// All root versions, the first first.
    pub roots: Vec<SignedFile<Root>>,
    /// Position in `roots` of the one that the timestamp verifies under.
    pub trusted_root: usize,
    /// The timestamp.
    pub timestamp: SignedFile<Timestamp>,
    /// The snapshot that it names.
    pub snapshot: SignedFile<Snapshot>,
    /// The top-level targets.
    pub targets: SignedFile<Targets>,
    /// The delegated roles that the snapshot names.
    pub roles: BTreeMap<RoleName, SignedFile<Targets>>,
}

impl Published {
    /// Reads the tree at `dir`; `None` where nothing was published yet.
    ///
    /// # Errors
    /// Anything in it that does not verify.
    pub fn load(dir: &Path) -> Result<Option<Self>, SignerError> {
        let reader = Reader {
            tree: dir,
            metadata: dir.join(paths::METADATA_DIR),
        };
        let timestamp_path = reader.metadata.join(paths::TIMESTAMP_FILE);
        if !timestamp_path.is_file() {
            return Ok(None);
        }
        let roots = roots(&reader.metadata)?;
        let Some(newest) = roots.len().checked_sub(1) else {
            let file = paths::root_file(MetaVersion::FIRST);
            let tree = dir.to_owned();
            return Err(TreeError::Missing { tree, file }.into());
        };
        match reader.under(&roots, newest) {
            Err(_) if newest > 0 => match reader.under(&roots, newest - 1) {
                Ok(published) => Ok(Some(published)),
                // Of the two errors the one under the newest root tells more.
                Err(_) => reader.under(&roots, newest).map(Some),
            },
            other => other.map(Some),
        }
    }

    /// The newest root, whether or not the timestamp is already under it.
    pub fn newest_root(&self) -> &SignedFile<Root> {
        // `load` refuses a tree without any.
        &self.roots[self.roots.len() - 1]
    }

    /// The root that the timestamp verifies under.
    pub fn trusted_root(&self) -> &SignedFile<Root> {
        &self.roots[self.trusted_root]
    }

    /// The targets file of a role, top-level or delegated.
    pub fn targets_of(&self, role: &RoleName) -> Option<&SignedFile<Targets>> {
        if role.as_str() == "targets" {
            Some(&self.targets)
        } else {
            self.roles.get(role)
        }
    }

    /// The envelope and version of any role.
    pub fn role(&self, role: &RoleName) -> Option<(&Envelope, u64)> {
        fn parts<T: Payload>(file: &SignedFile<T>) -> (&Envelope, u64) {
            (&file.envelope, file.payload.version().get())
        }
        match role.as_str() {
            "root" => Some(parts(self.newest_root())),
            "timestamp" => Some(parts(&self.timestamp)),
            "snapshot" => Some(parts(&self.snapshot)),
            _ => self.targets_of(role).map(parts),
        }
    }

    /// Every target of every role, with its file below `targets/`.
    pub fn target_files(
        &self,
    ) -> Vec<(TargetPath, PathBuf, u64, ampoule_protocol::digest::Hashes)> {
        let files = std::iter::once(&self.targets).chain(self.roles.values());
        files
            .flat_map(|file| &file.payload.targets)
            .map(|(path, target)| {
                let file = paths::target_file(path, Some(&target.hashes));
                (
                    path.clone(),
                    PathBuf::from(file),
                    target.length,
                    target.hashes.clone(),
                )
            })
            .collect()
    }
}

struct Reader<'d> {
    tree: &'d Path,
    metadata: PathBuf,
}

impl Reader<'_> {
    fn under(&self, roots: &[SignedFile<Root>], at: usize) -> Result<Published, SignerError> {
        let root = &roots[at].payload;
        let top = |role| KeyRing::of_root(root, role);
        let timestamp: SignedFile<Timestamp> = self.file(
            paths::TIMESTAMP_FILE,
            Lengths::DEFAULT.timestamp,
            &top(RoleType::Timestamp),
            None,
        )?;
        let named = &timestamp.payload.snapshot;
        let snapshot: SignedFile<Snapshot> = self.file(
            &paths::snapshot_file(Some(named.version)),
            TARGETS_LEN_MAX,
            &top(RoleType::Snapshot),
            Some(named),
        )?;
        let targets = self.targets(
            &RoleName::targets(),
            &snapshot.payload,
            &top(RoleType::Targets),
        )?;
        let mut roles = BTreeMap::new();
        if let Some(delegations) = &targets.payload.delegations
            && let Listing::Roles(listed) = &delegations.roles
        {
            for role in listed {
                if snapshot.payload.role(&role.name).is_none() {
                    continue;
                }
                let Some(ring) = KeyRing::of_delegated(delegations, &role.name) else {
                    continue;
                };
                let file = self.targets(&role.name, &snapshot.payload, &ring)?;
                roles.insert(role.name.clone(), file);
            }
        }
        Ok(Published {
            roots: roots.to_vec(),
            trusted_root: at,
            timestamp,
            snapshot,
            targets,
            roles,
        })
    }

    fn targets(
        &self,
        role: &RoleName,
        snapshot: &Snapshot,
        ring: &KeyRing<'_>,
    ) -> Result<SignedFile<Targets>, SignerError> {
        let missing = || TreeError::Missing {
            tree: self.tree.to_owned(),
            file: role.to_string(),
        };
        let named = snapshot.role(role).ok_or_else(missing)?;
        let name = paths::role_file(role, Some(named.version));
        self.file(&name, TARGETS_LEN_MAX, ring, Some(named))
    }

    fn file<T: Payload>(
        &self,
        name: &str,
        len_max: u64,
        ring: &KeyRing<'_>,
        named: Option<&MetaFile>,
    ) -> Result<SignedFile<T>, SignerError> {
        let path = self.metadata.join(name);
        let missing = || TreeError::Missing {
            tree: self.tree.to_owned(),
            file: name.to_owned(),
        };
        let bytes = durable::read_if_there(&path, len_max)?.ok_or_else(missing)?;
        if named.is_some_and(|named| !named.fits(&bytes)) {
            let (path, len) = (path, bytes.len());
            return Err(TreeError::NotNamed { path, len }.into());
        }
        let envelope = Envelope::parse(&bytes).map_err(TreeError::malformed(&path))?;
        ring.verify::<T>(name, &envelope)
            .map_err(not_verified(&path))?;
        let payload = T::from_signed(envelope.unverified()).map_err(TreeError::malformed(&path))?;
        if let Some(named) = named {
            let role = RoleName::parse(name).map_err(TreeError::malformed(&path))?;
            expect_version(self.tree, &role, payload.version(), named.version)?;
        }
        Ok(SignedFile {
            bytes,
            envelope,
            payload,
        })
    }
}

/// The chain of roots in a folder, each signed by itself and by the one before (section 5.3); empty
/// where there is none.
pub fn roots(folder: &Path) -> Result<Vec<SignedFile<Root>>, SignerError> {
    let mut roots: Vec<SignedFile<Root>> = Vec::new();
    let mut version = MetaVersion::FIRST;
    loop {
        let name = paths::root_file(version);
        let path = folder.join(&name);
        let Some(bytes) = durable::read_if_there(&path, Lengths::DEFAULT.root)? else {
            return Ok(roots);
        };
        let envelope = Envelope::parse(&bytes).map_err(TreeError::malformed(&path))?;
        let payload =
            Root::from_signed(envelope.unverified()).map_err(TreeError::malformed(&path))?;
        let before = roots.last().map_or(&payload, |file| &file.payload);
        for signer in [before, &payload] {
            KeyRing::of_root(signer, RoleType::Root)
                .verify::<Root>(&name, &envelope)
                .map_err(not_verified(&path))?;
        }
        let role = RoleName::parse("root").map_err(TreeError::malformed(&path))?;
        expect_version(folder, &role, payload.version(), version)?;
        roots.push(SignedFile {
            bytes,
            envelope,
            payload,
        });
        match version.next() {
            Some(next) if next.get() <= ROOTS_MAX => version = next,
            _ => return Ok(roots),
        }
    }
}

fn expect_version(
    tree: &Path,
    role: &RoleName,
    found: MetaVersion,
    expected: MetaVersion,
) -> Result<(), SignerError> {
    if found == expected {
        return Ok(());
    }
    Err(TreeError::VersionConflict {
        tree: tree.to_owned(),
        role: role.to_string(),
        found: found.get(),
        expected: expected.to_string(),
    }
    .into())
}

fn not_verified(path: &Path) -> impl FnOnce(TrustError) -> TreeError {
    let path = path.to_owned();
    move |source| TreeError::NotVerified {
        path,
        source: Box::new(source),
    }
}
