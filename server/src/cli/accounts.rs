//! `account create-first`: through the running server's own socket.

use clap::Subcommand;
use serde_json::json;

use super::Common;
use super::devices::{ask, print};
use crate::accounts::AccountName;
use crate::admin::{Ask, Told};
use crate::config::Config;
use crate::error::ServerError;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the first administrator, or invite them anew while nobody has taken the account up.
    CreateFirst {
        /// Their name.
        account: AccountName,
        #[command(flatten)]
        common: Common,
    },
}

impl Command {
    pub(super) fn run(self) -> Result<(), ServerError> {
        let Self::CreateFirst { account, common } = self;
        let config = Config::load(&common.config)?;
        let told = ask(&Ask::AccountFirst { account }, &config, "")?;
        let Told::Invited {
            account,
            invitation,
            until,
        } = told
        else {
            return Err(ServerError::Refused("an answer to something else".into()));
        };
        let value = json!({"account": account, "invitation": invitation, "until": until});
        print(common.json, &value, || {
            format!(
                "{account} is invited until {until}; it is not shown again:\n{invitation}\n\
                 take it up with \"ampoule-ctl activate {account}\""
            )
        });
        Ok(())
    }
}
