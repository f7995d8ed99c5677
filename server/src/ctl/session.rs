//! `login`, `logout`, `whoami`, `activate`, `password`.
//!
//! Secrets are asked for on the terminal, or read line by line from standard input where that is
//! not one; they are never arguments, which other users of a machine can see.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use zeroize::Zeroizing;

use super::CtlError;
use super::client::Client;
use super::output::{plain, print};
use super::profile::Server;
use crate::door::words::{
    Accept, Activate, LoggedIn, Login, Myself, NewPassword, RecoveryCodes, Seed,
};

/// Bytes of one answer of a person.
const LINE_LEN_MAX: usize = 1024;

/// Asks a person for a secret.
pub(super) fn secret(what: &str) -> Result<Zeroizing<String>, CtlError> {
    let failed = |source| CtlError::File {
        act: "read",
        path: "standard input".into(),
        source,
    };
    if std::io::stdin().is_terminal() {
        let asked = rpassword::prompt_password(format!("{what}: "));
        return asked.map(Zeroizing::new).map_err(failed);
    }
    let mut line = Zeroizing::new(String::new());
    let mut input = std::io::stdin().lock();
    std::io::Read::take(&mut input, LINE_LEN_MAX as u64)
        .read_line(&mut line)
        .map_err(failed)?;
    let line = Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned());
    if line.is_empty() {
        return Err(CtlError::Usage(format!("no {what} was given")));
    }
    Ok(line)
}

#[derive(Debug, clap::Args)]
pub(super) struct Enter {
    /// The account.
    account: String,
    /// Use one of the recovery codes instead of the authenticator.
    #[arg(long)]
    recovery: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

impl Enter {
    pub(super) fn run(self, server: &Server) -> Result<(), CtlError> {
        let mut profile = server.profile()?;
        profile.session = None;
        let client = Client::new(&profile)?;
        let password = secret("password")?;
        let code = secret(if self.recovery {
            "recovery code"
        } else {
            "code"
        })?;
        let (code, recovery) = if self.recovery {
            (None, Some(code.to_string()))
        } else {
            (Some(code.to_string()), None)
        };
        let login = Login {
            account: self.account,
            password: password.to_string(),
            code,
            recovery,
        };
        let entered: LoggedIn = client.post("/api/v1/login", &login)?;
        profile.session = Some(entered.session.clone());
        profile.ca = profile
            .ca
            .map(|path| std::path::absolute(&path).unwrap_or(path));
        profile.store()?;
        let roles: Vec<&str> = entered.roles.iter().map(|role| role.as_str()).collect();
        let value = serde_json::json!({
            "account": entered.account, "until": entered.until, "roles": entered.roles,
            "recovery_left": entered.recovery_left,
        });
        print(self.json, &value, || {
            format!(
                "{}: {}, until {}",
                plain(&entered.account),
                roles.join(", "),
                plain(&entered.until)
            )
        });
        if entered.recovery_left < 3 {
            eprintln!("warning: {} recovery codes are left", entered.recovery_left);
        }
        Ok(())
    }
}

/// `logout`.
pub(super) fn leave(server: &Server) -> Result<(), CtlError> {
    let mut profile = server.profile()?;
    let client = Client::new(&profile)?;
    let done: Result<Myself, CtlError> = client.post("/api/v1/logout", &serde_json::json!({}));
    // Whatever the server says, this machine forgets.
    profile.session = None;
    profile.store()?;
    done.map(drop)
}

/// `whoami`.
pub(super) fn whoami(server: &Server, json: bool) -> Result<(), CtlError> {
    let myself: Myself = Client::new(&server.profile()?)?.get("/api/v1/whoami")?;
    let roles: Vec<&str> = myself.roles.iter().map(|role| role.as_str()).collect();
    print(json, &myself, || {
        format!("{}: {}", plain(&myself.name), roles.join(", "))
    });
    Ok(())
}

/// `activate`: an invitation becomes an account in use.
pub(super) fn activate(server: &Server, account: &str) -> Result<(), CtlError> {
    let client = Client::new(&server.profile()?)?;
    let invitation = secret("invitation")?;
    let password = secret("new password (12 bytes or more)")?;
    let accept = Accept {
        account: account.to_owned(),
        invitation: invitation.to_string(),
        password: password.to_string(),
    };
    let seed: Seed = client.post("/api/v1/accept", &accept)?;
    println!("secret for your authenticator: {}", plain(&seed.secret));
    println!("or as an address: {}", plain(&seed.address));
    let _ = std::io::stdout().flush();
    let code = secret("code that it shows")?;
    let activate = Activate {
        account: account.to_owned(),
        invitation: invitation.to_string(),
        code: code.to_string(),
    };
    let codes: RecoveryCodes = client.post("/api/v1/activate", &activate)?;
    println!("recovery codes, each good once; they are not shown again:");
    for code in &codes.codes {
        println!("  {}", plain(code));
    }
    Ok(())
}

/// `password`.
pub(super) fn password(server: &Server) -> Result<(), CtlError> {
    let client = Client::new(&server.profile()?)?;
    let words = NewPassword {
        old: secret("old password")?.to_string(),
        new: secret("new password (12 bytes or more)")?.to_string(),
        code: secret("code")?.to_string(),
    };
    let _: Myself = client.post("/api/v1/password", &words)?;
    eprintln!("note: the password is changed, and all your sessions are over: log in again");
    Ok(())
}
