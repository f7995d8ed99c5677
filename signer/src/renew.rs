//! Drafting what is there once more, before it expires; and adding a product.

use std::path::{Path, PathBuf};

use ampoule_protocol::json::Map;
use ampoule_protocol::metadata::{Delegations, Listing, Targets};
use ampoule_protocol::name::{ProductName, RoleName};
use ampoule_protocol::time::UtcTime;

use crate::add::{redraft, require_unsigned, role_of};
use crate::ceremony::role_keys;
use crate::director::{self, Part};
use crate::durable::{self, Access, Disk};
use crate::error::{OperatorError, SignerError};
use crate::init::delegated;
use crate::releases;
use crate::rotate::{draft_root, keep_holders};
use crate::settings::Product;
use crate::workspace::{Workspace, top_role};

/// Drafts the next version of root, targets, a product or the director's root with the same content and a new expiry.
pub fn renew(
    disk: &dyn Disk,
    dir: &Path,
    role: &str,
    now: UtcTime,
) -> Result<PathBuf, SignerError> {
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    if role == "root" {
        require_unsigned(&workspace, &top_role("root"))?;
        let root = workspace.coming_root()?;
        return draft_root(disk, &mut workspace, root, now);
    }
    if director::part(&workspace, role) == Some(Part::Root) {
        return director::renew(disk, &mut workspace, now);
    }
    let mut known: Vec<RoleName> = vec![top_role("root"), RoleName::targets()];
    known.extend(workspace.coming_roles()?);
    let Some(name) = known.iter().find(|known| known.as_str() == role) else {
        let of_director = director::names(&workspace).into_iter();
        let of_director = of_director.filter(|name| name == Part::Root.name());
        let known = known.iter().map(ToString::to_string).chain(of_director);
        let known = known.collect();
        return Err(OperatorError::UnknownRole {
            name: role.to_owned(),
            known,
        }
        .into());
    };
    require_unsigned(&workspace, name)?;
    let targets = workspace.coming_targets(name)?;
    redraft(disk, &mut workspace, name, targets, now)
}

/// Drafts a delegation to a new product, and the product's first, empty role. Its settings are
/// written last: a crash before leaves drafts that the same command writes again.
pub fn add_product(
    disk: &dyn Disk,
    dir: &Path,
    product: Product,
    keys: &[PathBuf],
    threshold: u64,
    now: UtcTime,
) -> Result<Vec<PathBuf>, SignerError> {
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    if workspace.settings.product(product.name.as_str()).is_some() {
        return Err(OperatorError::ProductExists {
            name: product.name.to_string(),
        }
        .into());
    }
    let targets_role = RoleName::targets();
    require_unsigned(&workspace, &targets_role)?;
    let keys = keep_holders(disk, &mut workspace, keys)?;
    let named = role_keys(&keys.iter().collect::<Vec<_>>(), threshold)?;
    let mut targets = workspace.coming_targets(&targets_role)?;
    let delegations = targets.delegations.get_or_insert_with(|| Delegations {
        keys: std::collections::BTreeMap::new(),
        roles: Listing::Roles(Vec::new()),
        extra: Map::new(),
    });
    let Listing::Roles(roles) = &mut delegations.roles else {
        let name = product.name.to_string();
        return Err(OperatorError::UnknownRole {
            name,
            known: Vec::new(),
        }
        .into());
    };
    roles.retain(|role| role.name.as_str() != product.name.as_str());
    roles.push(delegated(product.name.as_str(), named)?);
    delegations
        .keys
        .extend(keys.into_iter().map(|key| (key.id(), key)));
    let role = role_of(&product.name)?;
    let drafts = vec![
        redraft(disk, &mut workspace, &targets_role, targets, now)?,
        redraft(disk, &mut workspace, &role, Targets::new(now), now)?,
    ];
    workspace.settings.products.push(product);
    let text = workspace.settings.to_toml();
    durable::put(
        disk,
        &workspace.layout.settings(),
        text.as_bytes(),
        Access::Shared,
    )?;
    Ok(drafts)
}

/// Drafts a product's role without one of its releases. What devices run stays as it is; they are
/// not offered it any more. Its version is not used again.
pub fn withdraw(
    disk: &dyn Disk,
    dir: &Path,
    product: &str,
    version: &str,
    now: UtcTime,
) -> Result<PathBuf, SignerError> {
    let mut workspace = Workspace::open_to_write(disk, dir)?;
    let Some(known) = workspace.settings.product(product) else {
        let known = workspace
            .settings
            .products
            .iter()
            .map(|p| p.name.to_string())
            .collect();
        return Err(OperatorError::UnknownProduct {
            name: product.to_owned(),
            known,
        }
        .into());
    };
    let name = known.name.clone();
    let role = role_of(&name)?;
    require_unsigned(&workspace, &role)?;
    let mut targets = workspace.coming_targets(&role)?;
    let all = releases::of(&name, &targets)?;
    let Some(gone) = all
        .iter()
        .find(|release| release.version.to_string() == version)
    else {
        let (product, version) = (product.to_owned(), version.to_owned());
        return Err(OperatorError::UnknownRelease { product, version }.into());
    };
    releases::remove(&mut targets, gone);
    redraft(disk, &mut workspace, &role, targets, now)
}

/// A product from the command line.
pub fn product(name: &str, hardware: &[String]) -> Result<Product, SignerError> {
    let name = ProductName::parse(name).map_err(OperatorError::bad_argument("product", name))?;
    let hardware = hardware
        .iter()
        .map(|id| {
            ampoule_protocol::name::HardwareId::parse(id)
                .map_err(OperatorError::bad_argument("hardware id", id))
        })
        .collect::<Result<_, _>>()?;
    Ok(Product { name, hardware })
}
