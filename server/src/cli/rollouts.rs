//! `rollout …` and `device tag`: through the running server.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use clap::Subcommand;

use super::Common;
use super::devices::{ask, print};
use crate::admin::{Ask, RolloutAsk, Told};
use crate::config::Config;
use crate::error::ServerError;
use crate::rollout::{Act, RolloutId};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a rollout from a plan.
    Create {
        /// The plan, TOML.
        plan: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Say what a plan would do to the recorded fleet, and change nothing.
    DryRun {
        /// The plan, TOML.
        plan: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// All rollouts.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// One rollout.
    Show(Named),
    /// Approve a plan, named by its digest as "show" prints it.
    Approve {
        #[command(flatten)]
        named: Named,
        /// Who approves.
        #[arg(long)]
        by: String,
        /// The digest of the plan that was read.
        #[arg(long, value_parser = Digest::parse)]
        plan: Digest,
    },
    /// Stop the spread; offers stand.
    Pause(Named),
    /// Let a paused or halted rollout go on.
    Resume(Named),
    /// End a rollout; offers that were not begun are taken back.
    Abort(Named),
    /// Offer the release once more to devices that failed.
    Retry(Named),
    /// Who may be out of service now, because of an offer or a lock of its own.
    Permits {
        #[command(flatten)]
        common: Common,
    },
    /// Why a device is or is not offered what.
    Why {
        /// The device.
        device: DeviceId,
        /// Of this rollout alone.
        #[arg(long)]
        rollout: Option<RolloutId>,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The rollout.
    name: RolloutId,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(super) fn run(self) -> Result<(), ServerError> {
        match self {
            Self::Create { plan, common } => create(&plan, false, &common),
            Self::DryRun { plan, common } => create(&plan, true, &common),
            Self::List { common } => tell(RolloutAsk::List, "", &common),
            Self::Permits { common } => tell(RolloutAsk::Permits, "", &common),
            Self::Show(named) => {
                let (name, common) = (named.name, named.common);
                tell(RolloutAsk::Show { name, waits: true }, "", &common)
            }
            Self::Approve { named, by, plan } => named.act(Act::Approve { by, plan }),
            Self::Pause(named) => named.act(Act::Pause),
            Self::Resume(named) => named.act(Act::Resume),
            Self::Abort(named) => named.act(Act::Abort),
            Self::Retry(named) => named.act(Act::Retry),
            Self::Why {
                device,
                rollout: name,
                common,
            } => {
                let who = device.to_string();
                tell(RolloutAsk::Why { device, name }, &who, &common)
            }
        }
    }
}

impl Named {
    fn act(self, act: Act) -> Result<(), ServerError> {
        let name = self.name;
        tell(RolloutAsk::Act { name, act }, "", &self.common)
    }
}

fn create(path: &PathBuf, dry_run: bool, common: &Common) -> Result<(), ServerError> {
    let plan = std::fs::read_to_string(path).map_err(ServerError::file("read", path))?;
    tell(RolloutAsk::Create { plan, dry_run }, "", common)
}

/// `device tag`.
pub(super) fn tag(device: DeviceId, tags: &[String], common: &Common) -> Result<(), ServerError> {
    let pair = |tag: &String| {
        let (name, value) = tag.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let pairs: Option<BTreeMap<_, _>> = tags.iter().map(pair).collect();
    let wrong = || ServerError::Refused("a tag is written NAME=VALUE".into());
    let tags = pairs.ok_or_else(wrong)?;
    let who = device.to_string();
    tell(RolloutAsk::Tag { device, tags }, &who, common)
}

fn tell(question: RolloutAsk, device: &str, common: &Common) -> Result<(), ServerError> {
    let config = Config::load(&common.config)?;
    let Told::Rollout { text, value } = ask(&Ask::Rollout(question), &config, device)? else {
        return Err(ServerError::Refused("an answer to something else".into()));
    };
    print(common.json, &value, || text);
    Ok(())
}
