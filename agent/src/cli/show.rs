//! What is shown: for people in lines, for scripts as JSON.

use std::io::{self, Write};
use std::rc::Rc;

use serde_json::{Value, json};

use super::open::CliError;
use crate::config::Config;
use crate::disk::Disk;
use crate::history::History;
use crate::journal::Journal;
use crate::machine::{Facts, Installed, Outcome, Part, Plan, Report, State};
use crate::ports::{BootControl, Storage};

/// Prints one JSON document.
pub(super) fn document(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)
}

/// Prints one JSON line.
pub(super) fn line(value: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    out.flush()
}

pub(super) const fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Committed => "committed",
        Outcome::Reverted => "reverted",
        Outcome::Refused => "refused",
        Outcome::Failed => "failed",
    }
}

/// An update as JSON.
pub(super) fn plan(plan: &Plan) -> Value {
    let part = |part: &Part| {
        let delta = part.delta.as_ref().map(|delta| delta.file.length);
        json!({
            "component": part.component.as_str(),
            "slot": part.slot,
            "sha256": part.artifact.sha256.to_string(),
            "length": part.artifact.length,
            "via": if delta.is_some() { "delta" } else { "full" },
            "download": delta.unwrap_or(part.artifact.length),
        })
    };
    json!({
        "version": plan.version.to_string(),
        "rollback_index": plan.rollback_index.0,
        "class": plan.class.as_str(),
        "parts": plan.parts.iter().map(part).collect::<Vec<_>>(),
    })
}

pub(super) fn print_plan(plan: &Plan) {
    println!(
        "{} can be installed ({}, rollback index {})",
        plan.version,
        plan.class.as_str(),
        plan.rollback_index
    );
    for part in &plan.parts {
        let (length, slot) = (part.artifact.length, part.slot);
        match &part.delta {
            Some(delta) => println!(
                "  {}  {length} bytes into slot {slot}, by a delta of {} bytes",
                part.component, delta.file.length
            ),
            None => println!(
                "  {}  {length} bytes into slot {slot}, whole",
                part.component
            ),
        }
    }
}

fn state_of(config: &Config) -> Result<State, CliError> {
    let state = Journal::peek(&Disk, &config.data_dir);
    let state = state.map_err(|source| CliError::Read {
        path: config.data_dir.clone(),
        source,
    })?;
    Ok(state.unwrap_or_default())
}

/// `status`.
pub(super) fn status(config: &Config, json: bool) -> Result<(), CliError> {
    let State { facts, phase } = state_of(config)?;
    let storage: Rc<dyn Storage> = Rc::new(Disk);
    let boot = super::open::boot_control(config, &storage);
    let mut components = Vec::new();
    for place in &config.places {
        let view = boot.view(&place.component)?;
        let image = facts
            .slots
            .get(&place.component)
            .and_then(|slots| slots.get(&view.running));
        components.push((place, view, image));
    }
    if json {
        let component = |(place, view, image): &(
            &crate::install::Place,
            crate::machine::BootView,
            Option<&Installed>,
        )| {
            json!({
                "component": place.component.as_str(),
                "running": view.running,
                "default": view.default,
                "armed": view.armed.map(|(slot, left)| json!({"slot": slot, "attempts_left": left})),
                "version": image.and_then(|image| image.version.as_ref()).map(ToString::to_string),
                "sha256": image.map(|image| image.sha256.to_string()),
            })
        };
        return Ok(document(&json!({
            "phase": phase.as_str(),
            "update": phase.plan().map(plan),
            "components": components.iter().map(component).collect::<Vec<_>>(),
            "floor": facts.floor.0,
            "refused": facts.refused,
            "outbox": facts.outbox.len(),
            "passed_over": facts.passed,
            "last_fault": facts.last_fault,
        }))?);
    }
    let version = phase
        .plan()
        .map(|plan| format!(" {}", plan.version))
        .unwrap_or_default();
    println!("phase   {}{version}", phase.as_str());
    for (place, view, image) in components {
        let version = image
            .and_then(|image| image.version.as_ref())
            .map(ToString::to_string);
        let version = version.unwrap_or_else(|| "unknown".to_owned());
        let digest = image.map(|image| image.sha256.short()).unwrap_or_default();
        println!(
            "{}  {version}  slot {} (default {})  {digest}",
            place.component, view.running, view.default
        );
    }
    print_facts(&facts);
    Ok(())
}

fn print_facts(facts: &Facts) {
    println!("floor   {}", facts.floor);
    for refused in &facts.refused {
        println!(
            "refused {} ({}) {}",
            refused.version,
            refused.code,
            refused.digest.short()
        );
    }
    for passed in &facts.passed {
        println!("passed over {}: {}", passed.version, passed.why);
    }
    if !facts.outbox.is_empty() {
        println!(
            "outbox  {} receipts wait for the server",
            facts.outbox.len()
        );
    }
    if let Some(fault) = &facts.last_fault {
        println!(
            "fault   {} [{}, {}]",
            fault.text,
            fault.code,
            fault.guilty.as_str()
        );
    }
}

fn reports(config: &Config) -> Result<Vec<Report>, CliError> {
    let history = History::new(Rc::new(Disk), &config.data_dir);
    history.all().map_err(|source| CliError::Read {
        path: config.data_dir.clone(),
        source,
    })
}

/// The newest update that ended after the report numbered `seq`.
pub(super) fn ended_since(config: &Config, seq: u64) -> Result<Option<Report>, CliError> {
    Ok(reports(config)?
        .into_iter()
        .rfind(|report| report.seq > seq))
}

/// `history`.
pub(super) fn history(config: &Config, json: bool) -> Result<(), CliError> {
    let reports = reports(config)?;
    if json {
        return Ok(document(&json!({ "updates": reports }))?);
    }
    for report in reports {
        let version = report
            .version
            .as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string);
        let via = match report.via {
            Some(crate::machine::Via::Delta) => "delta",
            Some(crate::machine::Via::Full) => "full",
            Some(crate::machine::Via::Bundle) => "bundle",
            None => "-",
        };
        let why = report
            .fault
            .map(|fault| format!("  {}", fault.text))
            .unwrap_or_default();
        println!(
            "{}  {}  {version}  {via}  {} bytes{why}",
            report.ended,
            outcome_word(report.outcome),
            report.fetched
        );
    }
    Ok(())
}
