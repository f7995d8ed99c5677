//! Questions about rollouts, and what a person does to them.
//!
//! The operators' interface over the network stands on the same acts; here they come from whoever
//! may open the server's own socket, so the names of people are their word.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::chain;
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::release::{FileRef, Release};
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Told;
use crate::audit::{self, Record};
use crate::online;
use crate::published::Found;
use crate::rollout::cohort::CohortKey;
use crate::rollout::dry_run::{Assumed, Schedule, dry_run};
use crate::rollout::permits::holders;
use crate::rollout::waits::waits;
use crate::rollout::why::why;
use crate::rollout::{
    Act, Agenda, Book, DeviceFacts, Plan, ReleaseFacts, Rollout, RolloutId, Stage, Wait,
};
use crate::rollouts::{Heard, Rollouts};
use crate::serve::Shared;
use crate::store::{Write, Written};

/// Tags of one device.
const TAGS_MAX: usize = 32;
/// Bytes of a tag's name or value.
const TAG_LEN_MAX: usize = 64;

/// A question about rollouts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "about", rename_all = "kebab-case")]
pub enum RolloutAsk {
    /// Make one.
    Create {
        /// The plan, TOML.
        plan: String,
        /// Only say what it would do.
        dry_run: bool,
    },
    /// All of them.
    List,
    /// One.
    Show {
        /// Which.
        name: RolloutId,
        /// Also what it waits for: a look at every device.
        #[serde(default)]
        waits: bool,
    },
    /// Something is done to one.
    Act {
        /// Which.
        name: RolloutId,
        /// What; "act" is taken by the question itself.
        #[serde(rename = "what")]
        act: Act,
    },
    /// Why a device is or is not offered what.
    Why {
        /// Which device.
        device: DeviceId,
        /// Of this rollout alone.
        name: Option<RolloutId>,
    },
    /// Who may be out of service now.
    Permits,
    /// What operators say of a device.
    Tag {
        /// Which device.
        device: DeviceId,
        /// All of its tags.
        tags: BTreeMap<String, String>,
    },
}

/// Answers.
pub(super) async fn answer(shared: &Shared, ask: &RolloutAsk) -> Told {
    // What devices told before the question is known to the answer.
    let known = shared.rollouts.look(&shared.writer, shared.now()).await;
    if let Err(error) = known {
        return Told::Failed { what: said(&error) };
    }
    let told = match ask {
        RolloutAsk::Create { plan, dry_run } => create(shared, plan, *dry_run).await,
        RolloutAsk::List => Ok(list(&shared.rollouts)),
        RolloutAsk::Show { name, waits } => show(shared, name, *waits).await,
        RolloutAsk::Act { name, act } => acted(shared, name, act).await,
        RolloutAsk::Why { device, name } => of_device(shared, device, name.as_ref()).await,
        RolloutAsk::Permits => permits(shared).await,
        RolloutAsk::Tag { device, tags } => tag(shared, device, tags).await,
    };
    told.unwrap_or_else(|what| Told::Failed { what })
}

/// What the audit log says of a question that changes something.
pub(super) fn record_of(ask: &RolloutAsk, by: &str) -> Option<Record> {
    match ask {
        RolloutAsk::Create {
            plan,
            dry_run: false,
        } => {
            let record = Record::new(audit::Act::RolloutCreate, by);
            Some(match Plan::parse(plan) {
                Ok(plan) => record.about("rollout", &plan.name).digest(plan.digest()),
                Err(_) => record.digest(Digest::of(plan.as_bytes())),
            })
        }
        RolloutAsk::Act { name, act } => {
            let kind = match act {
                Act::Approve { .. } => audit::Act::RolloutApprove,
                Act::Pause => audit::Act::RolloutPause,
                Act::Resume => audit::Act::RolloutResume,
                Act::Abort => audit::Act::RolloutAbort,
                Act::Retry => audit::Act::RolloutRetry,
            };
            let record = Record::new(kind, by).about("rollout", name);
            Some(match act {
                Act::Approve { by, plan } => record.digest(*plan).with("name", by),
                Act::Pause | Act::Resume | Act::Abort | Act::Retry => record,
            })
        }
        RolloutAsk::Tag { device, tags } => {
            let record = Record::new(audit::Act::Tag, by).about("device", device);
            Some(record.with("tags", tags))
        }
        RolloutAsk::Create { dry_run: true, .. }
        | RolloutAsk::List
        | RolloutAsk::Show { .. }
        | RolloutAsk::Permits
        | RolloutAsk::Why { .. } => None,
    }
}

