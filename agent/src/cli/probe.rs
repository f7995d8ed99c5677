//! `probe-boot`, and the part of `daemon` and `install` that goes on with it after a restart.

use std::process::ExitCode;
use std::rc::Rc;

use ampoule_protocol::name::ComponentName;
use serde_json::json;

use super::args::Args;
use super::open::{self, CliError};
use super::show;
use crate::config::{Config, GatesConfig};
use crate::disk::Disk;
use crate::driver::End;
use crate::gate;
use crate::ports::{Restarted, Storage};
use crate::probe::{Evidence, ProbeError, Prober, Records, Went};
use crate::system::{RestartCommand, SystemClock};

/// `probe-boot`: begins a probe, or goes on with the one that is under way.
pub(super) fn run(args: &Args, config: &Config) -> Result<ExitCode, CliError> {
    let _lock = open::lock(&config.data_dir)?;
    let component = component(args, config)?;
    match probe(config, Some(&component))? {
        Went::Restart(restarted) => told(args.json, word(restarted), None),
        Went::Ended(evidence, _) => told(args.json, "ended", Some(&evidence)),
        Went::Nothing => told(args.json, "nothing", None),
    }
}

/// Goes on with a probe that is under way; how this process ends for it, if it does.
pub(super) fn go_on(config: &Config) -> Option<&'static str> {
    let storage: Rc<dyn Storage> = Rc::new(Disk);
    if !matches!(
        Records::new(storage, &config.data_dir).under_way(),
        Ok(Some(_))
    ) {
        return None;
    }
    match probe(config, None) {
        Ok(Went::Nothing | Went::Ended(_, None)) => None,
        Ok(Went::Restart(restarted) | Went::Ended(_, Some(restarted))) => Some(word(restarted)),
        // An agent that does not start cannot be mended from afar: the next start tries again.
        Err(error) => {
            eprintln!("  the boot loader's probe waits: {error}");
            None
        }
    }
}

fn component(args: &Args, config: &Config) -> Result<ComponentName, CliError> {
    let unknown = |name: &str| CliError::Probe(ProbeError::Unknown(name.to_owned()));
    match args.operand.as_deref() {
        Some(name) => ComponentName::parse(name).map_err(|_| unknown(name)),
        None => open::probed(config)
            .next()
            .cloned()
            .ok_or_else(|| unknown("")),
    }
}

/// One step over the real ports: begins with a component, goes on without one.
fn probe(config: &Config, component: Option<&ComponentName>) -> Result<Went, CliError> {
    let storage: Rc<dyn Storage> = Rc::new(Disk);
    let mut boot = open::boot_control(config, &storage).settle()?;
    // Nobody agrees to an update here, since there is none.
    let gates = GatesConfig {
        consent: None,
        ..config.gates.clone()
    };
    let mut gates = gate::all(&gates, &open::consents(config));
    let mut prober = Prober {
        storage,
        boot: &mut boot,
        places: &config.places,
        data_dir: &config.data_dir,
        clock: &SystemClock::default(),
        gates: &mut gates,
        restart: &mut RestartCommand(config.restart.clone()),
    };
    Ok(match component {
        Some(component) => prober.begin(component)?,
        None => prober.go_on()?,
    })
}

const fn word(restarted: Restarted) -> &'static str {
    match restarted {
        Restarted::UnderWay => End::Restarting.as_str(),
        Restarted::Due => End::RestartDue.as_str(),
    }
}

fn told(is_json: bool, result: &str, evidence: Option<&Evidence>) -> Result<ExitCode, CliError> {
    if is_json {
        show::document(&json!({ "result": result, "boot_probe": evidence }))?;
    } else if let Some(evidence) = evidence {
        println!("{}: {}", evidence.component, evidence.detail);
    } else {
        println!("{result}");
    }
    let is_bad = evidence.is_some_and(|evidence| !evidence.passed);
    Ok(if is_bad {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
