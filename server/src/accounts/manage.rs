//! Making, inviting, changing and disabling accounts.

use ampoule_protocol::time::UtcTime;
use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::enter::context;
use super::password::{self, Hashed};
use super::row::{Account, Standing};
use super::totp::{self, SEED_LEN};
use super::{ACCOUNTS_MAX, AccountError, AccountName, Accounts};
use crate::door::roles::Role;

/// How long an invitation holds: 72 hours.
const INVITED_SECS: i64 = 72 * 3600;
/// Recovery codes of an account.
const RECOVERY_LEN: usize = 10;

/// What the owner of a new account is told by whoever made it.
pub struct Invitation {
    /// Good once.
    pub secret: Zeroizing<String>,
    /// Until then.
    pub until: UtcTime,
}

/// What the owner's authenticator is told.
pub struct Activation {
    /// The seed, in base32.
    pub secret: Zeroizing<String>,
    /// The same as an address.
    pub address: Zeroizing<String>,
}

impl Accounts {
    /// Makes an account, which its owner then takes into use.
    ///
    /// # Errors
    /// There is one of that name, there are too many, or it has no role.
    pub async fn create(
        &self,
        name: &AccountName,
        (roles, site): (&[Role], Option<&str>),
        by: &str,
        now: UtcTime,
    ) -> Result<Invitation, AccountError> {
        check(roles, site)?;
        if self.list().await?.len() >= ACCOUNTS_MAX {
            return Err(AccountError::Bad("there are 1000 accounts already".into()));
        }
        let (invitation, kept) = invite(now)?;
        let account = Account {
            roles: roles.to_vec(),
            site: site.map(str::to_owned),
            standing: Standing::Invited,
            made_by: by.to_owned(),
            made_at: now.unix(),
            epoch: 0,
            invitation: Some(kept),
            password: None,
            seed: None,
            used_step: 0,
            recovery: Vec::new(),
            failures: 0,
            rests_until: 0,
        };
        self.add(name, &account).await?;
        Ok(invitation)
    }

    /// Makes the first administrator, or invites anew while none has taken up the account.
    ///
    /// # Errors
    /// An administrator is active: there is somebody to ask.
    pub async fn create_first(
        &self,
        name: &AccountName,
        now: UtcTime,
    ) -> Result<Invitation, AccountError> {
        let accounts = self.list().await?;
        let active = accounts.iter().find(|(_, account)| {
            account.standing == Standing::Active && account.roles.contains(&Role::Administrator)
        });
        if let Some((other, _)) = active {
            let what = format!("{other:?} is an administrator already: ask them");
            return Err(AccountError::Exists(what));
        }
        if accounts.iter().any(|(known, _)| known == name.as_str()) {
            return self.invite(name, now).await;
        }
        self.create(name, (&[Role::Administrator][..], None), "local", now)
            .await
    }

    /// Takes password and second factor from an account, and invites its owner anew.
    ///
    /// # Errors
    /// There is no such account.
    pub async fn invite(
        &self,
        name: &AccountName,
        now: UtcTime,
    ) -> Result<Invitation, AccountError> {
        let (invitation, kept) = invite(now)?;
        self.change(name, |account| {
            account.standing = Standing::Invited;
            account.invitation = Some(kept);
            account.password = None;
            account.seed = None;
            account.recovery.clear();
            account.epoch += 1;
            account.was_good();
            Ok(())
        })
        .await?;
        Ok(invitation)
    }

    /// The owner chooses a password and is given a seed; the account is in use after the first
    /// code ([`Accounts::activate`]).
    ///
    /// # Errors
    /// The invitation is not that, or is over; the password is none.
    pub async fn accept(
        &self,
        name: &AccountName,
        secret: &str,
        password: Zeroizing<String>,
        now: UtcTime,
    ) -> Result<Activation, AccountError> {
        let account = self.find(name).await?.ok_or(AccountError::Wrong)?;
        is_invited(&account, secret, now)?;
        let hashed: Hashed = self.hash(password).await?;
        let mut seed = Zeroizing::new([0; SEED_LEN]);
        password::random(&mut *seed)?;
        let sealed = BASE64.encode(&self.sealer.seal(&context(name), &*seed)?);
        self.change(name, |account| {
            is_invited(account, secret, now)?;
            account.password = Some(hashed.clone());
            account.seed = Some(sealed.clone());
            account.used_step = 0;
            Ok(())
        })
        .await?;
        Ok(Activation {
            secret: totp::spelled(&*seed),
            address: totp::address(name.as_str(), &*seed),
        })
    }