type Answer = Result<Told, String>;

fn said(error: &(dyn std::error::Error + 'static)) -> String {
    chain(error, None)
        .replace('\n', "; ")
        .replacen("error: ", "", 1)
}

async fn create(shared: &Shared, plan: &str, only_try: bool) -> Answer {
    let plan = Plan::parse(plan).map_err(|error| said(&error))?;
    if shared.director.is_none() {
        return Err("the configuration has no [director], so devices cannot be told".into());
    }
    let release = resolve(shared, &plan)?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| format!("no randomness: {error}"))?;
    let now = shared.now();
    let rollout = Rollout::new(plan, release, CohortKey::new(key), now);
    if only_try {
        let rollouts = shared.rollouts.clone();
        let run = move || {
            let (book, devices, caps) = {
                let state = rollouts.state();
                let (devices, caps) = state.world();
                (state.book().clone(), devices.to_vec(), caps.to_vec())
            };
            dry_run(&book, rollout, (&devices, &caps), Assumed::default(), now)
        };
        let schedule = tokio::task::spawn_blocking(run).await;
        let schedule = schedule.map_err(|error| error.to_string())?;
        let schedule = schedule.map_err(|error| said(&error))?;
        return Ok(told(foretold(&schedule), &schedule));
    }
    let row = row(&rollout);
    let text = made(&rollout);
    let added = shared.rollouts.add(&shared.writer, rollout).await;
    added.map_err(|error| said(&error))?;
    Ok(told(text, &row))
}

/// What was made, and what comes next.
fn made(rollout: &Rollout) -> String {
    let plan = &rollout.plan;
    let (name, digest, approvals) = (&plan.name, plan.digest(), plan.approvals);
    let mut text = format!(
        "rollout {name} of {} is {}\nplan {digest}",
        rollout.release.target.path,
        rollout.status.stage.as_str()
    );
    if approvals > 0 {
        let _ = write!(
            text,
            "\nnext: {approvals} other(s) read the plan and approve this digest of it"
        );
    }
    text
}

/// The release that the plan names, out of the published tree as a device would trust it.
fn resolve(shared: &Shared, plan: &Plan) -> Result<ReleaseFacts, String> {
    let timestamp = match shared.published.find("metadata/timestamp.json") {
        Ok(Some(Found::Timestamp(document))) => document.plain.bytes.to_vec(),
        Ok(_) => return Err("nothing is published yet".into()),
        Err(error) => return Err(error.to_string()),
    };
    let tree = online::Tree::of(&shared.config.tree);
    let target = tree.find(&timestamp, &plan.release, shared.now());
    let target = target.map_err(|error| said(&error))?;
    let target = target.ok_or_else(|| format!("no role describes \"{}\"", plan.release))?;
    let found = target.file().hashes.sha256;
    if found != Some(plan.sha256) {
        let found = found.map_or("none".into(), |found| found.to_string());
        return Err(format!(
            "\"{}\" has digest {found}, the plan names {}: it is another release",
            plan.release, plan.sha256
        ));
    }
    let release = Release::of_target(&target).map_err(|error| said(&error))?;
    let file = FileRef {
        path: target.path().clone(),
        length: target.file().length,
        sha256: plan.sha256,
    };
    Ok(ReleaseFacts::of(file, &release))
}

async fn acted(shared: &Shared, name: &RolloutId, act: &Act) -> Answer {
    let done = shared
        .rollouts
        .act(&shared.writer, name, act, shared.now())
        .await;
    done.map_err(|error| said(&error))?;
    show(shared, name, false).await
}

