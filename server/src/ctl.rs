//! `ampoule-ctl`: the operator's command line.
//!
//! ```text
//!   login, whoami, device, rollout, account   --HTTPS--> the server's operators' door
//!   audit verify, show, consistency, witness  a folder of tiles, no server
//! ```
//!
//! What a script may read goes to standard output (`--json`), everything else to standard error.
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage. What goes wrong is one `error:` line
//! with its causes and a hint. Nothing here is bound to one operating system.

mod audit;
mod error;
mod files;
mod output;

use std::process::ExitCode;

use ampoule_protocol::error::{Coded as _, chain};
use clap::{Parser, Subcommand};

pub use error::CtlError;

/// The operator's command line.
#[derive(Debug, Parser)]
#[command(name = "ampoule-ctl", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Verify, read and witness an audit log; works without a server.
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // A fault of ours is one line as well; a backtrace says nothing to an operator.
    std::panic::set_hook(Box::new(|fault| {
        let text = fault.to_string().replace('\n', " ");
        eprintln!("error: ampoule-ctl has a fault of its own: {text}");
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            // Nobody may be listening to what we print.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let done = match cli.command {
        Command::Audit { command } => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error, error.hint().as_deref()));
            ExitCode::FAILURE
        }
    }
}
