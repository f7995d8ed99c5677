//! What can go wrong in the signer, by the party that has to act.
//!
//! - [`OperatorError`]: the person at the command line, their files, their keys.
//! - [`TreeError`]: metadata or a published tree that does not hold together.
//! - [`DiskError`]: this machine.
//!
//! A bug of ours is [`SignerError::Ourselves`].

use std::io;
use std::path::{Path, PathBuf};

use ampoule_protocol::error::{Coded, Guilty};

use crate::keys::KeyError;
use crate::toml_doc::Faults;

/// Everything a command can fail with.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// A person has to mend it.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// A key cannot be read or used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A file that a person wrote has faults.
    #[error(transparent)]
    Faults(#[from] Faults),
    /// Metadata or a tree is not what it should be.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Reading or writing failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A bug.
    #[error("bug in ampoule-signer: {0}")]
    Ourselves(String),
}

/// The command line or what it names is at fault.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages are the documentation of these fields.
pub enum OperatorError {
    #[error("\"{}\" is not a signer workspace: there is no \"{}\" in it", folder.display(), crate::layout::SETTINGS_FILE)]
    NoWorkspace { folder: PathBuf },
    #[error("\"{}\" is a signer workspace already", folder.display())]
    WorkspaceExists { folder: PathBuf },
    #[error("another ampoule-signer is at work in \"{}\"", folder.display())]
    Locked { folder: PathBuf },
    #[error("\"{}\" exists already", path.display())]
    Exists { path: PathBuf },
    #[error("there is no product \"{name}\" in this workspace")]
    UnknownProduct { name: String, known: Vec<String> },
    #[error("there is no role \"{name}\" in this workspace")]
    UnknownRole { name: String, known: Vec<String> },
    #[error("nothing is drafted for {what}")]
    NoDraft { what: String },
    #[error("several products have drafts: {}", names.join(", "))]
    SeveralDrafts { names: Vec<String> },
    #[error("a draft of {role} version {version} is being signed")]
    DraftInUse { role: String, version: u64 },
    #[error("key {key} is none of those that {role} asks for")]
    KeyNotAsked { key: String, role: String },
    #[error("{role} version {version} is signed by {have} of {need} required keys")]
    Threshold {
        role: String,
        version: u64,
        have: usize,
        need: u64,
    },
    #[error(
        "{role} version {version} is signed by {have} of {need} keys required by the root before it"
    )]
    OldThreshold {
        role: String,
        version: u64,
        have: usize,
        need: u64,
    },
    #[error("\"{}\" and \"{}\" are not the same request: {why}", left.display(), right.display())]
    NotTheSame {
        left: PathBuf,
        right: PathBuf,
        why: String,
    },
    #[error("the signature does not verify with key {key} over {role} version {version}")]
    BadSignature {
        key: String,
        role: String,
        version: u64,
    },
    #[error("component \"{component}\" asks for {missing} more {} that {} not built", if *missing == 1 { "delta" } else { "deltas" }, if *missing == 1 { "is" } else { "are" })]
    DeltasMissing { component: String, missing: usize },
    #[error(
        "the delta from {base} of component \"{component}\" does not make the artifact it is for"
    )]
    DeltaWrong { component: String, base: String },
    #[error("no delta from {base} was made for component \"{component}\"")]
    DeltaNotMade {
        component: String,
        base: String,
        #[source]
        source: ampoule_delta::DiffError,
    },
    #[error("a threshold of {threshold} cannot be met by {keys} different keys")]
    ImpossibleThreshold { threshold: u64, keys: usize },
    #[error("there is a product \"{name}\" already")]
    ProductExists { name: String },
    #[error("two different keys are called \"{name}\"")]
    HolderTaken { name: String },
    #[error("\"{first}\" and \"{second}\" of {role} are one key, which would count once")]
    OneKeyTwice {
        role: String,
        first: String,
        second: String,
    },
    #[error(
        "{role} would be {len} bytes long, expected at most {max}, which is what a device reads"
    )]
    TooLongForDevices { role: String, len: u64, max: u64 },
    #[error("there is no release {version} of {product}")]
    UnknownRelease { product: String, version: String },
    #[error("{role} would not change")]
    NoChange { role: String },
    #[error("{what} \"{text}\" is not well-formed")]
    BadArgument {
        what: &'static str,
        text: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error("a passphrase is needed and standard input is no terminal")]
    NoTerminal,
    #[error("the two passphrases differ")]
    PassphrasesDiffer,
    #[error("\"{}\" cannot be verified without {what}", path.display())]
    VerifyNeeds {
        path: PathBuf,
        what: &'static str,
        option: &'static str,
    },
    #[error("\"{}\" is not signed: {doubt}", path.display())]
    OtherRoot { path: PathBuf, doubt: String },
    #[error("the passphrase is empty")]
    PassphraseEmpty,
    #[error("not signed: the answer was not \"yes\"")]
    NotConfirmed,
}

