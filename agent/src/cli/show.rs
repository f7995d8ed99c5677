//! What is shown: for people in lines, for scripts as JSON.

use std::io::{self, Write};
use std::rc::Rc;

use serde_json::{Value, json};

use super::open::CliError;
use crate::config::Config;
use crate::disk::Disk;
use crate::history::History;
use crate::journal::Journal;
use crate::machine::{Outcome, Part, Plan, Report, State};
use crate::ports::{BootControl, Storage};
use crate::probe::Records;

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
        "digest": plan.identity().to_string(),
        "purpose": plan.notice.purpose,
        "risk_if_not_applied": plan.notice.risk_if_not_applied,
        "downtime_secs": plan.notice.downtime_secs,
        "functions_unavailable": plan.notice.functions_unavailable,
        "downgrade": plan.downgrade,
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
    if let Some(serial) = plan.downgrade {
        println!(
            "  the floor falls to {} by downgrade record {serial}",
            plan.rollback_index
        );
    }
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

/// How things are, as `status --json` prints it.
pub(super) fn status_document(config: &Config) -> Result<Value, CliError> {
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
        components.push(json!({
            "component": place.component.as_str(),
            "running": view.running,
            "default": view.default,
            "armed": view.armed.map(|(slot, left)| json!({"slot": slot, "attempts_left": left})),
            "version": image.and_then(|image| image.version.as_ref()).map(ToString::to_string),
            "sha256": image.map(|image| image.sha256.to_string()),
        }));
    }
    let probes = Records::new(Rc::clone(&storage), &config.data_dir).found();
    let probes = probes.map_err(|source| CliError::Read {
        path: config.data_dir.clone(),
        source,
    })?;
    Ok(json!({
        "boot_probes": probes,
        "phase": phase.as_str(),
        "update": phase.plan().map(plan),
        "components": components,
        "floor": facts.floor.0,
        "downgrades_used": facts.downgrades,
        "refused": facts.refused,
        "outbox": facts.outbox.len(),
        "passed_over": facts.passed,
        "last_fault": facts.last_fault,
    }))
}

/// A member as text; what is no text is not there.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `status`, for people.
pub(super) fn print_status(status: &Value) {
    println!(
        "phase   {} {}",
        text(status, "phase"),
        text(&status["update"], "version")
    );
    for component in items(&status["components"]) {
        let version = component["version"].as_str().unwrap_or("unknown");
        let digest = text(component, "sha256");
        println!(
            "{}  {version}  slot {} (default {})  {}",
            text(component, "component"),
            text(component, "running"),
            text(component, "default"),
            digest.get(..12).unwrap_or_default()
        );
    }
    for gate in items(&status["gates"]) {
        let (name, answer) = (text(gate, "gate"), text(gate, "answer"));
        println!("gate    {name}: {answer}  {}", text(gate, "reason"));
    }
    println!("floor   {}", status["floor"]);
    for probe in items(&status["boot_probes"]) {
        let verdict = if probe["passed"] == true {
            "proven"
        } else {
            "NOT proven"
        };
        let (name, detail) = (text(probe, "component"), text(probe, "detail"));
        println!(
            "loader  {name}: {verdict}, {detail} ({})",
            text(probe, "time")
        );
    }
    for refused in items(&status["refused"]) {
        let digest = text(refused, "digest");
        println!(
            "refused {} ({}) {}",
            text(refused, "version"),
            text(refused, "code"),
            digest.get(..12).unwrap_or_default()
        );
    }
    for passed in items(&status["passed_over"]) {
        let (version, why) = (text(passed, "version"), text(passed, "why"));
        println!("passed over {version}: {why}");
    }
    if status["outbox"] != 0 {
        println!("outbox  {} receipts wait for the server", status["outbox"]);
    }
    if let Some(fault) = status["last_fault"].as_object() {
        let member = |name: &str| fault.get(name).and_then(Value::as_str).unwrap_or_default();
        println!(
            "fault   {} [{}, {}]",
            member("text"),
            member("code"),
            member("guilty")
        );
    }
}

/// What a person agrees to, in words, and how.
pub(super) fn print_notice(status: &Value) {
    let update = &status["update"];
    if update.is_null() {
        println!("no update is under way");
        return;
    }
    let functions: Vec<&str> = items(&update["functions_unavailable"])
        .filter_map(Value::as_str)
        .collect();
    println!(
        "update      {} ({})",
        text(update, "version"),
        text(update, "class")
    );
    println!("purpose     {}", text(update, "purpose"));
    println!("without it  {}", text(update, "risk_if_not_applied"));
    println!("downtime    {} seconds", update["downtime_secs"]);
    println!("unavailable {}", functions.join(", "));
    let consent = &status["consent"];
    if let Some(by) = consent["agreed"]["by"].as_str() {
        println!("agreed      by {by}");
    } else if consent["needed"] == true {
        println!(
            "agree with  ampoule-agent consent {}",
            text(update, "digest")
        );
    }
    println!("put off     {} more times", consent["postponements_left"]);
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
