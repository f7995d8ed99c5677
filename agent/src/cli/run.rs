//! Runs a command.

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use ampoule_protocol::version::RollbackIndex;
use serde_json::json;

use super::announce::{Announcer, Audience};
use super::args::{Args, Verb};
use super::open::{self, CliError, Half};
use super::watch::{Lines, Screen};
use super::{Failure, agree, enroll, probe, receipts, recover, show};
use crate::boot::{self, Loaded};
use crate::config::{self, Config};
use crate::disk::Disk;
use crate::driver::{Driver, Rest, Watch};
use crate::install::Place;
use crate::journal::Journal;
use crate::local::Interface;
use crate::machine::{BootViews, Fault, Outcome, Pending, Phase, Report};
use crate::ports::{BootControl, Storage};

/// A name for "install came to an end before it came to rest" in scripts.
const RESTART_DUE: &str = "restart-due";
/// The same, where a signal asked for it; the next one goes on.
const STOPPED: &str = "stopped";

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.verb == Verb::HashPin {
        return agree::hash_pin()
            .map(|()| ExitCode::SUCCESS)
            .map_err(Box::new);
    }
    if args.verb == Verb::Network {
        let ran = crate::seal::run().map_err(CliError::from);
        return ran.map(|()| ExitCode::SUCCESS).map_err(Box::new);
    }
    if args.verb == Verb::Version {
        println!("ampoule-agent {}", env!("CARGO_PKG_VERSION"));
        return Ok(ExitCode::SUCCESS);
    }
    let result = load(&args.config).and_then(|config| command(args, &config));
    if let (true, Err(error)) = (args.json, &result) {
        let fault =
            json!({"code": error.code(), "guilty": error.guilty(), "text": error.to_string()});
        show::document(&json!({ "error": fault })).map_err(CliError::from)?;
    }
    result.map_err(Box::new)
}

fn load(path: &Path) -> Result<Config, CliError> {
    Ok(config::load(path)?)
}

