//! The command line: `run`, `dev-ca`, `enroll`, `device list|show|tag|revoke|…`, `rollout …`,
//! `receipts`, `tree push`, `export`, `import`, `secret-key`,
//! `seal-key`.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 wrong usage. What goes wrong is one `error:` line
//! with its causes and a hint on standard error; what a script may read goes to standard output.

mod accounts;
mod devices;
mod enrolment;
mod receipts;
mod rollouts;
mod transfer;
mod tree;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ampoule_protocol::error::{Coded, chain};
use ampoule_protocol::name::DeviceId;
use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::error::ServerError;
use crate::file::{self, Readers};
use crate::pki;
use crate::run;
use crate::secrets::Sealer;
use crate::store::open::PROBE_BUSY;
use crate::store::sled::SledStore;
use crate::store::{Capacity, StoreError};

/// Gives devices what was published, and keeps what they report.
#[derive(Debug, Parser)]
#[command(name = "ampoule-server", version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve devices.
    Run {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Only say what is wrong with the configuration.
        #[arg(long)]
        check_config: bool,
    },
    /// Make a certificate authority and a server certificate for trying out.
    DevCa {
        /// The folder for `ca.pem`, `ca.key`, `server.pem` and `server.key`.
        #[arg(long)]
        dir: PathBuf,
        /// Names and addresses under which devices reach the server.
        #[arg(long, num_args = 1.., default_values = ["localhost", "127.0.0.1", "::1"])]
        server_name: Vec<String>,
        /// How long the certificates live.
        #[arg(long, default_value_t = 825)]
        days: u32,
    },
    /// Issue a certificate for a device, or take one that was issued elsewhere, and enrol it.
    Enroll(devices::Enroll),
    /// See and revoke devices.
    Device {
        #[command(subcommand)]
        command: DeviceCommand,
    },
    /// Make, watch and stop rollouts.
    Rollout {
        #[command(subcommand)]
        command: rollouts::Command,
    },
    /// Let devices enrol themselves: tokens and approvals.
    Enrolment {
        #[command(subcommand)]
        command: enrolment::Command,
    },
    /// Make the first administrator of the operators' door.
    Account {
        #[command(subcommand)]
        command: accounts::Command,
    },
    /// Print the OpenAPI document of the operators' API.
    Openapi,
    /// Take in receipts that a device without a network sent by file.
    Receipts(receipts::Receipts),
    /// Publish a tree to the bucket that servers read it from.
    Tree {
        #[command(subcommand)]
        command: tree::Command,
    },
    /// Write the whole fleet to a new file, for a backup or for another engine.
    Export(transfer::Transfer),
    /// Put the fleet of such a file into an empty store.
    Import(transfer::Transfer),
    /// Make a key file that seals secrets; keep it outside the store and outside backups.
    SecretKey {
        /// The new file.
        file: PathBuf,
    },
    /// Seal the key that issues device certificates with the key of [secrets]; then name the new
    /// file as [enroll] ca_key, and destroy the old one.
    SealKey {
        /// The key, PKCS#8 PEM.
        key: PathBuf,
        /// The new file.
        sealed: PathBuf,
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Open a store and close it again, to see whether it can be opened.
    #[command(hide = true)]
    StoreProbe {
        /// The store.
        folder: PathBuf,
        /// As configured, in case that the store is new.
        receipts_max: u32,
        /// As configured, in case that the store is new.
        events_max: u32,
    },
}

#[derive(Debug, Subcommand)]
enum DeviceCommand {
    /// All devices.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// All about one device.
    Show {
        /// Which one.
        device: DeviceId,
        #[command(flatten)]
        common: Common,
    },
    /// Say where a device is: region, site, ward. Replaces what was said before.
    Tag {
        /// Which one.
        device: DeviceId,
        /// `NAME=VALUE`; none takes all tags away.
        tags: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Take a device out of use for ever: it is revoked, its name is not enrolled again, and what is
    /// known of it is kept.
    Decommission {
        /// Which one.
        device: DeviceId,
        #[command(flatten)]
        common: Common,
    },
    /// End a device's right to be served, at once.
    Revoke {
        /// Which one.
        device: DeviceId,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, clap::Args)]
struct Common {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // A fault of ours is one line as well; a backtrace says nothing to an operator.
    std::panic::set_hook(Box::new(|fault| {
        let text = fault.to_string().replace('\n', " ");
        eprintln!("error: ampoule-server has a fault of its own: {text}");
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
    match dispatch(cli.command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", chain(&error, error.hint().as_deref()));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, ServerError> {
    match command {
        Command::Run {
            config,
            check_config,
        } => serve(&config, check_config)?,
        Command::DevCa {
            dir,
            server_name,
            days,
        } => {
            pki::make_dev_ca(&dir, &server_name, days)?;
            println!(
                "wrote ca.pem, ca.key, server.pem and server.key to {}",
                dir.display()
            );
        }
        Command::Enroll(enroll) => enroll.run()?,
        Command::Device { command } => match command {
            DeviceCommand::List { common } => devices::list(&common)?,
            DeviceCommand::Show { device, common } => devices::show(device, &common)?,
            DeviceCommand::Tag {
                device,
                tags,
                common,
            } => rollouts::tag(device, &tags, &common)?,
            DeviceCommand::Revoke { device, common } => devices::revoke(device, &common)?,
            DeviceCommand::Decommission { device, common } => {
                devices::decommission(device, &common)?;
            }
        },
        Command::Rollout { command } => command.run()?,
        Command::Enrolment { command } => command.run()?,
        Command::Account { command } => command.run()?,
        Command::Openapi => print!("{}", crate::door::api::document()),
        Command::Receipts(receipts) => receipts.run()?,
        Command::Tree { command } => command.run()?,
        Command::Export(transfer) => transfer.export()?,
        Command::Import(transfer) => transfer.import()?,
        Command::SecretKey { file } => {
            let line = Sealer::new_line()?;
            file::create(&file, line.as_bytes(), Readers::Owner)?;
            println!("wrote {}", file.display());
        }
        Command::SealKey {
            key,
            sealed,
            config,
        } => {
            let none = || ServerError::Refused("there is no [secrets] to seal it with".into());
            let sealer = Sealer::configured(&Config::load(&config)?)?.ok_or_else(none)?;
            let text = pki::seal(&key, &sealer)?;
            file::create(&sealed, text.as_bytes(), Readers::Owner)?;
            println!("wrote {}", sealed.display());
        }
        Command::StoreProbe {
            folder,
            receipts_max,
            events_max,
        } => {
            return probe(
                &folder,
                Capacity {
                    receipts_max,
                    events_max,
                },
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(path: &Path, check_only: bool) -> Result<(), ServerError> {
    let config = Config::load(path)?;
    run::check(&config)?;
    if check_only {
        run::try_out(&config)?;
        println!("{} has no fault", path.display());
        return Ok(());
    }
    run::run(config)
}

fn probe(folder: &Path, capacity: Capacity) -> Result<ExitCode, ServerError> {
    match SledStore::open(folder, capacity, 64) {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(StoreError::Busy(_)) => Ok(ExitCode::from(u8::try_from(PROBE_BUSY).unwrap_or(1))),
        Err(error) => Err(error.into()),
    }
}