/// Metadata, requests or a published tree do not hold together.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages are the documentation of these fields.
pub enum TreeError {
    #[error("\"{}\" is not well-formed", path.display())]
    Malformed {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("\"{}\" is neither TUF metadata nor a signing request", path.display())]
    NotMetadata { path: PathBuf },
    #[error("\"{}\" does not verify", path.display())]
    NotVerified {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the published tree \"{}\" has no \"{file}\"", tree.display())]
    Missing { tree: PathBuf, file: String },
    #[error("target \"{path}\" is {found}, expected {signed}")]
    WrongTarget {
        path: String,
        found: String,
        signed: String,
    },
    #[error("\"{}\" has {len} bytes that are not those that the file above it names", path.display())]
    NotNamed { path: PathBuf, len: usize },
    #[error("\"{}\" does not say who names its signers: it has {found} files for that, expected {expected}", path.display())]
    BadChain {
        path: PathBuf,
        found: usize,
        expected: usize,
    },
    #[error("{role} version {found} in \"{}\" is not {expected}", tree.display())]
    VersionConflict {
        tree: PathBuf,
        role: String,
        found: u64,
        expected: String,
    },
    #[error("{role} in \"{}\" expired at {expires}", path.display())]
    Expired {
        path: PathBuf,
        role: String,
        expires: String,
    },
    #[error("release {release} does not say what it holds")]
    BadRelease {
        release: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Reading or writing on this machine failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages are the documentation of these fields.
pub enum DiskError {
    #[error("failed to {action} \"{}\"", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: OsError,
    },
    #[error("\"{}\" is longer than {len_max} bytes", path.display())]
    TooLong { path: PathBuf, len_max: u64 },
}

/// What the operating system said, in its words but in our shape: lower case, without the number.
#[derive(Debug)]
pub struct OsError(io::Error);

impl OsError {
    /// What kind of error it is.
    pub fn kind(&self) -> io::ErrorKind {
        self.0.kind()
    }
}

impl std::fmt::Display for OsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut letters = text.chars();
        let first = letters.next().map(|c| c.to_ascii_lowercase());
        write!(
            f,
            "{}{}",
            first.map(String::from).unwrap_or_default(),
            letters.as_str()
        )
    }
}

impl std::error::Error for OsError {}

impl DiskError {
    /// For `map_err`: what was tried, and where.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source: OsError(source),
        }
    }
}

impl TreeError {
    /// For `map_err`: the file is not well-formed, and why.
    pub fn malformed<E>(path: &Path) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let path = path.to_owned();
        move |source| Self::Malformed {
            path,
            source: Box::new(source),
        }
    }
}

impl OperatorError {
    /// An argument that does not parse, and why.
    pub fn bad_argument<E>(what: &'static str, text: &str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let text = text.to_owned();
        move |source| Self::BadArgument {
            what,
            text,
            source: Some(Box::new(source)),
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoWorkspace { .. } => "no-workspace",
            Self::WorkspaceExists { .. } => "workspace-exists",
            Self::Locked { .. } => "locked",
            Self::Exists { .. } => "exists",
            Self::UnknownProduct { .. } => "unknown-product",
            Self::UnknownRole { .. } => "unknown-role",
            Self::NoDraft { .. } => "no-draft",
            Self::SeveralDrafts { .. } => "several-drafts",
            Self::DraftInUse { .. } => "draft-in-use",
            Self::KeyNotAsked { .. } => "key-not-asked",
            Self::Threshold { .. } | Self::OldThreshold { .. } => "threshold-not-met",
            Self::NotTheSame { .. } => "not-the-same-request",
            Self::BadSignature { .. } => "bad-signature",
            Self::DeltasMissing { .. } => "deltas-missing",
            Self::DeltaWrong { .. } => "delta-wrong",
            Self::DeltaNotMade { .. } => "delta-not-made",
            Self::ImpossibleThreshold { .. } => "impossible-threshold",
            Self::ProductExists { .. } => "product-exists",
            Self::HolderTaken { .. } => "holder-taken",
            Self::OneKeyTwice { .. } => "one-key-twice",
            Self::TooLongForDevices { .. } => "too-long-for-devices",
            Self::UnknownRelease { .. } => "unknown-release",
            Self::NoChange { .. } => "no-change",
            Self::BadArgument { .. } => "bad-argument",
            Self::NoTerminal => "no-terminal",
            Self::PassphrasesDiffer => "passphrases-differ",
            Self::VerifyNeeds { .. } => "verify-needs",
            Self::OtherRoot { .. } => "other-root",
            Self::PassphraseEmpty => "passphrase-empty",
            Self::NotConfirmed => "not-confirmed",
        }
    }

