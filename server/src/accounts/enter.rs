//! Getting in: login, sessions, and the fresh code that an act asks for.

use ampoule_protocol::digest::Digest;
use ampoule_protocol::time::UtcTime;
use data_encoding::{BASE64, HEXLOWER};
use zeroize::Zeroizing;

use super::password::{self, Hashed};
use super::row::{Account, Session, Standing};
use super::{AccountError, AccountName, Accounts, totp};

/// The second factor at a login.
pub enum Second {
    /// A code of the authenticator.
    Code(String),
    /// One of the recovery codes, which is used up.
    Recovery(String),
}

/// A session that has begun.
pub struct Entered {
    /// Its id: whoever has it is taken for the account's owner.
    pub id: Zeroizing<String>,
    /// When it ends.
    pub until: UtcTime,
    /// The account.
    pub account: Account,
}

impl Accounts {
    /// Checks password and second factor, and begins a session.
    ///
    /// # Errors
    /// Which of name, password and code was wrong is not said.
    pub async fn login(
        &self,
        name: &AccountName,
        password: Zeroizing<String>,
        second: &Second,
        now: UtcTime,
    ) -> Result<Entered, AccountError> {
        let unix = now.unix();
        let begun = self
            .change(name, |account| {
                if let Some(secs) = account.rests(unix) {
                    return Err(AccountError::Locked(secs));
                }
                account.attempt(unix);
                Ok(account.clone())
            })
            .await;
        let known = match begun {
            Ok(account) if account.standing == Standing::Active => account.password,
            Ok(_) | Err(AccountError::Unknown(_)) => None,
            Err(error) => return Err(error),
        };
        if !self.is_password(known, password).await? {
            return Err(AccountError::Wrong);
        }
        let account = self
            .change(name, |account| {
                self.check_second(name, account, second, now)?;
                account.was_good();
                Ok(account.clone())
            })
            .await?;
        self.begin(name, account, now).await
    }

    async fn is_password(
        &self,
        known: Option<Hashed>,
        password: Zeroizing<String>,
    ) -> Result<bool, AccountError> {
        let _waits = self.waiting.try_acquire().map_err(|_| AccountError::Busy)?;
        let _hashes = self.hashing.acquire().await;
        let check = move || {
            if let Some(hashed) = known {
                return hashed.is(&password);
            }
            password::pretend(&password);
            false
        };
        tokio::task::spawn_blocking(check)
            .await
            .map_err(|error| AccountError::Damaged(error.to_string()))
    }

    fn check_second(
        &self,
        name: &AccountName,
        account: &mut Account,
        second: &Second,
        now: UtcTime,
    ) -> Result<(), AccountError> {
        match second {
            Second::Code(code) => {
                let step = self.step_of(name, account, code, now)?;
                account.used_step = step.ok_or(AccountError::Wrong)?;
            }
            Second::Recovery(code) => {
                let digest = password::digest(code);
                let at = account.recovery.iter().position(|known| *known == digest);
                account.recovery.remove(at.ok_or(AccountError::Wrong)?);
            }
        }
        Ok(())
    }

    /// The step of a code that is accepted now.
    pub(super) fn step_of(
        &self,
        name: &AccountName,
        account: &Account,
        code: &str,
        now: UtcTime,
    ) -> Result<Option<u64>, AccountError> {
        let Some(sealed) = &account.seed else {
            return Ok(None);
        };
        let sealed = BASE64.decode(sealed.as_bytes());
        let sealed = sealed.map_err(|error| AccountError::Damaged(error.to_string()))?;
        let seed = self.sealer.unseal(&context(name), &sealed)?;
        Ok(totp::accepted(&seed, code.trim(), account.used_step, now))
    }

    async fn begin(
        &self,
        name: &AccountName,
        account: Account,
        now: UtcTime,
    ) -> Result<Entered, AccountError> {
        self.sweep(now.unix()).await?;
        let mut bytes = Zeroizing::new([0; 32]);
        password::random(&mut *bytes)?;
        let id = Zeroizing::new(HEXLOWER.encode(&*bytes));
        let until = now.plus_secs(self.session_secs);
        let session = Session {
            account: name.clone(),
            epoch: account.epoch,
            until: until.unix(),
        };
        self.keep(&Digest::of(id.as_bytes()), &session).await?;
        Ok(Entered { id, until, account })
    }

    /// Whose session this is.
    ///
    /// # Errors
    /// Nobody's, or it is over.
    pub async fn whose(
        &self,
        id: &str,
        now: UtcTime,
    ) -> Result<(AccountName, Account), AccountError> {
        let session = self.session(&Digest::of(id.as_bytes())).await?;
        let session = session.filter(|session| session.until > now.unix());
        let session = session.ok_or(AccountError::NoSession)?;
        let account = self.find(&session.account).await?;
        let good = |account: &Account| {
            account.standing == Standing::Active && account.epoch == session.epoch
        };
        let account = account.filter(good).ok_or(AccountError::NoSession)?;
        Ok((session.account, account))
    }

    /// Ends a session.
    ///
    /// # Errors
    /// The store failed.
    pub async fn logout(&self, id: &str) -> Result<(), AccountError> {
        self.forget(&Digest::of(id.as_bytes())).await
    }

    /// Uses up a code for one act. Wrong ones count like wrong logins.
    ///
    /// # Errors
    /// It is wrong, was used, or the account rests.
    pub async fn confirm(
        &self,
        name: &AccountName,
        code: &str,
        now: UtcTime,
    ) -> Result<(), AccountError> {
        let unix = now.unix();
        self.change(name, |account| {
            if let Some(secs) = account.rests(unix) {
                return Err(AccountError::Locked(secs));
            }
            if let Some(step) = self.step_of(name, account, code, now)? {
                account.used_step = step;
                account.was_good();
                return Ok(Ok(()));
            }
            account.attempt(unix);
            Ok(Err(AccountError::Code))
        })
        .await?
    }

    /// Changes a password; all sessions end.
    ///
    /// # Errors
    /// The old password or the code is wrong, or the new one is none.
    pub async fn set_password(
        &self,
        name: &AccountName,
        (old, code): (Zeroizing<String>, &str),
        new: Zeroizing<String>,
        now: UtcTime,
    ) -> Result<(), AccountError> {
        self.confirm(name, code, now).await?;
        let known = self.find(name).await?.and_then(|account| account.password);
        if !self.is_password(known, old).await? {
            self.change(name, |account| {
                account.attempt(now.unix());
                Ok(())
            })
            .await?;
            return Err(AccountError::Wrong);
        }
        let hashed = self.hash(new).await?;
        self.change(name, |account| {
            account.password = Some(hashed.clone());
            account.epoch += 1;
            Ok(())
        })
        .await
    }

    pub(super) async fn hash(&self, password: Zeroizing<String>) -> Result<Hashed, AccountError> {
        let _waits = self.waiting.try_acquire().map_err(|_| AccountError::Busy)?;
        let _hashes = self.hashing.acquire().await;
        tokio::task::spawn_blocking(move || Hashed::new(&password))
            .await
            .map_err(|error| AccountError::Damaged(error.to_string()))?
    }
}

/// What a seed is sealed as.
pub(super) fn context(name: &AccountName) -> String {
    format!("totp/{name}")
}
