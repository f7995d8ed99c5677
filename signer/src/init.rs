//! The key ceremony: from public keys to a workspace with its first drafts.
//!
//! Nothing is signed here. The drafts of root, targets and each product go to their holders like
//! every later one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ampoule_protocol::key::{Key, KeyId};
use ampoule_protocol::metadata::{
    DelegatedRole, Delegations, Listing, Payload, RoleType, Root, Targets, Trusts,
};
use ampoule_protocol::name::RoleName;
use ampoule_protocol::time::UtcTime;

use crate::ceremony::{Ceremony, Holders};
use crate::durable::{self, Access, Disk};
use crate::error::{OperatorError, SignerError};
use crate::keys::public;
use crate::layout::{Layout, Repository};
use crate::lock::Lock;
use crate::settings::{Expiries, Settings};
use crate::workspace::{Workspace, top_role};

/// What one holder of a key has to keep, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Duty {
    /// The name of the key file.
    pub holder: String,
    /// Which key.
    pub id: KeyId,
    /// The roles it signs.
    pub roles: Vec<String>,
    /// Whether it lies on a server.
    pub online: bool,
}

/// Makes a workspace at `dir` with drafts of every role. Its settings are written last: a crash
/// before leaves no workspace, and `init` runs again.
pub fn init(
    disk: &dyn Disk,
    ceremony: &Ceremony,
    dir: &Path,
    now: UtcTime,
) -> Result<Vec<Duty>, SignerError> {
    let layout = Layout::new(dir);
    if layout.settings().exists() {
        return Err(OperatorError::WorkspaceExists {
            folder: dir.to_owned(),
        }
        .into());
    }
    let keys = read_keys(ceremony)?;
    require_names(&keys)?;
    let drafts = drafts(ceremony, &keys, now)?;
    durable::create_dirs(disk, &layout.holders())?;
    let _lock = Lock::of(dir)?;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for (file, key) in &keys {
        let name = holder_name(file);
        if let Some(public) = key.public() {
            public::store(disk, &layout.holders().join(format!("{name}.pub")), public)?;
        }
        names.insert(key.id().to_string(), name);
    }
    let mut workspace = Workspace {
        layout: layout.clone(),
        settings: settings(ceremony),
        holders: names,
        published: None,
        director: Vec::new(),
        staged: BTreeMap::new(),
        finished: Vec::new(),
    };
    // Root, targets, products: each names the signers of the next.
    for (repository, role, signed) in drafts {
        let request = workspace.request(repository, &role, signed)?;
        workspace.stage(disk, request)?;
    }
    let text = workspace.settings.to_toml();
    durable::put(disk, &layout.settings(), text.as_bytes(), Access::Shared)?;
    Ok(duties(ceremony, &keys))
}

fn read_keys(ceremony: &Ceremony) -> Result<BTreeMap<PathBuf, Key>, SignerError> {
    let read = |file: PathBuf| Ok((file.clone(), public::read(&file)?));
    ceremony.files().into_keys().map(read).collect()
}

/// One name means one key: in words, people are told apart by it.
fn require_names(keys: &BTreeMap<PathBuf, Key>) -> Result<(), SignerError> {
    let mut names: BTreeMap<String, &Key> = BTreeMap::new();
    for (file, key) in keys {
        let name = holder_name(file);
        if names
            .get(&name)
            .is_some_and(|other| other.public() != key.public())
        {
            return Err(OperatorError::HolderTaken { name }.into());
        }
        names.insert(name, key);
    }
    Ok(())
}

fn settings(ceremony: &Ceremony) -> Settings {
    let products = ceremony
        .products
        .iter()
        .map(|(product, _)| product.clone())
        .collect();
    Settings {
        expiry: ceremony.expiry,
        products,
    }
}

type Drafts = Vec<(Repository, RoleName, ampoule_protocol::json::Value)>;

