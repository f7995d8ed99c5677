//! What speaks against offering a release to a device, whatever the rollout's stage.

use ampoule_protocol::release::ReleaseVersion;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::version::RollbackIndex;
use serde::Serialize;

use super::book::Rollout;
use super::facts::{DeviceFacts, Profile, REGION};
use super::plan::{ComponentFacts, Kind, Late};

/// The first thing that speaks against it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "objection", rename_all = "kebab-case")]
pub enum Objection {
    /// It may not speak to us.
    #[error("the device is not enrolled")]
    NotEnrolled,
    /// What it runs is not known.
    #[error("the device has not reported what it runs")]
    NeverReported,
    /// Another product.
    #[error("the device is of product \"{found}\"")]
    OtherProduct {
        /// The device's.
        found: String,
    },
    /// The filter leaves it out.
    #[error("the filter leaves the device out")]
    Filter,
    /// Nothing of the release fits.
    #[error("nothing in the release fits hardware \"{found}\"")]
    Hardware {
        /// The device's.
        found: String,
    },
    /// Not cleared where the device is.
    #[error("the release is not cleared for region \"{found}\"")]
    Region {
        /// The device's.
        found: String,
    },
    /// The release is cleared for some regions, and nobody said where the device is.
    #[error("the release is cleared for some regions only, and the device has no tag \"region\"")]
    NoRegion,
    /// It has what is offered.
    #[error("the device runs the release already")]
    Runs,
    /// Below the floor of the device.
    #[error("rollback index {index} is below the device's floor {floor}")]
    Floor {
        /// The release's.
        index: RollbackIndex,
        /// The device's.
        floor: RollbackIndex,
    },
    /// It has something newer.
    #[error("the device runs {found} of \"{component}\", which is newer")]
    Newer {
        /// Of which part.
        component: String,
        /// Its version.
        found: String,
    },
    /// A prerequisite is not met.
    #[error("the release requires \"{subject}\" {wanted}, the device has {found}")]
    Requires {
        /// Component or tag.
        subject: String,
        /// The bounds.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// A recall, and the device runs nothing of what is recalled.
    #[error("the device runs none of the recalled releases")]
    NotRecalled,
    /// It came after the start.
    #[error("the device was enrolled after the rollout began")]
    JoinedLate,
}

/// What speaks against offering the rollout's release to the device.
///
/// # Errors
/// The first objection, in the order of [`Objection`].
pub fn object(rollout: &Rollout, device: &DeviceFacts, now: UtcTime) -> Result<(), Objection> {
    if !device.enrolled {
        return Err(Objection::NotEnrolled);
    }
    let profile = device.profile.as_deref().ok_or(Objection::NeverReported)?;
    let (plan, release) = (&rollout.plan, &rollout.release);
    if profile.product != release.product {
        let found = profile.product.to_string();
        return Err(Objection::OtherProduct { found });
    }
    if !plan.filter.matches(device, now) {
        return Err(Objection::Filter);
    }
    let fitting = || {
        let components = release.components.iter();
        components.filter(|component| component.hardware.contains(&profile.hardware))
    };
    if fitting().next().is_none() {
        let found = profile.hardware.to_string();
        return Err(Objection::Hardware { found });
    }
    region(rollout, device)?;
    if fitting().all(|component| runs(profile, component)) {
        return Err(Objection::Runs);
    }
    if plan.kind == Kind::Recall && !runs_recalled(rollout, profile) {
        return Err(Objection::NotRecalled);
    }
    if plan.kind != Kind::Downgrade && release.rollback_index < profile.floor {
        let (index, floor) = (release.rollback_index, profile.floor);
        return Err(Objection::Floor { index, floor });
    }
    for component in fitting() {
        if plan.kind == Kind::Forward {
            newer(&release.version, profile, component)?;
        }
        requires(device, profile, component)?;
    }
    let began = plan.start.map_or(rollout.created_at, UtcTime::unix);
    if plan.late == Late::Refuse && device.enrolled_at > began {
        return Err(Objection::JoinedLate);
    }
    Ok(())
}

fn region(rollout: &Rollout, device: &DeviceFacts) -> Result<(), Objection> {
    let cleared = &rollout.release.regions;
    match device.tag(REGION) {
        _ if cleared.is_empty() => Ok(()),
        None => Err(Objection::NoRegion),
        Some(region) if cleared.contains(region) => Ok(()),
        Some(region) => Err(Objection::Region {
            found: region.to_owned(),
        }),
    }
}

fn runs(profile: &Profile, component: &ComponentFacts) -> bool {
    let running = profile.running.get(&component.name);
    running.is_some_and(|running| running.sha256 == Some(component.sha256))
}

/// A recall names releases; what devices report are artifacts. The book knows both.
fn runs_recalled(rollout: &Rollout, profile: &Profile) -> bool {
    let mut running = profile
        .running
        .values()
        .filter_map(|running| running.sha256);
    running.any(|digest| rollout.recalled_artifacts.contains(&digest))
}

fn newer(version: &str, profile: &Profile, component: &ComponentFacts) -> Result<(), Objection> {
    let running = profile.running.get(&component.name);
    let Some(found) = running.and_then(|running| running.version.as_deref()) else {
        return Ok(());
    };
    let (Ok(ours), Ok(theirs)) = (ReleaseVersion::parse(version), ReleaseVersion::parse(found))
    else {
        return Ok(());
    };
    if theirs > ours {
        return Err(Objection::Newer {
            component: component.name.clone(),
            found: found.to_owned(),
        });
    }
    Ok(())
}

/// What is neither a component nor a tag we do not know; the device itself asks for it again.
fn requires(
    device: &DeviceFacts,
    profile: &Profile,
    component: &ComponentFacts,
) -> Result<(), Objection> {
    for (subject, wanted) in &component.requires {
        let running = profile.running.get(subject);
        let version = running.and_then(|running| running.version.as_deref());
        let Some(found) = version.or_else(|| device.tag(subject)) else {
            continue;
        };
        if !wanted.is_met_by(found) {
            return Err(Objection::Requires {
                subject: subject.clone(),
                wanted: wanted.to_string(),
                found: found.to_owned(),
            });
        }
    }
    Ok(())
}