fn command(args: &Args, config: &Config) -> Result<ExitCode, CliError> {
    match args.verb {
        Verb::Status => agree::status(config, args.json)?,
        Verb::Consent => agree::consent(config, args)?,
        Verb::Postpone => agree::postpone(config, args)?,
        Verb::History => show::history(config, args.json)?,
        Verb::Receipts => receipts::run(args, config)?,
        Verb::State => state(config)?,
        Verb::Recover => return recover::run(args, config),
        Verb::ProbeBoot => return probe::run(args, config),
        Verb::Boot => boot(config, args.json)?,
        Verb::Enroll => enroll::run(args, config)?,
        Verb::Check => check(args, config)?,
        Verb::Install => return install(args, config),
        Verb::Daemon => return daemon(config, args.json),
        Verb::SetFloor(floor) => set_floor(config, RollbackIndex(floor))?,
        Verb::HashPin | Verb::Network | Verb::Version => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn boot(config: &Config, json: bool) -> Result<(), CliError> {
    let _lock = open::lock(&config.data_dir)?;
    // Where a board has a boot loader, that one counted and chose already.
    let has_file = |place: &&Place| {
        let is_same = |(component, _): &(_, _)| *component == place.component;
        !place.is_module() && !config.worlds.iter().any(is_same)
    };
    let places: Vec<&Place> = config.places.iter().filter(has_file).collect();
    let storage: Rc<dyn Storage> = Rc::new(Disk);
    let control = open::boot_control(config, &storage);
    let mut others = BootViews::new();
    for (component, _) in &config.worlds {
        others.insert(component.clone(), control.view(component)?);
    }
    let loaded: Vec<Loaded> = boot::load_all(&Disk, &places, &others)?;
    if json {
        return Ok(show::document(&json!({ "components": loaded }))?);
    }
    // With one component, what a script wants is the slot and nothing else.
    if let [choice] = loaded.as_slice() {
        println!("{}", choice.slot);
        return Ok(());
    }
    for choice in loaded {
        println!(
            "{} {} {}",
            choice.component,
            choice.slot,
            choice.path.display()
        );
    }
    Ok(())
}

fn state(config: &Config) -> Result<(), CliError> {
    let _lock = open::lock(&config.data_dir)?;
    let mut driver = open::driver(config, None, Box::new(Screen::new()), Half::Later)?;
    Ok(driver.settle_state()?)
}

/// For the person in front of a device that lost its journal; see [`Journal::restore_floor`].
fn set_floor(config: &Config, floor: RollbackIndex) -> Result<(), CliError> {
    let _lock = open::lock(&config.data_dir)?;
    let restored = Journal::restore_floor(&Disk, &config.data_dir, floor);
    restored.map_err(|source| CliError::Floor {
        folder: config.data_dir.clone(),
        source,
    })
}

fn check(args: &Args, config: &Config) -> Result<(), CliError> {
    let _lock = open::lock(&config.data_dir)?;
    let bundle = args.bundle.as_deref();
    let mut driver = open::driver(config, bundle, Box::new(Screen::new()), Half::Now)?;
    seal(config);
    let found = driver.look()?;
    if args.json {
        let passed = found.passed.iter().map(|passed| {
            json!({"version": passed.version.to_string(), "code": passed.code, "why": passed.why})
        });
        let passed: Vec<_> = passed.collect();
        return Ok(show::document(&json!({
            "update": found.plan.as_ref().map(show::plan), "passed_over": passed,
        }))?);
    }
    for passed in &found.passed {
        println!("{} is passed over: {}", passed.version, passed.why);
    }
    match &found.plan {
        None => println!("nothing to install"),
        Some(plan) => show::print_plan(plan),
    }
    Ok(())
}

/// Finishes what is under way, or looks for an update once and sees it to its end.
fn install(args: &Args, config: &Config) -> Result<ExitCode, CliError> {
    let _lock = open::lock(&config.data_dir)?;
    if let Some(result) = probe::go_on(config) {
        return said(result, args.json);
    }
    let bundle = args.bundle.as_deref();
    let mut driver = open::driver(config, bundle, Box::new(Screen::new()), Half::Now)?;
    seal(config);
    let last_seq = driver.state().facts.report_seq;
    let was_idle = matches!(driver.state().phase, Phase::Idle | Phase::Checking);
    let mut rest = driver.start()?;
    if was_idle {
        rest = driver.check()?;
    }
    let waits_for = loop {
        match rest {
            Rest::Idle => break None,
            Rest::RestartDue | Rest::Restarting => break Some(RESTART_DUE),
            Rest::Wait(_) if driver.is_to_stop() => break Some(STOPPED),
            Rest::Wait(time) => {
                driver.sleep(time);
                rest = driver.tick()?;
            }
        }
    };
    let ended = show::ended_since(config, last_seq)?;
    let result = waits_for.unwrap_or_else(|| match &ended {
        Some(report) => show::outcome_word(report.outcome),
        None if driver.state().facts.last_fault.is_some() => "failed",
        None => "nothing-new",
    });
    conclude(&driver, result, ended.as_ref(), args.json)
}

fn conclude(
    driver: &Driver,
    result: &str,
    ended: Option<&Report>,
    json: bool,
) -> Result<ExitCode, CliError> {
    let state = driver.state();
    let version = ended.and_then(|report| report.version.clone());
    let version = version.or_else(|| state.phase.plan().map(|plan| plan.version.clone()));
    // A revert that was brought to its end is done: the device is as it was, the receipt says why.
    let is_done = matches!(
        ended.map(|report| report.outcome),
        None | Some(Outcome::Committed | Outcome::Reverted)
    );
    let fault = match ended {
        Some(report) => report.fault.clone(),
        None if result == "failed" => state.facts.last_fault.clone(),
        None => None,
    };
    let (fetched, via) = match (ended, pending(driver)) {
        (Some(report), _) => (report.fetched, report.via),
        (None, Some(pending)) => (pending.fetched, pending.via),
        (None, None) => (0, None),
    };
    if json {
        show::document(&json!({
            "result": result,
            "phase": state.phase.as_str(),
            "version": version.as_ref().map(ToString::to_string),
            "floor": state.facts.floor.0,
            "fault": fault,
            "bytes_fetched": fetched,
            "via": via,
        }))?;
    } else {
        let version = version
            .map(|version| format!(" {version}"))
            .unwrap_or_default();
        let why = fault.as_ref().map(|fault| format!(": {}", fault.text));
        println!("{result}{version}{}", why.unwrap_or_default());
    }
    match fault {
        Some(fault) if !is_done || result == "failed" => fail(fault, json),
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn fail(fault: Fault, json: bool) -> Result<ExitCode, CliError> {
    if json {
        // The document has the fault; the line is for the people who read the log.
        eprintln!("error: {}", fault.text);
        return Ok(ExitCode::FAILURE);
    }
    Err(CliError::Fault(fault))
}

/// The update that waits for its restart.
fn pending(driver: &Driver) -> Option<&Pending> {
    match &driver.state().phase {
        Phase::Arming(arming) => Some(&arming.pending),
        Phase::Activating(activating) => Some(&activating.pending),
        Phase::Reverting(reverting) => Some(&reverting.pending),
        _ => None,
    }
}

/// Looks for updates and installs them until a restart is due, or a signal comes.
fn daemon(config: &Config, json: bool) -> Result<ExitCode, CliError> {
    let _lock = open::lock(&config.data_dir)?;
    if let Some(result) = probe::go_on(config) {
        return ended(result, json);
    }
    let screen: Box<dyn Watch> = if json {
        Box::new(Lines::new())
    } else {
        Box::new(Screen::new())
    };
    let audience = Audience::new(interface(config));
    let watch = Announcer::new(screen, audience.clone());
    let clock = |clock| audience.clone().with_clock(clock);
    let mut driver = open::driver_with(config, None, Box::new(watch), Half::Now, clock)?;
    seal(config);
    audience.notifier.ready();
    let end = driver.run()?;
    audience.notifier.stopping();
    ended(end.as_str(), json)
}

/// The last line of the daemon.
fn ended(result: &str, json: bool) -> Result<ExitCode, CliError> {
    if json {
        show::line(&json!({"event": "end", "result": result}))?;
    } else {
        println!("{result}");
    }
    Ok(ExitCode::SUCCESS)
}

/// An install that found a probe under way, and restarts for it.
fn said(result: &str, json: bool) -> Result<ExitCode, CliError> {
    if json {
        show::document(&json!({ "result": result, "phase": "probing" }))?;
    } else {
        println!("{result}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Stands the writer's walls; what is missing is told, and keeps no device from its updates.
pub(super) fn seal(config: &Config) {
    for gap in crate::seal::seal(config) {
        eprintln!("  writer: {gap}");
    }
}

/// Without its local interface a device still updates: the reason is told, and it goes on.
fn interface(config: &Config) -> Option<Interface> {
    match Interface::bind(config.local.clone(), agree::desk(config)) {
        Ok(interface) => Some(interface),
        Err(error) => {
            let path = config.local.socket.display();
            eprintln!("  the local interface \"{path}\" cannot be opened: {error}");
            None
        }
    }
}
