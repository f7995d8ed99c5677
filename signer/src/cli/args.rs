//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::keys::file::Kind;

/// Turns a build into a signed release, offline, with several key holders.
#[derive(Debug, Parser)]
#[command(name = "ampoule-signer", version, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Args)]
pub(super) struct Global {
    /// The workspace folder
    #[arg(
        long,
        short = 'w',
        global = true,
        value_name = "DIR",
        default_value = "."
    )]
    pub(super) workspace: PathBuf,
    /// Answer with JSON on standard output
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Take passphrases and PINs from the first line of this file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = crate::keys::secrets::PASSPHRASE_FILE_ENV
    )]
    pub(super) passphrase_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Hold the key ceremony: make a workspace and the first drafts
    Init(InitArgs),
    /// Make, import, list and export keys
    Key(KeyArgs),
    /// Check a release.toml and draft its release
    Add(AddArgs),
    /// Build the deltas that a drafted release asks for
    Delta(DeltaArgs),
    /// Show what is drafted, in words, and who has to sign
    Review(ReviewArgs),
    /// Throw a draft away
    Discard(DiscardArgs),
    /// Sign drafts or requests
    Sign(SignArgs),
    /// Bring copies of a request together that were signed apart
    Merge(MergeArgs),
    /// Take in a signature that was made elsewhere
    Attach(AttachArgs),
    /// Write the exact bytes that a signature must cover
    Payload(PayloadArgs),
    /// Publish what is drafted and signed
    Publish(PublishArgs),
    /// Sign a new timestamp, and snapshot, over what is published
    Refresh(RefreshArgs),
    /// Draft a change of a role's keys or threshold
    Rotate(RotateArgs),
    /// Draft root, targets, a product or director.root again as it is, before it expires
    Renew(RenewArgs),
    /// Draft the delegation to a new product
    Product(ProductArgs),
    /// Draft a product without one of its releases
    Withdraw(WithdrawArgs),
    /// Draft a record by which named devices may go back to an older release, once
    Downgrade(DowngradeArgs),
    /// Make one file with metadata and a release, for devices without a network
    Bundle(BundleArgs),
    /// Show what a file or a tree says, believed or not
    Inspect(InspectArgs),
    /// Verify a published tree or one of its files, offline
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// Who holds which power
    #[arg(required_unless_present = "example")]
    pub(super) ceremony: Option<PathBuf>,
    /// Print an example ceremony file and stop
    #[arg(long, conflicts_with_all = ["ceremony", "generate"])]
    pub(super) example: bool,
    /// Make the keys that do not exist yet, all in this folder (for trying out: at a ceremony each
    /// holder makes their own)
    #[arg(long, value_name = "DIR")]
    pub(super) generate: Option<PathBuf>,
    #[command(flatten)]
    pub(super) work: WorkFactor,
}

#[derive(Debug, Args)]
pub(super) struct WorkFactor {
    /// Protect key files with 2^N rounds of scrypt
    #[arg(
        long,
        value_name = "N",
        default_value_t = crate::keys::file::WORK_FACTOR,
        value_parser = clap::value_parser!(u8).range(1..=i64::from(crate::keys::file::WORK_FACTOR_MAX))
    )]
    pub(super) work_factor: u8,
}

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    pub(super) command: KeyCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Make a key: NAME.key, and NAME.pub beside it
    Generate {
        /// The secret key file to write
        path: PathBuf,
        /// What kind of key
        #[arg(long, value_enum, default_value_t = Kind::Ed25519)]
        kind: Kind,
        /// Write it without a passphrase: for a key that a server must read with nobody present
        #[arg(long)]
        unencrypted: bool,
        #[command(flatten)]
        work: WorkFactor,
    },
    /// Encrypt an existing key (PKCS#8 in PEM) into a key file
    Import {
        /// The PEM file
        pem: PathBuf,
        /// The secret key file to write
        path: PathBuf,
        #[command(flatten)]
        work: WorkFactor,
    },
    /// List the keys in folders
    List {
        /// Folders; the workspace's holders where none is given
        folders: Vec<PathBuf>,
    },
    /// Write the public key of a file, a token or a command
    ExportPublic {
        /// A key file, or the description of a token or command
        key: PathBuf,
        /// Where to; standard output where not given
        path: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The release description
    pub(super) release: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct DeltaArgs {
    /// The product; the only one with a draft where not given
    pub(super) product: Option<String>,
    /// Memory that a delta may take on a device, in MiB
    #[arg(long, value_name = "MIB", default_value_t = crate::deltas::DELTA_MEMORY_MIB,
        value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub(super) memory_mib: u64,
    /// What the devices can do with a delta, by comma: code, zlib, lz4, xz, zstd; or "none"
    #[arg(long, value_name = "LIST", default_value = crate::deltas::DELTA_CAPS,
        value_parser = crate::deltas::parse_caps)]
    pub(super) caps: ampoule_delta::Caps,
}

