//! Which release this device takes: the newest that its policy allows. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ampoule_delta::Caps;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::downgrade::{Downgrade, Holder};
use ampoule_protocol::name::{ComponentName, DeviceId, HardwareId};
use ampoule_protocol::release::{
    Activation, Component, DeltaRef, FileRef, Release, ReleaseVersion,
};
use ampoule_protocol::time::UtcTime;

use crate::install::Place;
use crate::machine::{BootViews, Facts, Installed, Notice, Part, Plan, Whole};

/// What the device is, for the choice.
pub struct Policy<'a> {
    /// Its hardware.
    pub hardware: &'a HardwareId,
    /// Where it is.
    pub region: Option<&'a str>,
    /// Facts that releases may require.
    pub facts: &'a [(String, String)],
    /// Memory that a patch may take.
    pub patch_memory_max: u64,
    /// The longest artifact that is fetched whole; `None` for any.
    pub whole_bytes_max: Option<u64>,
    /// The time of this look.
    pub now: UtcTime,
    /// Its components.
    pub places: &'a [Place],
    /// What the boot loader says of them.
    pub views: &'a BootViews,
    /// Which device it is.
    pub device: &'a DeviceId,
    /// Downgrade records of its product, verified and fresh.
    pub records: &'a [Downgrade],
}

/// What runs, by component; a component whose image nobody knows is absent.
pub type RunningImages = BTreeMap<ComponentName, Installed>;

/// A release and the target that carries it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The target.
    pub target: FileRef,
    /// Its description.
    pub release: Release,
}

/// Why a release is not taken.
pub use crate::machine::PassedOver as Passed;

/// Candidates from the newest, those that this device must not take left out with the reason.
pub fn allowed(
    policy: &Policy<'_>,
    facts: &Facts,
    running: &RunningImages,
    mut candidates: Vec<Candidate>,
) -> (Vec<Candidate>, Vec<Passed>) {
    candidates.sort_by(|a, b| order(&b.release).cmp(&order(&a.release)));
    // A record that names this device goes before all that is newer: it was signed to do so.
    let is_ordered =
        |candidate: &Candidate| record_for(policy, facts, running, &candidate.release).is_some();
    if candidates.iter().any(is_ordered) {
        candidates.retain(is_ordered);
    }
    let mut passed = Vec::new();
    candidates.retain(
        |candidate| match objection(policy, facts, running, &candidate.release) {
            None => true,
            Some((code, why)) => {
                let version = candidate.release.version.clone();
                passed.push(Passed {
                    version,
                    code: code.to_owned(),
                    why,
                });
                false
            }
        },
    );
    (candidates, passed)
}

/// The record by which this device may go down to `release`.
fn record_for<'a>(
    policy: &Policy<'a>,
    facts: &Facts,
    running: &RunningImages,
    release: &Release,
) -> Option<&'a Downgrade> {
    let holder = Holder {
        device: policy.device,
        used: facts.downgrades,
        now: policy.now,
    };
    let parts = release.for_hardware(policy.hardware);
    let images: Option<Vec<&ReleaseVersion>> = parts
        .filter(|component| place_of(policy, component).is_some())
        .map(|component| running.get(&component.name)?.version.as_ref())
        .collect();
    let images = images?;
    let to = (&release.version, release.rollback_index);
    let mut records = policy.records.iter();
    records.find(|record| record.is_for(holder, &images, to).is_ok())
}

fn order(release: &Release) -> (u64, &ReleaseVersion) {
    (release.rollback_index.0, &release.version)
}

fn objection(
    policy: &Policy<'_>,
    facts: &Facts,
    running: &RunningImages,
    release: &Release,
) -> Option<(&'static str, String)> {
    let record = record_for(policy, facts, running, release);
    if release.rollback_index < facts.floor && record.is_none() {
        let (found, floor) = (release.rollback_index, facts.floor);
        return Some((
            "rollback-index",
            format!("rollback index {found} is below the floor {floor}"),
        ));
    }
    let fits = |component: &Component| place_of(policy, component).is_some();
    if !release.for_hardware(policy.hardware).any(fits) {
        return Some((
            "hardware",
            format!("nothing in it fits \"{}\"", policy.hardware),
        ));
    }
    if !release.regions.is_empty() {
        match policy.region {
            Some(region) if release.regions.iter().any(|cleared| cleared == region) => {}
            Some(region) => return Some(("region", format!("it is not cleared for \"{region}\""))),
            // Not to know where one is, is no clearance.
            None => {
                let regions = release.regions.join(", ");
                let why = format!(
                    "it is cleared for {regions} alone, and this device was not told its \"region\""
                );
                return Some(("region-unknown", why));
            }
        }
    }
    let unmet = release
        .for_hardware(policy.hardware)
        .flat_map(|component| &component.requires);
    for (subject, requirement) in unmet {
        let found = fact(policy, running, subject);
        if !found
            .as_deref()
            .is_some_and(|found| requirement.is_met_by(found))
        {
            let found = found.unwrap_or_else(|| "nothing".to_owned());
            return Some((
                "requires",
                format!("it needs {subject} {requirement}, found {found}"),
            ));
        }
    }
    if record.is_some() {
        return None;
    }
    let newer = running.iter().find(|(component, image)| {
        let in_release = release
            .components
            .iter()
            .any(|other| other.name == **component);
        let order_of_image = image
            .version
            .as_ref()
            .map(|version| (image.rollback_index.0, version));
        in_release && order_of_image.is_some_and(|image| image > order(release))
    });
    newer.map(|(component, _)| ("older", format!("\"{component}\" is newer already")))
}

