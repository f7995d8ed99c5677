//! `rollout …` and `approve`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Subcommand;
use serde_json::Value;

use super::client::{Client, segment};
use super::output::{bar, plain, print, table};
use super::profile::Server;
use super::session::secret;
use super::{CtlError, files};
use crate::door::words::{Confirmed, PlanText};

/// Bytes of a plan.
const PLAN_LEN_MAX: u64 = 256 << 10;
/// Between two looks of `watch`.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a rollout from a plan; it waits for its approvals.
    Create(Planned),
    /// Say what a plan would do to the recorded fleet, and change nothing.
    DryRun(Planned),
    /// All rollouts.
    List {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// One rollout.
    Show(Named),
    /// Follow a rollout until it comes to rest.
    Watch(Named),
    /// Approve the plan that was read; asks for a fresh code.
    Approve(Digested),
    /// Stop the spread; offers stand.
    Pause(Named),
    /// Let a paused or halted rollout go on; asks for a fresh code.
    Resume(Digested),
    /// End a rollout; offers that were not begun are taken back.
    Abort(Named),
    /// Offer the release once more to devices that failed; asks for a fresh code.
    Retry(Digested),
    /// Who may be out of service now, because of an offer or a lock of its own.
    Permits {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Why a device is or is not offered what.
    Why {
        /// The device.
        device: String,
        /// Of this rollout alone.
        #[arg(long)]
        rollout: Option<String>,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Planned {
    /// The plan, TOML.
    plan: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The rollout.
    name: String,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Digested {
    /// The rollout.
    name: String,
    /// The digest of the plan that was read, as "show" prints it.
    #[arg(long)]
    plan: String,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Command {
    pub(super) fn run(self, server: &Server) -> Result<(), CtlError> {
        let client = Client::new(&server.profile()?)?;
        match self {
            Self::Create(planned) => {
                let made: Value = client.post("/api/v1/rollouts", &plan(&planned.plan)?)?;
                print(planned.json, &made, || describe(&made));
            }
            Self::DryRun(planned) => {
                let told: Value = client.post("/api/v1/rollouts/dry-run", &plan(&planned.plan)?)?;
                print(planned.json, &told, || foretold(&told));
            }
            Self::List { json } => list(&client, json)?,
            Self::Permits { json } => permits(&client, json)?,
            Self::Show(named) => {
                let row: Value = client.get(&path(&named.name, "?waits=true"))?;
                print(named.json, &row, || describe(&row));
            }
            Self::Watch(named) => watch(&client, &named)?,
            Self::Approve(digested) => digested.confirm(&client, "approve")?,
            Self::Resume(digested) => digested.confirm(&client, "resume")?,
            Self::Retry(digested) => digested.confirm(&client, "retry")?,
            Self::Pause(named) => named.act(&client, "pause")?,
            Self::Abort(named) => named.act(&client, "abort")?,
            Self::Why {
                device,
                rollout,
                json,
            } => why(&client, &device, rollout.as_deref(), json)?,
        }
        Ok(())
    }
}

fn path(name: &str, more: &str) -> String {
    format!("/api/v1/rollouts/{}{more}", segment(name))
}

fn plan(path: &Path) -> Result<PlanText, CtlError> {
    let bytes = files::expect(path, PLAN_LEN_MAX)?;
    let plan = String::from_utf8(bytes);
    let plan = plan.map_err(|_| CtlError::Usage(format!("\"{}\" is no text", path.display())))?;
    Ok(PlanText { plan })
}

impl Digested {
    /// `approve`, without "rollout" before it.
    pub(super) fn approve(self, server: &Server) -> Result<(), CtlError> {
        self.confirm(&Client::new(&server.profile()?)?, "approve")
    }

    fn confirm(self, client: &Client, act: &str) -> Result<(), CtlError> {
        let code = secret("code")?.to_string();
        let words = Confirmed {
            plan: self.plan,
            code,
        };
        let row: Value = client.post(&path(&self.name, &format!("/{act}")), &words)?;
        print(self.json, &row, || describe(&row));
        Ok(())
    }
}

impl Named {
    fn act(self, client: &Client, act: &str) -> Result<(), CtlError> {
        let nothing = serde_json::json!({});
        let row: Value = client.post(&path(&self.name, &format!("/{act}")), &nothing)?;
        print(self.json, &row, || describe(&row));
        Ok(())
    }
}

fn word(value: &Value) -> String {
    match value {
        Value::String(text) => plain(text),
        Value::Null => "-".into(),
        other => plain(&other.to_string()),
    }
}

fn list(client: &Client, json: bool) -> Result<(), CtlError> {
    let all: Vec<Value> = client.list("/api/v1/rollouts")?;
    print(json, &all, || {
        let rows = all.iter().map(|row| {
            let (status, tally) = (&row["status"], &row["tally"]);
            vec![
                word(&row["name"]),
                word(&status["stage"]["stage"]),
                step(row),
                word(&tally["offered"]),
                word(&tally["committed"]),
                word(&tally["failures"]),
                word(&row["release"]["path"]),
            ]
        });
        let header = [
            "ROLLOUT",
            "STAGE",
            "STEP",
            "OFFERED",
            "COMMITTED",
            "FAILED",
            "RELEASE",
        ];
        table(&header, rows)
    });
    Ok(())
}

fn permits(client: &Client, json: bool) -> Result<(), CtlError> {
    let all: Vec<Value> = client.list("/api/v1/permits")?;
    print(json, &all, || {
        let rows = all.iter().flat_map(|row| {
            let counted = row["counted"].as_object().into_iter().flatten();
            let counted: Vec<_> = counted
                .map(|(tag, value)| format!("{}={}", plain(tag), word(value)))
                .collect();
            let counted = if counted.is_empty() {
                "-".into()
            } else {
                counted.join(" ")
            };
            let line = |because: String, until: &Value| {
                vec![word(&row["device"]), counted.clone(), because, word(until)]
            };
            let offers = row["offers"].as_array().into_iter().flatten();
            let offers = offers.map(|offer| {
                line(
                    format!("rollout {}", word(&offer["rollout"])),
                    &offer["until"],
                )
            });
            let lock = row
                .get("lock")
                .map(|lock| line("its own lock".into(), &lock["until"]));
            offers.chain(lock).collect::<Vec<_>>()
        });
        table(&["DEVICE", "COUNTED BY", "BECAUSE OF", "UNTIL"], rows)
    });
    Ok(())
}

fn step(row: &Value) -> String {
    let open = row["status"]["step"].as_u64().unwrap_or(0) + 1;
    let steps = row["plan"]["step"].as_array().map_or(0, Vec::len);
    format!("{open}/{steps}")
}

fn describe(row: &Value) -> String {
    let (status, tally) = (&row["status"], &row["tally"]);
    let mut lines = vec![
        format!("rollout    {}", word(&row["name"])),
        format!("release    {}", word(&row["release"]["path"])),
        format!("plan       {}", word(&row["plan_digest"])),
        format!("author     {}", word(&row["plan"]["author"])),
        format!("stage      {}", word(&status["stage"]["stage"])),
        format!("step       {}", step(row)),
        format!(
            "offered    {} ({} open)",
            word(&tally["offered"]),
            word(&tally["open"])
        ),
        format!("committed  {}", word(&tally["committed"])),
        format!(
            "failed     {} ({} silent)",
            word(&tally["failures"]),
            word(&tally["silent"])
        ),
    ];
    if let Some(approvals) = status["approvals"].as_object() {
        let names: Vec<String> = approvals.keys().map(|name| plain(name)).collect();
        lines.push(format!("approved   {}", names.join(", ")));
    }
    if !status["stage"]["why"].is_null() {
        lines.push(format!("why        {}", word(&status["stage"]["why"])));
    }
    let waits = row["waits"].as_array().into_iter().flatten();
    lines.extend(waits.map(|wait| format!("waits for  {}", word(&wait["text"]))));
    lines.join("\n")
}

fn foretold(told: &Value) -> String {
    let steps = told["steps"].as_array().cloned().unwrap_or_default();
    let rows = steps.iter().map(|step| {
        let rate = step["excludes_above"].as_f64().unwrap_or(1.0) * 100.0;
        vec![
            word(&step["step"]),
            step["devices"].as_array().map_or(0, Vec::len).to_string(),
            word(&step["at"]),
            word(&step["until"]),
            format!("{rate:.3} %"),
        ]
    });
    table(
        &["STEP", "DEVICES", "FROM", "UNTIL", "EXCLUDES RATES ABOVE"],
        rows,
    )
}

fn why(client: &Client, device: &str, rollout: Option<&str>, json: bool) -> Result<(), CtlError> {
    let of = rollout.map_or(String::new(), |name| format!("?rollout={}", segment(name)));
    let reasons: Value = client.get(&format!("/api/v1/devices/{}/why{of}", segment(device)))?;
    print(json, &reasons, || {
        let all = reasons.as_array().cloned().unwrap_or_default();
        if all.is_empty() {
            return "no rollout names a release".into();
        }
        let line =
            |reason: &Value| format!("{}: {}", word(&reason["rollout"]), word(&reason["text"]));
        all.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

/// Whether nothing more will happen without a person.
fn rests(row: &Value) -> bool {
    let stage = row["status"]["stage"]["stage"].as_str().unwrap_or_default();
    matches!(stage, "paused" | "halted" | "aborted" | "done")
}

/// On a terminal a bar; elsewhere a line for each change.
fn watch(client: &Client, named: &Named) -> Result<(), CtlError> {
    let progress = bar(0, "committed");
    let mut last = String::new();
    loop {
        let row: Value = client.get(&path(&named.name, ""))?;
        let count = |name: &str| row["tally"][name].as_u64().unwrap_or(0);
        let text = format!(
            "{} step {}: {} offered, {} committed, {} failed",
            word(&row["status"]["stage"]["stage"]),
            step(&row),
            count("offered"),
            count("committed"),
            count("failures")
        );
        progress.set_length(count("offered").max(1));
        progress.set_position(count("committed"));
        progress.set_message(text.clone());
        if text != last && progress.is_hidden() {
            let line = if named.json {
                row.to_string()
            } else {
                text.clone()
            };
            println!("{line}");
        }
        last = text;
        if rests(&row) {
            progress.finish_and_clear();
            if !progress.is_hidden() {
                print(named.json, &row, || describe(&row));
            }
            return Ok(());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
