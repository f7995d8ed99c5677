//! Trusted metadata on this device: the durable store, and the updater that fills it.
//!
//! ```text
//!   metadata/root.json  timestamp.json  bundle.json  snapshot.json  targets.json  ROLE.json (percent-encoded)
//!   metadata/root_history/N.root.json
//!   director/…                           the same of the director, on a device in a fleet
//! ```
//!
//! Bytes are stored as they were served, since signatures are over bytes. Each file is durable
//! before the next request leaves; the rules themselves live in `ampoule_protocol::trust`.

mod director;
mod store;
mod updater;

use ampoule_protocol::json;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::UpdateStart;

pub use director::DirectorFetch;
pub use store::{MetadataStore, StoreError};
pub use updater::{UpdateError, Updater};

/// The member of a timestamp that says when it was signed.
pub const SIGNED_AT: &str = "ampoule_signed_at";
/// The same member of a bundle's statement.
const BUNDLE_SIGNED_AT: &str = "signed_at";

/// When this version was written: no update of this agent starts earlier than that.
///
/// 2026-11-23T00:00:00Z, in Unix seconds.
pub const BUILD_TIME: UtcTime = UtcTime::from_unix(1_795_392_000);

/// The time of an update that starts now: the highest of the build time, the signing time of the
/// last trusted timestamp or bundle, and the wall clock. Time is a lower bound: a clock that was set back, or
/// stands at 1970, opens nothing that had expired.
pub fn update_start(wall: Option<UtcTime>, store: &MetadataStore) -> UpdateStart {
    let signed_at = store.signed_at().unwrap_or(BUILD_TIME);
    UpdateStart::new(wall, signed_at.max(BUILD_TIME))
}

/// The signing time in a file that was trusted when it was stored.
fn signed_at(stored: &[u8], member: &str) -> Option<UtcTime> {
    let value = json::parse(stored).ok()?;
    let text = value.member("signed")?.member(member)?.as_str()?;
    UtcTime::parse(text).ok()
}
