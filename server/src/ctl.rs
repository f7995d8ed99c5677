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

mod accounts;
mod audit;
mod client;
mod devices;
mod error;
mod fetch;
mod files;
mod output;
mod profile;
mod rollouts;
mod session;
mod witness;

use std::process::ExitCode;

use ampoule_protocol::error::{Coded as _, chain};
use clap::{Parser, Subcommand};

pub use error::CtlError;

/// The operator's command line.
#[derive(Debug, Parser)]
#[command(name = "ampoule-ctl", version, arg_required_else_help = false)]
struct Cli {
    #[command(flatten)]
    server: profile::Server,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a session; asks for password and code.
    Login(session::Enter),
    /// End the session.
    Logout,
    /// Say who this is.
    Whoami {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Take up an invitation: choose a password, set up the authenticator.
    Activate {
        /// The account.
        account: String,
    },
    /// Change one's own password.
    Password,
    /// See, enrol, tag and revoke devices.
    Device {
        #[command(subcommand)]
        command: devices::Command,
    },
    /// Make, approve, watch and stop rollouts.
    Rollout {
        #[command(subcommand)]
        command: rollouts::Command,
    },
    /// Approve a rollout's plan; the same as "rollout approve".
    Approve(rollouts::Digested),
    /// Make and change accounts.
    Account {
        #[command(subcommand)]
        command: accounts::Command,
    },
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
    let server = &cli.server;
    let done = match cli.command {
        Command::Login(enter) => enter.run(server),
        Command::Logout => session::leave(server),
        Command::Whoami { json } => session::whoami(server, json),
        Command::Activate { account } => session::activate(server, &account),
        Command::Password => session::password(server),
        Command::Device { command } => command.run(server),
        Command::Rollout { command } => command.run(server),
        Command::Approve(digested) => digested.approve(server),
        Command::Account { command } => command.run(server),
        Command::Audit { command } => command.run(server),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", chain(&error, error.hint().as_deref()));
            ExitCode::FAILURE
        }
    }
}
