//! `consent`, `postpone`, `hash-pin`, and the questions that the daemon answers when it runs.

use std::io::{BufRead, Read};
use std::rc::Rc;

use ring::rand::{SecureRandom, SystemRandom};
use serde_json::{Value, json};

use super::open::{self, CliError};
use super::{args::Args, show};
use crate::config::Config;
use crate::disk::Disk;
use crate::gate::PinHash;
use crate::history::History;
use crate::journal::Journal;
use crate::local::{Caller, Desk, Records, Rights, Spoken, speak};
use crate::machine::{Fault, Party, Plan};

/// Bytes of a PIN that are read.
const PIN_LEN_MAX: u64 = 256;

/// What the desk looks up, from the files of this device.
struct Files(Config);

impl Records for Files {
    fn status(&self) -> Result<Value, String> {
        show::status_document(&self.0).map_err(|error| error.to_string())
    }

    fn history(&self, last: usize) -> Result<Value, String> {
        let history = History::new(Rc::new(Disk), &self.0.data_dir);
        let mut updates = history.all().map_err(|error| error.to_string())?;
        updates.drain(..updates.len().saturating_sub(last));
        Ok(json!({ "updates": updates }))
    }

    fn plan(&self) -> Result<Option<Plan>, String> {
        let state = Journal::peek(&Disk, &self.0.data_dir).map_err(|error| error.to_string())?;
        Ok(state.and_then(|state| state.phase.plan().cloned()))
    }
}

/// The desk of this device.
pub(super) fn desk(config: &Config) -> Desk {
    let records = Rc::new(Files(config.clone()));
    Desk::new(records, config.gates.clone(), open::consents(config))
}

/// Asks the daemon; where none runs, the files, with the rights that this process has on them.
fn ask(config: &Config, request: &Value) -> Result<Value, CliError> {
    let socket = &config.local.socket;
    let spoken = speak(socket, request).map_err(|source| CliError::Read {
        path: socket.clone(),
        source,
    })?;
    let answer = match spoken {
        Spoken::Answer(answer) => answer,
        Spoken::NoDaemon => {
            let caller = Caller {
                name: format!("uid {}", rustix::process::getuid().as_raw()),
                rights: Rights::Act,
            };
            let line = request.to_string();
            desk(config).answer_line(line.as_bytes(), &caller, &[]).0
        }
    };
    taken(&answer)
}

/// What was answered, or the refusal as an error.
fn taken(answer: &Value) -> Result<Value, CliError> {
    if let Some(value) = answer.get("ok") {
        return Ok(value.clone());
    }
    let text = |name: &str| {
        answer["error"][name]
            .as_str()
            .unwrap_or("unknown")
            .to_owned()
    };
    Err(CliError::Fault(Fault {
        guilty: Party::Operator,
        code: text("code"),
        text: text("text"),
        retry_after_secs: None,
    }))
}

/// `status`.
pub(super) fn status(config: &Config, json: bool) -> Result<(), CliError> {
    let status = ask(config, &json!({ "do": "status" }))?;
    if json {
        return Ok(show::document(&status)?);
    }
    show::print_status(&status);
    Ok(())
}

/// `consent`: without a digest shows what would be agreed to.
pub(super) fn consent(config: &Config, args: &Args) -> Result<(), CliError> {
    if args.withdraw {
        ask(config, &json!({ "do": "withdraw" }))?;
        return said(args, "withdrawn");
    }
    let Some(update) = args.operand.as_deref() else {
        let status = ask(config, &json!({ "do": "status" }))?;
        if args.json {
            let shown = json!({ "update": status["update"], "consent": status["consent"] });
            return Ok(show::document(&shown)?);
        }
        show::print_notice(&status);
        return Ok(());
    };
    let mut request = json!({ "do": "consent", "update": update });
    if args.pin_stdin {
        request["pin"] = line_of_stdin()?.into();
    }
    ask(config, &request)?;
    said(args, "agreed")
}

/// `postpone`.
pub(super) fn postpone(config: &Config, args: &Args) -> Result<(), CliError> {
    let secs: u64 = match args.operand.as_deref().map(str::parse) {
        Some(Ok(secs)) => secs,
        _ => return Err(usage("\"postpone\" needs a number of seconds")),
    };
    // The update is named by digest, so that one that changed meanwhile is not put off by mistake.
    let status = ask(config, &json!({ "do": "status" }))?;
    let update = status["update"]["digest"].clone();
    if update.is_null() {
        return Err(usage("no update is under way"));
    }
    let request = json!({ "do": "postpone", "update": update, "secs": secs });
    let answer = ask(config, &request)?;
    if args.json {
        return Ok(show::document(&answer)?);
    }
    println!("put off until {}", answer["until"].as_str().unwrap_or("-"));
    Ok(())
}

fn usage(text: &str) -> CliError {
    CliError::Fault(Fault {
        guilty: Party::Operator,
        code: "usage".to_owned(),
        text: text.to_owned(),
        retry_after_secs: None,
    })
}

fn said(args: &Args, word: &str) -> Result<(), CliError> {
    if args.json {
        return Ok(show::document(&json!({ "result": word }))?);
    }
    println!("{word}");
    Ok(())
}

fn line_of_stdin() -> Result<String, CliError> {
    let mut line = String::new();
    let stdin = std::io::stdin().lock();
    stdin.take(PIN_LEN_MAX).read_line(&mut line)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// `hash-pin`: the PIN comes from stdin, so that it stands in no list of processes.
pub(super) fn hash_pin() -> Result<(), CliError> {
    let pin = line_of_stdin()?;
    if pin.is_empty() {
        return Err(usage("no PIN came on stdin"));
    }
    let mut salt = [0; 32];
    let random = SystemRandom::new().fill(&mut salt);
    random.map_err(|_| usage("the system gave no random bytes"))?;
    println!("{}", PinHash::new(&pin, salt));
    Ok(())
}
