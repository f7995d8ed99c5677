//! What is asked for.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

/// What `--help` prints.
pub(super) const HELP: &str = "\
Updates this device: polls, verifies, stages, applies atomically, proves health, or goes back.

usage: ampoule-agent [--config FILE] [--json] COMMAND
       ampoule-agent receipts FILE | receipts --acknowledged FILE

commands:
  daemon     look for updates and install them, for ever; ends when a restart is due
  check      refresh the metadata and say what would be installed; installs nothing
  install    finish the update under way, or look for one and install it, then end
  enroll DEVICE  make a key and ask the server for the certificate of that device
  status     what runs, what is under way, the rollback floor
  history    updates that ended, oldest first
  receipts   write the receipts that wait for a server to a file, to be carried there
  consent [DIGEST]  agree to the update under way; without a digest shows what it is
  postpone SECS     put the update under way off
  network    the half of the agent that speaks to the server; the others start it
  hash-pin   read a PIN from stdin and print what gates.consent.pin_hash wants
  recover    from a recovery image: look at the slots, repair what does not boot any more
  state      bring the configured state to what runs; at boot, before the programs that use it
  probe-boot [COMPONENT]  prove that the boot loader counts and falls back, by a trial boot of what
             runs; restarts the device some times
  boot       play the boot loader: count a trial's attempt, print the slot to run
  set-floor N  give a device the rollback floor that it lost with its journal; a known one stays

options:
  --acknowledged FILE   what the server gave back for a file of receipts: these are done
  --bundle FILE   check and install from a bundle that was carried here; asks no server
  --config FILE   the configuration [default: /etc/ampoule/agent.toml]
  --json          print one JSON document; \"daemon\": a JSON line for each thing that happens
  --withdraw      with consent: take the agreement back
  --pin-stdin     with consent: read the PIN from stdin
  --help          print this
  --version       print the version

With one component \"boot\" prints its slot, a or b; with more a line for each.

exit: 0 done (also: a restart is due, or a revert was brought to its end), 1 refused or failed,
2 wrong usage
";

/// A command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// What a server acknowledged.
    pub acknowledged: Option<PathBuf>,
    /// The bundle to look into, instead of the server.
    pub bundle: Option<PathBuf>,
    /// The file to write.
    pub file: Option<PathBuf>,
    /// The configuration.
    pub config: PathBuf,
    /// Whether results are JSON.
    pub json: bool,
    /// The command.
    pub verb: Verb,
    /// What stands after the command, where it takes something.
    pub operand: Option<String>,
    /// Whether an agreement is taken back.
    pub withdraw: bool,
    /// Whether a PIN comes on stdin.
    pub pin_stdin: bool,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The half that speaks to the server; started by the others.
    Network,
    /// As its help says.
    Daemon,
    /// As its help says.
    Enroll,
    /// As its help says.
    Check,
    /// As its help says.
    Install,
    /// As its help says.
    Status,
    /// As its help says.
    History,
    /// As its help says.
    Receipts,
    /// As its help says.
    Consent,
    /// As its help says.
    Postpone,
    /// As its help says.
    HashPin,
    /// As its help says.
    Recover,
    /// As its help says.
    State,
    /// As its help says.
    ProbeBoot,
    /// As its help says.
    Boot,
    /// As its help says.
    SetFloor(u64),
    /// Prints the version.
    Version,
}

impl Verb {
    const fn takes_operand(self) -> bool {
        matches!(
            self,
            Self::Consent | Self::Postpone | Self::Enroll | Self::ProbeBoot
        )
    }
}