    fn hint(&self) -> Option<String> {
        let known = |names: &[String]| format!("known are {}", names.join(", "));
        match self {
            Self::NoWorkspace { .. } => {
                Some("make one with \"ampoule-signer init\", or name it with --workspace".into())
            }
            Self::Exists { .. } => Some("choose another name, or move the old file away".into()),
            Self::UnknownProduct { known: names, .. } | Self::UnknownRole { known: names, .. } => {
                Some(known(names))
            }
            Self::HolderTaken { .. } => Some("the file's name is the holder's: rename one".into()),
            Self::OneKeyTwice { .. } => Some("each holder makes a key of their own".into()),
            Self::TooLongForDevices { .. } => {
                Some("take old releases out with \"ampoule-signer withdraw\"".into())
            }
            Self::NoDraft { .. } => Some("\"ampoule-signer review\" shows what is drafted".into()),
            Self::DraftInUse { .. } => {
                Some("publish it, or throw it away with \"ampoule-signer discard\"".into())
            }
            Self::KeyNotAsked { .. } => {
                Some("\"ampoule-signer review\" shows who must sign".into())
            }
            Self::Threshold { .. } | Self::OldThreshold { .. } => {
                Some("\"ampoule-signer review\" shows whose signatures are missing".into())
            }
            Self::DeltasMissing { .. } => Some("build them with \"ampoule-signer delta\"".into()),
            Self::DeltaWrong { .. } => Some("build it again with \"ampoule-signer delta\"".into()),
            Self::NoTerminal => Some("use --passphrase-file".into()),
            Self::OtherRoot { .. } => {
                Some("ask who sent it, and compare the digests over the telephone".into())
            }
            Self::VerifyNeeds { option, .. } => Some(format!("name it with {option}")),
            Self::NotConfirmed => Some("use --yes to sign without the question".into()),
            Self::SeveralDrafts { .. } => Some("name one".into()),
            Self::WorkspaceExists { .. }
            | Self::Locked { .. }
            | Self::NotTheSame { .. }
            | Self::DeltaNotMade { .. }
            | Self::BadSignature { .. }
            | Self::ImpossibleThreshold { .. }
            | Self::ProductExists { .. }
            | Self::UnknownRelease { .. }
            | Self::NoChange { .. }
            | Self::BadArgument { .. }
            | Self::PassphrasesDiffer
            | Self::PassphraseEmpty => None,
        }
    }
}

impl Coded for SignerError {
    fn code(&self) -> &'static str {
        match self {
            Self::Operator(e) => e.code(),
            Self::Key(e) => e.code(),
            Self::Faults(_) => "faults-in-file",
            Self::Tree(e) => match e {
                TreeError::Malformed { .. } | TreeError::BadChain { .. } => "malformed",
                TreeError::NotMetadata { .. } => "not-metadata",
                TreeError::NotVerified { .. } => "not-verified",
                TreeError::Missing { .. } => "missing-file",
                TreeError::WrongTarget { .. } => "wrong-target",
                TreeError::NotNamed { .. } => "not-named",
                TreeError::VersionConflict { .. } => "version-conflict",
                TreeError::Expired { .. } => "expired",
                TreeError::BadRelease { .. } => "bad-release",
            },
            Self::Disk(DiskError::Io { .. }) => "io",
            Self::Disk(DiskError::TooLong { .. }) => "too-long",
            Self::Ourselves(_) => "bug",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Operator(_) | Self::Key(_) | Self::Faults(_) => Guilty::Operator,
            Self::Tree(_) => Guilty::Repository,
            Self::Disk(_) => Guilty::Device,
            Self::Ourselves(_) => Guilty::Ourselves,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Operator(e) => e.hint(),
            Self::Key(e) => e.hint(),
            Self::Faults(_) | Self::Tree(_) | Self::Disk(_) | Self::Ourselves(_) => None,
        }
    }
}