fn list(rollouts: &Rollouts) -> Told {
    let state = rollouts.state();
    let rows: Vec<Value> = state.book().rollouts().map(row).collect();
    let mut text = String::from("ROLLOUT  STAGE  STEP  OFFERED  COMMITTED  FAILED  RELEASE");
    for rollout in state.book().rollouts() {
        let tally = rollout.tally();
        let _ = write!(
            text,
            "\n{}  {}  {}/{}  {}  {}  {}  {}",
            rollout.plan.name,
            rollout.status.stage.as_str(),
            rollout.status.step + 1,
            rollout.plan.steps.len(),
            tally.offered,
            tally.committed,
            tally.failures,
            rollout.release.target.path
        );
    }
    told(text, &rows)
}

async fn show(shared: &Shared, name: &RolloutId, with_waits: bool) -> Answer {
    let (rollouts, name, now) = (shared.rollouts.clone(), name.clone(), shared.now());
    let look = move || {
        let unknown = || format!("there is no rollout \"{name}\"");
        if !with_waits {
            let state = rollouts.state();
            let rollout = state.book().rollout(&name).ok_or_else(unknown)?;
            return Ok(told(described(rollout), &row(rollout)));
        }
        rollouts.told(now, |book, devices, agenda| {
            let rollout = book.rollout(&name).ok_or_else(unknown)?;
            Ok(with_waits_of(
                rollout,
                &waits(rollout, (book, devices), agenda),
            ))
        })
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|error| error.to_string())?
}

/// One rollout, and what it waits for.
fn with_waits_of(rollout: &Rollout, waits: &[Wait]) -> Told {
    let (mut text, mut row) = (described(rollout), row(rollout));
    for wait in waits {
        let _ = write!(text, "\nwaits for  {wait}");
    }
    let with_text = |wait: &Wait| json!({"wait": wait, "text": wait.to_string()});
    row["waits"] = waits.iter().map(with_text).collect();
    told(text, &row)
}

/// One rollout, for people.
fn described(rollout: &Rollout) -> String {
    let tally = rollout.tally();
    let mut text = format!(
        "rollout    {}\nrelease    {} {}\nplan       {}\nstage      {} since {}\n\
         step       {} of {}\noffered    {} ({} open)\ncommitted  {}\nfailed     {} ({} silent)",
        rollout.plan.name,
        rollout.release.target.path,
        rollout.release.target.sha256.short(),
        rollout.plan.digest(),
        rollout.status.stage.as_str(),
        UtcTime::from_unix(rollout.status.since),
        rollout.status.step + 1,
        rollout.plan.steps.len(),
        tally.offered,
        tally.open,
        tally.committed,
        tally.failures,
        tally.silent
    );
    if let Stage::Halted { why } = &rollout.status.stage {
        let _ = write!(text, "\nwhy        {why}");
    }
    let clean = tally.failures == 0 && tally.committed > 0;
    if clean {
        let rate = crate::rollout::statistics::excluded_rate(tally.committed) * 100.0;
        let _ = write!(
            text,
            "\nexcludes   failure rates above {rate:.3} % (95 % confidence)"
        );
    }
    text
}

fn row(rollout: &Rollout) -> Value {
    json!({
        "name": rollout.plan.name,
        "plan": rollout.plan,
        "plan_digest": rollout.plan.digest(),
        "release": rollout.release.target,
        "version": rollout.release.version,
        "status": rollout.status,
        "tally": rollout.tally(),
    })
}

async fn of_device(shared: &Shared, device: &DeviceId, name: Option<&RolloutId>) -> Answer {
    let Some(known) = shared.fleet.find(device) else {
        return Ok(Told::Unknown);
    };
    let (rollouts, name, number) = (shared.rollouts.clone(), name.cloned(), known.row().number);
    let now = shared.now();
    let look = move || {
        rollouts.told(now, |book, devices, agenda| {
            let facts = devices.get(number as usize);
            facts.map_or(Told::Unknown, |facts| {
                reasons((book, facts), name.as_ref(), agenda)
            })
        })
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|error| error.to_string())
}

