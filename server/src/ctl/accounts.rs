//! `account …`.

use clap::Subcommand;

use super::CtlError;
use super::client::{Client, segment};
use super::output::{plain, print, table};
use super::profile::Server;
use super::session::secret;
use crate::door::roles::Role;
use crate::door::words::{
    Account, Accounts, Invitation, Invite, NewAccount, NewRoles, NewStanding,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// All accounts.
    List {
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make an account; asks for a fresh code, and prints the invitation.
    Create(Given),
    /// Change what an account's owner may do; asks for a fresh code.
    Roles(Given),
    /// Take password and second factor away, and invite anew; asks for a fresh code.
    Invite {
        /// The account.
        account: String,
    },
    /// Disable an account; asks for a fresh code.
    Disable {
        /// The account.
        account: String,
    },
    /// Let a disabled account be used again; asks for a fresh code.
    Enable {
        /// The account.
        account: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Given {
    /// The account.
    account: String,
    /// A role; may be given more than once.
    #[arg(long, required = true, value_enum)]
    role: Vec<Role>,
    /// The site, for the role "site".
    #[arg(long)]
    site: Option<String>,
}

impl Command {
    pub(super) fn run(self, server: &Server) -> Result<(), CtlError> {
        let client = Client::new(&server.profile()?)?;
        match self {
            Self::List { json } => {
                let all: Accounts = client.get("/api/v1/accounts")?;
                print(json, &all.items, || listed(&all));
            }
            Self::Create(given) => {
                let words = NewAccount {
                    account: given.account,
                    roles: given.role,
                    site: given.site,
                    code: secret("code")?.to_string(),
                };
                invited(&client.post("/api/v1/accounts", &words)?);
            }
            Self::Roles(given) => {
                let epoch = seen(&client, &given.account)?;
                let words = NewRoles {
                    roles: given.role,
                    site: given.site,
                    epoch,
                    code: secret("code")?.to_string(),
                };
                let now: Account = client.post(&path(&given.account, "roles"), &words)?;
                println!("{}", listed(&Accounts { items: vec![now] }));
            }
            Self::Invite { account } => {
                let words = Invite {
                    epoch: seen(&client, &account)?,
                    code: secret("code")?.to_string(),
                };
                invited(&client.post(&path(&account, "invite"), &words)?);
            }
            Self::Disable { account } => standing(&client, &account, false)?,
            Self::Enable { account } => standing(&client, &account, true)?,
        }
        Ok(())
    }
}

fn path(account: &str, act: &str) -> String {
    format!("/api/v1/accounts/{}/{act}", segment(account))
}

/// The number of changes that this person sees now.
fn seen(client: &Client, account: &str) -> Result<u64, CtlError> {
    let all: Accounts = client.get("/api/v1/accounts")?;
    let found = all.items.iter().find(|known| known.account == account);
    let found = found.ok_or_else(|| CtlError::Refused {
        code: "unknown-account".into(),
        detail: format!("there is no account {account:?}"),
    })?;
    eprintln!(
        "{}",
        listed(&Accounts {
            items: vec![shown(found)]
        })
    );
    Ok(found.epoch)
}

fn shown(account: &Account) -> Account {
    Account {
        account: account.account.clone(),
        roles: account.roles.clone(),
        site: account.site.clone(),
        standing: account.standing,
        made_by: account.made_by.clone(),
        epoch: account.epoch,
    }
}

fn standing(client: &Client, account: &str, enabled: bool) -> Result<(), CtlError> {
    let words = NewStanding {
        enabled,
        epoch: seen(client, account)?,
        code: secret("code")?.to_string(),
    };
    let now: Account = client.post(&path(account, "standing"), &words)?;
    println!("{}", listed(&Accounts { items: vec![now] }));
    Ok(())
}

fn invited(invitation: &Invitation) {
    println!(
        "{} is invited until {}; it is not shown again:\n{}",
        plain(&invitation.account),
        plain(&invitation.until),
        plain(&invitation.invitation)
    );
}

fn listed(all: &Accounts) -> String {
    let rows = all.items.iter().map(|account| {
        let roles: Vec<&str> = account.roles.iter().map(|role| role.as_str()).collect();
        let standing = serde_json::to_value(account.standing).unwrap_or_default();
        vec![
            account.account.clone(),
            standing.as_str().unwrap_or_default().to_owned(),
            roles.join(", "),
            account.site.clone().unwrap_or_default(),
            account.made_by.clone(),
        ]
    });
    table(&["ACCOUNT", "STANDING", "ROLES", "SITE", "MADE BY"], rows)
}