fn drafts(
    ceremony: &Ceremony,
    keys: &BTreeMap<PathBuf, Key>,
    now: UtcTime,
) -> Result<Drafts, SignerError> {
    let expiry = ceremony.expiry;
    let until = |days| now.plus_secs(Expiries::secs(days));
    let parts = [
        (RoleType::Root, &ceremony.root),
        (RoleType::Targets, &ceremony.targets),
        (RoleType::Snapshot, &ceremony.snapshot),
        (RoleType::Timestamp, &ceremony.timestamp),
    ];
    let root = root(&parts, keys, until(expiry.root))?;
    let mut targets = Targets::new(until(expiry.targets));
    targets.delegations = Some(delegations(ceremony, keys)?);
    let mut drafts = vec![
        (Repository::Image, top_role("root"), root.to_signed()),
        (Repository::Image, RoleName::targets(), targets.to_signed()),
    ];
    for (product, _) in &ceremony.products {
        let role = role_of(product.name.as_str())?;
        drafts.push((
            Repository::Image,
            role,
            Targets::new(until(expiry.targets)).to_signed(),
        ));
    }
    if let Some((own, online)) = &ceremony.director {
        let parts = [
            (RoleType::Root, own),
            (RoleType::Targets, online),
            (RoleType::Snapshot, online),
            (RoleType::Timestamp, online),
        ];
        let root = self::root(&parts, keys, until(expiry.root))?;
        drafts.push((Repository::Director, top_role("root"), root.to_signed()));
    }
    Ok(drafts)
}

fn root(
    parts: &[(RoleType, &Holders)],
    keys: &BTreeMap<PathBuf, Key>,
    expires: UtcTime,
) -> Result<Root, SignerError> {
    let mut root = Root::new(expires);
    for (role, holders) in parts {
        root.roles
            .insert(*role, holders.role_keys(role.as_str(), keys)?);
        let keys = holders.files.iter().filter_map(|file| keys.get(file));
        root.keys.extend(keys.map(|key| (key.id(), key.clone())));
    }
    Ok(root)
}

fn delegations(
    ceremony: &Ceremony,
    keys: &BTreeMap<PathBuf, Key>,
) -> Result<Delegations, SignerError> {
    let mut used = BTreeMap::new();
    let mut roles = Vec::new();
    for (product, holders) in &ceremony.products {
        let keys = holders.files.iter().filter_map(|file| keys.get(file));
        used.extend(keys.map(|key| (key.id(), key.clone())));
        roles.push((product.name.as_str(), holders));
    }
    let roles = roles
        .into_iter()
        .map(|(name, holders)| delegated(name, holders.role_keys(name, keys)?))
        .collect::<Result<_, SignerError>>()?;
    Ok(Delegations {
        keys: used,
        roles: Listing::Roles(roles),
        extra: ampoule_protocol::json::Map::new(),
    })
}

/// The role of a product: trusted for its own folder, and nobody after it is asked.
pub fn delegated(
    product: &str,
    keys: ampoule_protocol::metadata::RoleKeys,
) -> Result<DelegatedRole, SignerError> {
    Ok(DelegatedRole {
        name: role_of(product)?,
        keys,
        trusts: Trusts::Paths(vec![format!("{product}/*")]),
        terminating: true,
    })
}

fn role_of(product: &str) -> Result<RoleName, SignerError> {
    RoleName::parse(product).map_err(|e| SignerError::Ourselves(e.to_string()))
}

fn duties(ceremony: &Ceremony, keys: &BTreeMap<PathBuf, Key>) -> Vec<Duty> {
    let online = ceremony.online_files();
    let files = ceremony.files();
    files
        .iter()
        .filter_map(|(file, roles)| {
            Some(Duty {
                holder: holder_name(file),
                id: keys.get(file)?.id(),
                roles: roles.clone(),
                online: online.contains(&file),
            })
        })
        .collect()
}

/// The name of a key file without its ending.
pub fn holder_name(file: &Path) -> String {
    file.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}