#[derive(Debug, Args)]
pub(super) struct ReviewArgs {
    /// Requests; all drafts of the workspace where none is given
    pub(super) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DiscardArgs {
    /// The role whose draft goes
    pub(super) role: String,
}

#[derive(Debug, Args)]
pub(super) struct SignArgs {
    /// Requests
    #[arg(required_unless_present = "all")]
    pub(super) files: Vec<PathBuf>,
    /// Every draft of the workspace that asks for one of the keys
    #[arg(long, conflicts_with = "files")]
    pub(super) all: bool,
    /// A key file, or the description of a token or command
    #[arg(long = "key", short = 'k', value_name = "FILE", required = true)]
    pub(super) keys: Vec<PathBuf>,
    /// Your own copy of root: refuse a request whose signers do not follow from it
    #[arg(long, value_name = "FILE")]
    pub(super) root: Option<PathBuf>,
    /// Sign without the question
    #[arg(long, short = 'y')]
    pub(super) yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct MergeArgs {
    /// The request that gets the signatures
    pub(super) file: PathBuf,
    /// Copies of it
    #[arg(required = true)]
    pub(super) copies: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct AttachArgs {
    /// The request
    pub(super) file: PathBuf,
    /// The public key that verifies the signature
    #[arg(long, value_name = "FILE")]
    pub(super) public: PathBuf,
    /// The signature in hex
    #[arg(long, value_name = "HEX", required_unless_present = "signature_file")]
    pub(super) signature: Option<String>,
    /// A file with the signature, in hex or as bytes
    #[arg(long, value_name = "FILE", conflicts_with = "signature")]
    pub(super) signature_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct PayloadArgs {
    /// The request
    pub(super) file: PathBuf,
    /// Where to
    pub(super) output: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct PublishArgs {
    /// Copy the tree here as well
    pub(super) to: Option<PathBuf>,
    /// Keys for snapshot and timestamp, where they are at hand
    #[arg(long = "key", short = 'k', value_name = "FILE")]
    pub(super) keys: Vec<PathBuf>,
    /// Publish the drafts that are complete and leave the others
    #[arg(long)]
    pub(super) partial: bool,
}

#[derive(Debug, Args)]
pub(super) struct RefreshArgs {
    /// A new snapshot as well
    #[arg(long)]
    pub(super) snapshot: bool,
    /// Keys for timestamp and snapshot
    #[arg(long = "key", short = 'k', value_name = "FILE")]
    pub(super) keys: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RotateArgs {
    /// root, targets, snapshot, timestamp, a product, director.root or director.online
    pub(super) role: String,
    /// A public key that signs from now on
    #[arg(long = "add", value_name = "FILE")]
    pub(super) add: Vec<PathBuf>,
    /// A key that does not any more: a holder's name, or a key id or its beginning
    #[arg(long = "remove", value_name = "HOLDER")]
    pub(super) remove: Vec<String>,
    /// Signatures needed from now on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(super) threshold: Option<u64>,
}

#[derive(Debug, Args)]
pub(super) struct RenewArgs {
    /// root, targets, a product or director.root
    pub(super) role: String,
}

#[derive(Debug, Args)]
pub(super) struct WithdrawArgs {
    /// The product
    pub(super) product: String,
    /// The version that shall not be offered any more
    pub(super) version: String,
}

#[derive(Debug, Args)]
pub(super) struct ProductArgs {
    /// Its name, also that of its role
    pub(super) name: String,
    /// A hardware id that it runs on
    #[arg(long, value_name = "ID", required = true)]
    pub(super) hardware: Vec<String>,
    /// The public key of one who signs its releases
    #[arg(long = "add", value_name = "FILE", required = true)]
    pub(super) add: Vec<PathBuf>,
    /// Signatures that a release needs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=64))]
    pub(super) threshold: u64,
}

#[derive(Debug, Args)]
pub(super) struct DowngradeArgs {
    /// The product
    pub(super) product: String,
    /// A device that may use it, once
    #[arg(long = "device", value_name = "ID", required = true)]
    pub(super) devices: Vec<String>,
    /// The version that the devices run
    #[arg(long, value_name = "VERSION")]
    pub(super) from: String,
    /// The version that they go back to; it must be listed
    #[arg(long, value_name = "VERSION")]
    pub(super) to: String,
    /// Why, in words that every holder reads before signing
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: String,
    /// How long it can be used
    #[arg(long, value_name = "DAYS", default_value_t = 14,
        value_parser = clap::value_parser!(u16).range(1..=90))]
    pub(super) expires_in_days: u16,
}

#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    /// The product of the devices
    pub(super) product: String,
    /// The file to write
    pub(super) output: PathBuf,
    /// A hardware id that it is for
    #[arg(long, value_name = "ID", required = true)]
    pub(super) hardware: Vec<String>,
    /// A device that it is for; all of that hardware where none is named
    #[arg(long = "device", value_name = "ID")]
    pub(super) devices: Vec<String>,
    /// A file with the ids of devices that it is for, one a line
    #[arg(long, value_name = "FILE")]
    pub(super) devices_from: Option<PathBuf>,
    /// The release; the highest version where not given
    #[arg(long, value_name = "VERSION")]
    pub(super) version: Option<String>,
    /// How long it can be used
    #[arg(long, value_name = "DAYS", default_value_t = 30,
        value_parser = clap::value_parser!(u16).range(1..=730))]
    pub(super) expires_in_days: u16,
    /// Leave deltas out
    #[arg(long)]
    pub(super) no_deltas: bool,
    /// Keys for snapshot: they sign the bundle
    #[arg(long = "key", short = 'k', value_name = "FILE", required = true)]
    pub(super) keys: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct InspectArgs {
    /// A request, a metadata file, a key file or a published tree
    pub(super) path: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// A published tree, a metadata file or a request
    pub(super) path: PathBuf,
    /// For a metadata file: the root that names its signers
    #[arg(long, value_name = "FILE")]
    pub(super) root: Option<PathBuf>,
    /// For the file of a product: the targets that delegate to it
    #[arg(long, value_name = "FILE")]
    pub(super) targets: Option<PathBuf>,
    /// Do not refuse what has expired
    #[arg(long)]
    pub(super) ignore_expiry: bool,
}
