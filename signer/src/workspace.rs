//! A workspace as it stands: settings, what is published, what is drafted.
//!
//! Opened anew by each command, under the lock where it will write. Nothing is cached between
//! commands: the files are the truth.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ampoule_protocol::json::Value;
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::metadata::{Envelope, Listing, RoleType, Root, Targets};
use ampoule_protocol::name::RoleName;

use crate::durable::{self, Disk};
use crate::error::{DiskError, OperatorError, SignerError, TreeError};
use crate::keys::public;
use crate::layout::{Layout, REQUEST_EXTENSION, Repository};
use crate::lock::Lock;
use crate::request::{Request, payload};
use crate::settings::Settings;
use crate::tree::{self, Published, SignedFile};

/// Drafts in one workspace: one a role.
const DRAFTS_MAX: usize = 1024;

/// A draft and where it lies.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Its file.
    pub path: PathBuf,
    /// What it holds.
    pub request: Request,
}

/// An opened workspace.
#[derive(Debug)]
pub struct Workspace {
    /// Where everything lies.
    pub layout: Layout,
    /// `signer.toml`.
    pub settings: Settings,
    /// Names of holders by key id.
    pub holders: BTreeMap<String, String>,
    /// The last signed state; `None` before the first publication.
    pub published: Option<Published>,
    /// The director's roots that are signed, the first first.
    pub director: Vec<SignedFile<Root>>,
    /// Drafts that are not published, by repository and role.
    pub staged: BTreeMap<(Repository, RoleName), Staged>,
    /// Drafts that a crash left behind after they were published.
    pub finished: Vec<PathBuf>,
}

/// A workspace that this process alone may write.
#[derive(Debug)]
pub struct LockedWorkspace {
    inner: Workspace,
    _lock: Lock,
}

impl LockedWorkspace {
    /// Reads everything again, the lock being kept.
    pub fn reread(&mut self) -> Result<(), SignerError> {
        self.inner = Workspace::open(self.inner.layout.root())?;
        Ok(())
    }
}

impl std::ops::Deref for LockedWorkspace {
    type Target = Workspace;
    fn deref(&self) -> &Workspace {
        &self.inner
    }
}

impl std::ops::DerefMut for LockedWorkspace {
    fn deref_mut(&mut self) -> &mut Workspace {
        &mut self.inner
    }
}

impl Workspace {
    /// Reads the workspace at `dir`.
    pub fn open(dir: &Path) -> Result<Self, SignerError> {
        let layout = Layout::new(dir);
        if !layout.settings().is_file() {
            return Err(OperatorError::NoWorkspace {
                folder: dir.to_owned(),
            }
            .into());
        }
        let settings = Settings::load(&layout.settings())?;
        let holders = holders(&layout.holders())?;
        let published = Published::load(&layout.published())?;
        let director = tree::roots(&layout.director())?;
        let mut workspace = Self {
            layout,
            settings,
            holders,
            published,
            director,
            staged: BTreeMap::new(),
            finished: Vec::new(),
        };
        workspace.read_drafts()?;
        Ok(workspace)
    }

    /// Takes the lock of the workspace at `dir`, clears what a crash left, and reads it.
    pub fn open_to_write(disk: &dyn Disk, dir: &Path) -> Result<LockedWorkspace, SignerError> {
        let layout = Layout::new(dir);
        if !layout.settings().is_file() {
            return Err(OperatorError::NoWorkspace {
                folder: dir.to_owned(),
            }
            .into());
        }
        let lock = Lock::of(dir)?;
        durable::sweep(disk, &layout.staging())?;
        Ok(LockedWorkspace {
            inner: Self::open(dir)?,
            _lock: lock,
        })
    }

