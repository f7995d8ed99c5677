//! The command line of `ampoule-signer`.
//!
//! Exit 0: done. Exit 1: refused or failed, with one `error:` line, its causes and, where there is
//! one good next step, a hint, on standard error. Exit 2: wrong usage. Standard output carries
//! results alone; with `--json` it is one JSON value.

mod args;
mod bundle;
mod downgrade;
mod drafts;
mod keys;
mod setup;
mod show;
mod signing;

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use ampoule_protocol::error::{Coded, causes, chain};
use ampoule_protocol::time::UtcTime;
use clap::Parser;
use serde_json::{Value, json};

use crate::error::SignerError;
use crate::keys::Secrets;
use crate::keys::secrets::{FromFile, FromTerminal};
use crate::terminal::Bars;
use args::{Cli, Command, Global};

/// What a command has to say: for people, and for scripts.
struct Answer {
    text: String,
    json: Value,
}

impl Answer {
    fn new(text: impl Into<String>, json: Value) -> Self {
        Self {
            text: text.into(),
            json,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // Clap prints usage errors itself: to standard error, exit 2.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let context = Context {
        global: cli.global,
        bars: Bars::default(),
        now: clock(),
    };
    match run(&context, cli.command) {
        Ok(answer) => context.print(&answer),
        Err(error) => context.fail(&error),
    }
}

fn run(context: &Context, command: Command) -> Result<Answer, SignerError> {
    match command {
        Command::Init(args) => setup::init(context, &args),
        Command::Key(args) => keys::key(context, &args),
        Command::Add(args) => drafts::add(context, &args),
        Command::Delta(args) => drafts::delta(context, &args),
        Command::Review(args) => show::review(context, &args),
        Command::Discard(args) => drafts::discard(context, &args),
        Command::Sign(args) => signing::sign(context, &args),
        Command::Merge(args) => signing::merge(context, &args),
        Command::Attach(args) => signing::attach(context, &args),
        Command::Payload(args) => signing::payload(context, &args),
        Command::Publish(args) => signing::publish(context, &args),
        Command::Refresh(args) => signing::refresh(context, &args),
        Command::Rotate(args) => drafts::rotate(context, &args),
        Command::Renew(args) => drafts::renew(context, &args),
        Command::Product(args) => drafts::product_add(context, &args),
        Command::Withdraw(args) => drafts::withdraw(context, &args),
        Command::Downgrade(args) => downgrade::downgrade(context, &args),
        Command::Bundle(args) => bundle::bundle(context, &args),
        Command::Inspect(args) => show::inspect(context, &args),
        Command::Verify(args) => show::verify(context, &args),
    }
}

/// What every command gets.
struct Context {
    global: Global,
    bars: Bars,
    /// One reading of the clock for the whole run.
    now: UtcTime,
}

impl Context {
    fn secrets(&self) -> Box<dyn Secrets> {
        match &self.global.passphrase_file {
            Some(path) => Box::new(FromFile::new(path.clone())),
            None => Box::new(FromTerminal),
        }
    }

    fn print(&self, answer: &Answer) -> ExitCode {
        let text = if self.global.json {
            format!("{:#}", answer.json)
        } else {
            answer.text.trim_end().to_owned()
        };
        // A reader that went away (`| head`) is no failure of ours.
        if !text.is_empty() {
            let _ = writeln!(std::io::stdout(), "{text}");
        }
        ExitCode::SUCCESS
    }

    fn fail(&self, error: &SignerError) -> ExitCode {
        use crate::progress::Progress;
        self.bars.end();
        let hint = error.hint();
        let _ = writeln!(std::io::stderr(), "{}", chain(error, hint.as_deref()));
        if self.global.json {
            let value = json!({
                "error": error.to_string(),
                "causes": causes(error).collect::<Vec<_>>(),
                "hint": hint,
                "code": error.code(),
                "guilty": error.guilty().as_str(),
            });
            let _ = writeln!(std::io::stdout(), "{value:#}");
        }
        ExitCode::FAILURE
    }

    /// Something a person should know that is no failure.
    #[allow(clippy::unused_self)] // Said in one place, so that it can be silenced in one.
    fn warn(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "warning: {text}");
    }
}

/// The clock of this machine, once a run. A clock before 1970 counts as 1970.
fn clock() -> UtcTime {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    UtcTime::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}