    /// The owner's first code; gives the recovery codes, which are not shown again.
    ///
    /// # Errors
    /// The invitation or the code is wrong.
    pub async fn activate(
        &self,
        name: &AccountName,
        secret: &str,
        code: &str,
        now: UtcTime,
    ) -> Result<Vec<Zeroizing<String>>, AccountError> {
        let codes: Result<Vec<_>, AccountError> = (0..RECOVERY_LEN)
            .map(|_| password::secret::<10>())
            .collect();
        let codes = codes?;
        let activated = self.change(name, |account| {
            is_invited(account, secret, now)?;
            let step = self.step_of(name, account, code, now)?;
            account.used_step = step.ok_or(AccountError::Code)?;
            account.standing = Standing::Active;
            account.invitation = None;
            account.recovery = codes.iter().map(|code| password::digest(code)).collect();
            account.epoch += 1;
            Ok(())
        });
        match activated.await {
            Err(AccountError::Unknown(_)) => Err(AccountError::Wrong),
            other => other.map(|()| codes),
        }
    }

    /// Changes what an account's owner may do; all its sessions end.
    ///
    /// # Errors
    /// There is no such account, or it would have no role.
    pub async fn set_roles(
        &self,
        name: &AccountName,
        roles: &[Role],
        site: Option<&str>,
    ) -> Result<(), AccountError> {
        check(roles, site)?;
        self.change(name, |account| {
            account.roles = roles.to_vec();
            account.site = site.map(str::to_owned);
            account.epoch += 1;
            Ok(())
        })
        .await
    }

    /// Disables an account, or lets it be used again; all its sessions end.
    ///
    /// # Errors
    /// There is no such account, or it was never in use.
    pub async fn set_enabled(&self, name: &AccountName, yes: bool) -> Result<(), AccountError> {
        self.change(name, |account| {
            account.standing = match (yes, account.password.is_some()) {
                (false, _) => Standing::Disabled,
                (true, true) if account.invitation.is_none() => Standing::Active,
                (true, _) => Standing::Invited,
            };
            account.epoch += 1;
            Ok(())
        })
        .await
    }
}

fn check(roles: &[Role], site: Option<&str>) -> Result<(), AccountError> {
    let bad = |what: &str| Err(AccountError::Bad(what.to_owned()));
    let mut unique = roles.to_vec();
    unique.sort_unstable();
    unique.dedup();
    if roles.is_empty() || unique.len() != roles.len() {
        return bad("an account has at least one role, and each once");
    }
    if roles.contains(&Role::Site) != site.is_some() {
        return bad("the role \"site\" names a site, and no other does");
    }
    let fits = |site: &str| (1..=64).contains(&site.len()) && !site.chars().any(char::is_control);
    if !site.is_none_or(fits) {
        return bad("a site's name has 1 to 64 bytes");
    }
    Ok(())
}

fn invite(
    now: UtcTime,
) -> Result<(Invitation, (ampoule_protocol::digest::Digest, i64)), AccountError> {
    let secret = password::secret::<20>()?;
    let until = now.plus_secs(INVITED_SECS);
    let kept = (password::digest(&secret), until.unix());
    Ok((Invitation { secret, until }, kept))
}

fn is_invited(account: &Account, secret: &str, now: UtcTime) -> Result<(), AccountError> {
    let known = account.invitation.as_ref();
    let good = known
        .is_some_and(|(digest, until)| *digest == password::digest(secret) && *until > now.unix());
    if good && account.standing == Standing::Invited {
        return Ok(());
    }
    Err(AccountError::Wrong)
}
