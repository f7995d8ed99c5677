//! The first administrator of the operators' door: made by whoever may open the server's own socket,
//! and only while there is none.

use ampoule_protocol::error::chain;

use super::Told;
use crate::accounts::{AccountName, Accounts};
use crate::serve::Shared;

/// The accounts of a server; absent where nothing can be sealed.
pub fn accounts(shared: &Shared) -> Option<Accounts> {
    let operators = shared.config.operators.as_ref()?;
    let secs = i64::try_from(operators.session.as_secs()).unwrap_or(i64::MAX);
    let (store, writer) = (shared.store.clone(), shared.writer.clone());
    Some(Accounts::new(store, writer, shared.sealer.clone()?, secs))
}

pub(super) async fn answer(shared: &Shared, account: &AccountName) -> Told {
    let Some(accounts) = accounts(shared) else {
        let what = "the configuration has no [operators]".to_owned();
        return Told::Failed { what };
    };
    match accounts.create_first(account, shared.now()).await {
        Ok(invitation) => Told::Invited {
            account: account.clone(),
            invitation: invitation.secret.to_string(),
            until: invitation.until,
        },
        Err(error) => Told::Failed {
            what: chain(&error, None)
                .replace('\n', "; ")
                .replacen("error: ", "", 1),
        },
    }
}
