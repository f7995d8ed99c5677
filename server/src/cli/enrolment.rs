//! `enrolment …`: tokens, and devices that wait for a person's word; through the running server.

use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use clap::Subcommand;
use comfy_table::{Table, presets};

use super::Common;
use super::devices::{ask, print};
use crate::admin::{Ask, EnrolmentAsk, Told};
use crate::config::Config;
use crate::error::ServerError;
use crate::est::ledger::{Asked, Word};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a one-time token, with which a device gets its first certificate.
    Token {
        /// For whom.
        device: DeviceId,
        /// How long it can be used.
        #[arg(long, default_value_t = 86_400, value_parser = clap::value_parser!(u32).range(60..=2_592_000))]
        valid_secs: u32,
        #[command(flatten)]
        common: Common,
    },
    /// Devices that came with a birth certificate, and what was said to them.
    Requests {
        #[command(flatten)]
        common: Common,
    },
    /// Let a device in.
    Approve(Said),
    /// Keep a device out.
    Deny(Said),
}

#[derive(Debug, clap::Args)]
pub(super) struct Said {
    /// Which device.
    device: DeviceId,
    /// The key that it asks for, as "requests" shows it.
    #[arg(long)]
    key: String,
    #[command(flatten)]
    common: Common,
}

impl Command {
    pub(super) fn run(self) -> Result<(), ServerError> {
        let (question, common, name) = match self {
            Self::Token {
                device,
                valid_secs,
                common,
            } => {
                let name = device.to_string();
                (EnrolmentAsk::Token { device, valid_secs }, common, name)
            }
            Self::Requests { common } => (EnrolmentAsk::Requests, common, String::new()),
            Self::Approve(said) => said.question(true),
            Self::Deny(said) => said.question(false),
        };
        let config = Config::load(&common.config)?;
        match ask(&Ask::Enrolment(question), &config, &name)? {
            Told::Enrolments { asked } => print(common.json, &asked, || table(&asked)),
            Told::Token(token) => print(common.json, &token, || token.token.clone()),
            _ => return Err(ServerError::Refused("an answer to something else".into())),
        }
        Ok(())
    }
}

impl Said {
    fn question(self, approve: bool) -> (EnrolmentAsk, Common, String) {
        let name = self.device.to_string();
        let question = EnrolmentAsk::Word {
            device: self.device,
            key: self.key,
            approve,
        };
        (question, self.common, name)
    }
}

fn table(asked: &[Asked]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["DEVICE", "KEY", "ASKED", "SAID", ""]);
    for one in asked {
        let said = match one.word {
            Word::Waiting => "nothing",
            Word::Approved => "approved",
            Word::Denied => "denied",
        };
        let note = if one.again {
            "enrolled before with another key: reset, or copied"
        } else {
            ""
        };
        table.add_row([
            one.device.to_string(),
            one.key.short(),
            UtcTime::from_unix(one.at).to_string(),
            said.to_owned(),
            note.to_owned(),
        ]);
    }
    table.to_string()
}
