//! `recover`.

use std::process::ExitCode;

use serde_json::json;

use super::args::Args;
use super::open::{self, CliError, Half};
use super::show;
use super::watch::Screen;
use crate::config::Config;
use crate::driver::{Finding, Repair, Rest};
use crate::machine::Phase;

/// Repairs the device, and waits until it has to restart or can do no more.
pub(super) fn run(args: &Args, config: &Config) -> Result<ExitCode, CliError> {
    if !config.is_recovery {
        return Err(CliError::NoRecovery);
    }
    let _lock = open::lock(&config.data_dir)?;
    let bundle = args.bundle.as_deref();
    let mut driver = open::driver(config, bundle, Box::new(Screen::new()), Half::Now)?;
    super::run::seal(config);
    let (findings, repair) = driver.recover()?;
    let (result, is_good) = match repair {
        Repair::NotNeeded => ("not-needed", true),
        Repair::Switched(_) => ("switched", true),
        Repair::Refilled(mut rest) => {
            while let Rest::Wait(time) = rest
                && !driver.is_to_stop()
            {
                driver.sleep(time);
                rest = driver.tick()?;
            }
            let is_armed = matches!(rest, Rest::RestartDue | Rest::Restarting);
            (if is_armed { "restart-due" } else { "failed" }, is_armed)
        }
    };
    let state = driver.state();
    let fault = state.facts.last_fault.as_ref().filter(|_| !is_good);
    if args.json {
        let finding = |finding: &Finding| {
            json!({"component": finding.component.as_str(), "slot": finding.slot,
                   "holds": finding.holds.as_str()})
        };
        let findings: Vec<_> = findings.iter().map(finding).collect();
        let plan = match &state.phase {
            Phase::Idle | Phase::Checking => None,
            phase => phase.plan().map(show::plan),
        };
        show::document(&json!({"result": result, "slots": findings, "update": plan,
                               "fault": fault}))?;
    } else {
        for Finding {
            component,
            slot,
            holds,
        } in &findings
        {
            println!("{component}  slot {slot}  {}", holds.as_str());
        }
        println!("{result}");
    }
    match fault {
        Some(fault) if !args.json => Err(CliError::Fault(fault.clone())),
        _ if is_good => Ok(ExitCode::SUCCESS),
        _ => Ok(ExitCode::FAILURE),
    }
}
