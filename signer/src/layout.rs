//! Where everything lies in a workspace.
//!
//! ```text
//! signer.toml                 products and their hardware, expiries, holders' names
//! holders/NAME.pub            public keys, as handed in at the ceremony
//! staging/N.ROLE.request      drafts: signing requests, complete or not
//! staging/targets/…           their artifacts, deltas, SBOMs, under their published names
//! published/metadata/         the published tree: copy it behind any file server
//! published/targets/
//! director/1.root.json        the root of the director, once signed
//! ```
//!
//! The workspace holds no secret: it can live in a version control system.

use std::path::{Path, PathBuf};

use ampoule_protocol::name::RoleName;

/// What makes a folder a workspace.
pub const SETTINGS_FILE: &str = "signer.toml";

/// The paths of one workspace.
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Of the workspace at `root`.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `signer.toml`.
    pub fn settings(&self) -> PathBuf {
        self.root.join(SETTINGS_FILE)
    }

    /// `holders/`.
    pub fn holders(&self) -> PathBuf {
        self.root.join("holders")
    }

    /// `staging/`.
    pub fn staging(&self) -> PathBuf {
        self.root.join("staging")
    }

    /// `staging/targets/`.
    pub fn staged_targets(&self) -> PathBuf {
        self.staging().join("targets")
    }

    /// `published/`.
    pub fn published(&self) -> PathBuf {
        self.root.join("published")
    }

    /// `director/`.
    pub fn director(&self) -> PathBuf {
        self.root.join("director")
    }

    /// The draft of a role, `staging/N.ROLE.request`.
    pub fn request(&self, repository: Repository, role: &RoleName, version: u64) -> PathBuf {
        let prefix = match repository {
            Repository::Image => "",
            Repository::Director => "director.",
        };
        self.staging().join(format!(
            "{prefix}{version}.{}.{REQUEST_EXTENSION}",
            role.file_stem()
        ))
    }
}

/// How draft files end.
pub const REQUEST_EXTENSION: &str = "request";

/// Which of the two repositories a role belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Repository {
    /// What exists, and what it is.
    Image,
    /// Which of it one device gets.
    Director,
}