/// Of a device, for each rollout or for one.
fn reasons(
    (book, facts): (&Book, &DeviceFacts),
    name: Option<&RolloutId>,
    agenda: &Agenda,
) -> Told {
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    let all = book.rollouts();
    for rollout in all.filter(|rollout| name.is_none_or(|name| rollout.plan.name == *name)) {
        let reason = why(book, rollout, facts, agenda);
        lines.push(format!("{}: {reason}", rollout.plan.name));
        values.push(json!({
            "rollout": rollout.plan.name,
            "release": rollout.release.target,
            "reason": reason,
            "text": reason.to_string(),
        }));
    }
    if lines.is_empty() {
        lines.push("no rollout names a release".to_owned());
    }
    told(lines.join("\n"), &values)
}

async fn permits(shared: &Shared) -> Answer {
    let (rollouts, now) = (shared.rollouts.clone(), shared.now());
    let look = move || {
        let state = rollouts.state();
        let (devices, caps) = state.world();
        holders(state.book(), devices, caps, now)
    };
    let looked = tokio::task::spawn_blocking(look).await;
    let holders = looked.map_err(|error| error.to_string())?;
    let mut text = String::from("DEVICE  COUNTED BY  BECAUSE OF  UNTIL");
    for holder in &holders {
        let counted = holder
            .counted
            .iter()
            .map(|(tag, value)| format!("{tag}={value}"));
        let counted: Vec<_> = counted.collect();
        let counted = if counted.is_empty() {
            "-".into()
        } else {
            counted.join(" ")
        };
        let offers = holder
            .offers
            .iter()
            .map(|offer| (format!("rollout {}", offer.rollout), offer.until));
        let locks = holder
            .lock
            .iter()
            .map(|lock| ("its own lock".to_owned(), lock.until));
        for (because, until) in offers.chain(locks) {
            let _ = write!(text, "\n{}  {counted}  {because}  {until}", holder.device);
        }
    }
    Ok(told(text, &holders))
}

async fn tag(shared: &Shared, device: &DeviceId, tags: &BTreeMap<String, String>) -> Answer {
    let fits = |text: &String| {
        (1..=TAG_LEN_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
    };
    if tags.len() > TAGS_MAX || !tags.iter().all(|(name, value)| fits(name) && fits(value)) {
        return Err("a device has at most 32 tags, each name and value of 1 to 64 bytes".into());
    }
    let bytes = serde_json::to_vec(tags).map_err(|error| error.to_string())?;
    let write = Write::Tags {
        device: device.clone(),
        bytes,
    };
    let written = shared.writer.write(write).await;
    match written.map_err(|error| said(&error))? {
        Written::Done(row) | Written::Repeated(row) => {
            shared.rollouts.hear(Heard::Tags(row.number, tags.clone()));
            let pairs = tags.iter().map(|(name, value)| format!("{name}={value}"));
            let pairs: Vec<String> = pairs.collect();
            Ok(told(format!("{device}: {}", pairs.join(" ")), tags))
        }
        Written::UnknownDevice
        | Written::Kept
        | Written::Recorded(_)
        | Written::Conflict { .. } => Ok(Told::Unknown),
    }
}

fn foretold(schedule: &Schedule) -> String {
    let mut text = String::from("STEP  DEVICES  FROM  UNTIL  EXCLUDES RATES ABOVE");
    for step in &schedule.steps {
        let _ = write!(
            text,
            "\n{}  {}  {}  {}  {:.3} %",
            step.step,
            step.devices.len(),
            step.at,
            step.until,
            step.excludes_above * 100.0
        );
    }
    if let Some(done) = schedule.done_at {
        let _ = write!(text, "\ndone at {done}");
    }
    for (reason, count) in &schedule.left_out {
        let _ = write!(text, "\nleft out: {count}: {reason}");
    }
    text
}

fn told(text: String, value: &impl Serialize) -> Told {
    Told::Rollout {
        text,
        value: serde_json::to_value(value).unwrap_or(Value::Null),
    }
}