/// Reads a command line, without the program's name; `None` where help is asked for.
///
/// # Errors
/// Wrong usage, in words.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Option<Args>, lexopt::Error> {
    let mut parser = Parser::from_args(words);
    let mut config = PathBuf::from("/etc/ampoule/agent.toml");
    let (mut acknowledged, mut bundle, mut file) = (None, None, None);
    let mut json = false;
    let mut verb = None;
    let mut operand = None;
    let (mut withdraw, mut pin_stdin) = (false, false);
    while let Some(arg) = parser.next()? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long("version") | Arg::Short('V') => verb = Some(Verb::Version),
            Arg::Long("config") | Arg::Short('c') => config = parser.value()?.into(),
            Arg::Long("bundle") => bundle = Some(PathBuf::from(parser.value()?)),
            Arg::Long("json") => json = true,
            Arg::Long("acknowledged") => acknowledged = Some(PathBuf::from(parser.value()?)),
            Arg::Long("withdraw") if verb == Some(Verb::Consent) => withdraw = true,
            Arg::Long("pin-stdin") if verb == Some(Verb::Consent) => pin_stdin = true,
            Arg::Value(word) if operand.is_none() && verb.is_some_and(Verb::takes_operand) => {
                operand = Some(word.string()?);
            }
            Arg::Value(word) if verb.is_none() && word == "set-floor" => {
                verb = Some(Verb::SetFloor(parser.value()?.parse()?));
            }
            Arg::Value(word) if verb.is_none() => verb = Some(verb_of(&word)?),
            Arg::Value(word) if verb == Some(Verb::Receipts) && file.is_none() => {
                file = Some(PathBuf::from(word));
            }
            other => return Err(other.unexpected()),
        }
    }
    match verb {
        Some(verb) if bundle.is_some() && !takes_bundle(verb) => {
            Err("only check, install and recover take a bundle".into())
        }
        Some(Verb::Enroll) if operand.is_none() => Err("enroll takes the device's id".into()),
        Some(verb) if (verb == Verb::Receipts) != (file.is_some() != acknowledged.is_some()) => {
            Err("receipts takes one file, to write or with --acknowledged to read".into())
        }
        Some(verb) => Ok(Some(Args {
            acknowledged,
            bundle,
            file,
            config,
            json,
            verb,
            operand,
            withdraw,
            pin_stdin,
        })),
        None => Err("a command is missing".into()),
    }
}

const fn takes_bundle(verb: Verb) -> bool {
    matches!(verb, Verb::Check | Verb::Install | Verb::Recover)
}

fn verb_of(word: &OsString) -> Result<Verb, lexopt::Error> {
    match word.to_str() {
        Some("daemon") => Ok(Verb::Daemon),
        Some("check") => Ok(Verb::Check),
        Some("enroll") => Ok(Verb::Enroll),
        Some("install") => Ok(Verb::Install),
        Some("status") => Ok(Verb::Status),
        Some("history") => Ok(Verb::History),
        Some("consent") => Ok(Verb::Consent),
        Some("postpone") => Ok(Verb::Postpone),
        Some("network") => Ok(Verb::Network),
        Some("hash-pin") => Ok(Verb::HashPin),
        Some("recover") => Ok(Verb::Recover),
        Some("state") => Ok(Verb::State),
        Some("probe-boot") => Ok(Verb::ProbeBoot),
        Some("boot") => Ok(Verb::Boot),
        Some("receipts") => Ok(Verb::Receipts),
        _ => Err(format!("\"{}\" is not a command", word.to_string_lossy()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Option<Args>, lexopt::Error> {
        parse(text.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_stand_anywhere() {
        let expected = Args {
            acknowledged: None,
            bundle: None,
            file: None,
            config: "x".into(),
            json: true,
            verb: Verb::Status,
            operand: None,
            withdraw: false,
            pin_stdin: false,
        };
        for line in ["--config x --json status", "status --json --config=x"] {
            assert_eq!(words(line).expect("fine"), Some(expected.clone()));
        }
        assert_eq!(words("install --help").expect("fine"), None);
    }

    #[test]
    fn wrong_usage_is_named() {
        for (line, text) in [
            ("", "a command is missing"),
            ("upgrade", "\"upgrade\" is not a command"),
            ("enroll", "enroll takes the device's id"),
            ("check now", "unexpected argument \"now\""),
            (
                "daemon --bundle x",
                "only check, install and recover take a bundle",
            ),
            (
                "receipts",
                "receipts takes one file, to write or with --acknowledged to read",
            ),
            (
                "status --acknowledged x",
                "receipts takes one file, to write or with --acknowledged to read",
            ),
            ("check --now", "invalid option '--now'"),
        ] {
            assert_eq!(words(line).expect_err("wrong").to_string(), text);
        }
    }
}