fn fact(policy: &Policy<'_>, running: &RunningImages, subject: &str) -> Option<String> {
    let told = policy.facts.iter().find(|(name, _)| name == subject);
    if let Some((_, version)) = told {
        return Some(version.clone());
    }
    let name = ComponentName::parse(subject).ok()?;
    running
        .get(&name)?
        .version
        .as_ref()
        .map(ToString::to_string)
}

fn place_of<'a>(policy: &Policy<'a>, component: &Component) -> Option<&'a Place> {
    let same =
        |place: &&Place| place.component == component.name && place.install == component.install;
    policy.places.iter().find(same)
}

/// The update to a release; `None` where everything in it runs already. Components that a newer
/// release names (`settled`) are left to that one.
pub fn plan(
    policy: &Policy<'_>,
    facts: &Facts,
    running: &RunningImages,
    candidate: &Candidate,
    settled: &BTreeSet<ComponentName>,
) -> Result<Option<Plan>, Passed> {
    let release = &candidate.release;
    let mut parts = Vec::new();
    for component in release.for_hardware(policy.hardware) {
        if settled.contains(&component.name) {
            continue;
        }
        let (Some(place), Some(view)) = (
            place_of(policy, component),
            policy.views.get(&component.name),
        ) else {
            continue;
        };
        let before = running.get(&component.name).cloned();
        if before
            .as_ref()
            .is_some_and(|image| image.sha256 == component.artifact.sha256)
        {
            continue;
        }
        let base = before.as_ref().map(|image| image.sha256);
        let delta = base
            .and_then(|base| delta(policy, component, &base))
            .filter(|delta| !facts.forgoes_patch(&delta.file.sha256));
        let whole = whole(policy, component);
        if delta.is_none() && whole == Whole::TooLong {
            return Err(Passed {
                version: release.version.clone(),
                code: "metered".to_owned(),
                why: format!(
                    "\"{}\" has {} bytes, more than this device fetches whole, and no delta from what it runs",
                    component.name, component.artifact.length
                ),
            });
        }
        parts.push(Part {
            component: component.name.clone(),
            install: component.install.clone(),
            slot: view.running.other(),
            artifact: component.artifact.clone(),
            blocks: component.blocks.clone(),
            delta,
            before,
            whole,
            meta_data: component.meta_data.clone(),
            live: component.activation == Activation::Live && place.options.live,
        });
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let plan = Plan {
        release: candidate.target.clone(),
        version: release.version.clone(),
        rollback_index: release.rollback_index,
        class: release.class,
        notice: Notice::of(release),
        parts,
        downgrade: record_for(policy, facts, running, release).map(|record| record.serial),
    };
    match facts.refuses(&plan, policy.now) {
        None => Ok(Some(plan)),
        Some(code) => Err(Passed {
            version: plan.version.clone(),
            code: "refused".to_owned(),
            why: format!("it was refused on this device ({code})"),
        }),
    }
}

/// Whether an artifact may come whole over this device's link.
fn whole(policy: &Policy<'_>, component: &Component) -> Whole {
    let is_short = |max| component.artifact.length <= max;
    if policy.whole_bytes_max.is_none_or(is_short) {
        Whole::Allowed
    } else {
        Whole::TooLong
    }
}

/// The patch from what runs, where it is cheaper and within the device's means.
fn delta(policy: &Policy<'_>, component: &Component, base: &Digest) -> Option<DeltaRef> {
    let delta = component.delta_from(base)?;
    let is_cheaper = delta.file.length < component.artifact.length;
    let fits = delta.memory <= policy.patch_memory_max;
    // What another build of the agent can do is not what this one can.
    let ours = Caps::all();
    let has = |cap: &String| Caps::from_name(cap).is_some_and(|cap| ours.contains(cap));
    (is_cheaper && fits && delta.caps.iter().all(has)).then(|| delta.clone())
}