    fn read_drafts(&mut self) -> Result<(), SignerError> {
        let folder = self.layout.staging();
        let Ok(entries) = std::fs::read_dir(&folder) else {
            return Ok(());
        };
        for entry in entries {
            let path = entry.map_err(DiskError::at("list", &folder))?.path();
            if path
                .extension()
                .is_none_or(|extension| extension != REQUEST_EXTENSION)
            {
                continue;
            }
            let mut request = Request::load(&path)?;
            if self.is_finished(&path, &request)? {
                self.finished.push(path);
                continue;
            }
            // What is published is known here; what the file says of it may have been changed.
            request.previous = self.before(&request);
            let key = (request.repository, request.role.clone());
            if self.staged.len() >= DRAFTS_MAX {
                return Err(OperatorError::DraftInUse {
                    role: request.role.to_string(),
                    version: request.version(),
                }
                .into());
            }
            // Of two versions the newer counts; a crash may leave the older one beside it.
            match self.staged.get(&key) {
                Some(other) if other.request.version() >= request.version() => {
                    self.finished.push(path);
                }
                _ => {
                    if let Some(older) = self.staged.insert(key, Staged { path, request }) {
                        self.finished.push(older.path);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a draft is in the published tree already.
    fn is_finished(&self, path: &Path, request: &Request) -> Result<bool, SignerError> {
        if request.repository == Repository::Director {
            return Ok(self.director_file(request.version()).is_file());
        }
        let Some(published) = &self.published else {
            return Ok(false);
        };
        let Some((envelope, version)) = published.role(&request.role) else {
            return Ok(false);
        };
        // A root is in the tree before the timestamp is; until then its publication goes on.
        if request.role.as_str() == "root" && published.trusted_root + 1 < published.roots.len() {
            return Ok(false);
        }
        if request.version() > version {
            return Ok(false);
        }
        let same = envelope.signed_bytes() == request.envelope.signed_bytes();
        // The server signs timestamps of its own; an old draft of one is merely outdated.
        if same || request.kind() == RoleType::Timestamp || request.version() < version {
            return Ok(true);
        }
        Err(TreeError::VersionConflict {
            tree: self.layout.published(),
            role: request.role.to_string(),
            found: version,
            expected: format!("the draft \"{}\" of the same version", path.display()),
        }
        .into())
    }

    /// What was signed last of the role of `request`, before it.
    fn before(&self, request: &Request) -> Option<Envelope> {
        let of_image = || self.published.as_ref().map(|tree| tree.roots.as_slice());
        let roots = match request.repository {
            Repository::Director => &self.director,
            Repository::Image if request.kind() == RoleType::Root => of_image().unwrap_or_default(),
            Repository::Image => {
                let (envelope, _) = self.published.as_ref()?.role(&request.role)?;
                return Some(envelope.clone());
            }
        };
        // A publication that was cut off may have put this very root into the tree.
        let before =
            |root: &&SignedFile<Root>| root.payload.common.version.get() < request.version();
        Some(roots.iter().rfind(before)?.envelope.clone())
    }

    /// `director/N.root.json`.
    pub fn director_file(&self, version: u64) -> PathBuf {
        self.layout.director().join(format!("{version}.root.json"))
    }

    /// The draft of an image repository role.
    pub fn draft(&self, role: &RoleName) -> Option<&Staged> {
        self.staged.get(&(Repository::Image, role.clone()))
    }

    /// The draft of the director's root.
    pub fn director_draft(&self) -> Option<&Staged> {
        self.staged.get(&(Repository::Director, top_role("root")))
    }

    /// The envelope of a role as the next publication would have it: drafted, else published.
    pub fn coming(&self, role: &RoleName) -> Option<&Envelope> {
        if let Some(staged) = self.draft(role) {
            return Some(&staged.request.envelope);
        }
        self.published
            .as_ref()?
            .role(role)
            .map(|(envelope, _)| envelope)
    }

    /// The root as the next publication would have it.
    pub fn coming_root(&self) -> Result<Root, SignerError> {
        let role = top_role("root");
        payload(self.coming(&role).ok_or_else(|| nothing_of(&role))?)
    }

    /// The director's root as the next publication would have it; `None` where there is no
    /// director.
    pub fn coming_director(&self) -> Result<Option<Root>, SignerError> {
        if let Some(staged) = self.director_draft() {
            return payload(&staged.request.envelope).map(Some);
        }
        Ok(self.director.last().map(|root| root.payload.clone()))
    }

    /// A targets file as the next publication would have it.
    pub fn coming_targets(&self, role: &RoleName) -> Result<Targets, SignerError> {
        payload(self.coming(role).ok_or_else(|| nothing_of(role))?)
    }

    /// The delegated roles that the coming targets name.
    pub fn coming_roles(&self) -> Result<Vec<RoleName>, SignerError> {
        let targets = self.coming_targets(&RoleName::targets())?;
        Ok(
            match targets.delegations.map(|delegations| delegations.roles) {
                Some(Listing::Roles(roles)) => roles.into_iter().map(|role| role.name).collect(),
                Some(Listing::Bins(_)) | None => Vec::new(),
            },
        )
    }

    /// The version a new draft of `role` gets: one above what is published.
    pub fn next_version(&self, role: &RoleName) -> u64 {
        let published = self.published.as_ref().and_then(|p| p.role(role));
        published.map_or(0, |(_, version)| version) + 1
    }

    /// The same for the director's root.
    pub fn next_director_version(&self) -> u64 {
        let newest = self.director.last();
        newest.map_or(0, |root| root.payload.common.version.get()) + 1
    }

    /// Makes a request of a drafted payload: with what was signed last, with who names its
    /// signers, and with their names.
    pub fn request(
        &self,
        repository: Repository,
        role: &RoleName,
        signed: Value,
    ) -> Result<Request, SignerError> {
        let mut request = Request::draft(repository, role.clone(), signed);
        request.previous = self.before(&request);
        self.complete_chain(&mut request)?;
        Ok(request)
    }

    /// Names the present delegators in a request; they may have changed since it was drafted.
    pub fn complete_chain(&self, request: &mut Request) -> Result<(), SignerError> {
        request.holders.clone_from(&self.holders);
        if request.kind() == RoleType::Root || request.repository == Repository::Director {
            return Ok(());
        }
        let mut delegators = vec![top_role("root")];
        if request.kind() == RoleType::Targets && request.role.as_str() != "targets" {
            delegators.push(RoleName::targets());
        }
        request.chain = delegators
            .iter()
            .map(|role| self.coming(role).cloned().ok_or_else(|| nothing_of(role)))
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Writes a draft into `staging/`.
    ///
    /// # Errors
    /// A draft longer than a device reads: nobody shall sign it.
    pub fn stage(&mut self, disk: &dyn Disk, request: Request) -> Result<PathBuf, SignerError> {
        let len = request.envelope.to_bytes().len() as u64;
        let max = len_max(request.kind());
        if len > max {
            let role = request.title();
            return Err(OperatorError::TooLongForDevices { role, len, max }.into());
        }
        let path = self
            .layout
            .request(request.repository, &request.role, request.version());
        durable::create_dirs(disk, &self.layout.staging())?;
        request.store(disk, &path)?;
        let key = (request.repository, request.role.clone());
        self.staged.insert(
            key,
            Staged {
                path: path.clone(),
                request,
            },
        );
        Ok(path)
    }
}

/// What a device reads of each kind of file, less room for the signatures to come.
fn len_max(kind: RoleType) -> u64 {
    const ROOM: u64 = 8192;
    let lengths = Lengths::DEFAULT;
    let max = match kind {
        RoleType::Root => lengths.root,
        RoleType::Timestamp => lengths.timestamp,
        RoleType::Snapshot => lengths.snapshot,
        RoleType::Targets => lengths.targets,
    };
    max - ROOM
}

/// One of the four top-level roles by name.
///
/// # Panics
/// Never for names that this program has in its text.
pub fn top_role(name: &str) -> RoleName {
    RoleName::parse(name).expect("a name in this program's text")
}

fn nothing_of(role: &RoleName) -> SignerError {
    OperatorError::NoDraft {
        what: role.to_string(),
    }
    .into()
}

/// The names of `holders/NAME.pub`, by key id.
fn holders(folder: &Path) -> Result<BTreeMap<String, String>, SignerError> {
    let mut names = BTreeMap::new();
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(names);
    };
    for entry in entries {
        let path = entry.map_err(DiskError::at("list", folder))?.path();
        if path.extension().is_none_or(|extension| extension != "pub") {
            continue;
        }
        let Some(name) = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
        else {
            continue;
        };
        names.insert(public::read(&path)?.id().to_string(), name);
    }
    Ok(names)
}
