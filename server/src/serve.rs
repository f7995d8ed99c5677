//! The device listener: threads, connections, limits, and the orderly end.
//!
//! ```text
//!   N threads, each: one listener (SO_REUSEPORT), one runtime, no work stealing
//!     accept -> handshake (bounded) -> who is it -> requests (admitted one by one) -> end
//!   a watch on each connection cuts slow readers and idle peers, and lets quiet ones sleep
//!   at the end: no new connections, open requests finish, then the threads end
//! ```
//!
//! Limits stand where they act: connections and handshakes here, slow peers in [`pace`], heads in
//! hyper's builders, bodies in `http::reports`, requests of one device in `http::admit`.

mod connection;
mod drive;
mod gather;
mod h1;
mod h2;
mod held;
mod listen;
pub mod pace;

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use ampoule_protocol::time::UtcTime;
use rustls::ServerConfig;

use crate::audit::Audit;
use crate::config::Config;
use crate::director::Director;
use crate::est::Est;
use crate::fleet::{Device, Fleet};
use crate::identity::Identity;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::published::Published;
use crate::rollouts::Rollouts;
use crate::secrets::Sealer;
use crate::store::Store;
use crate::store::writer::Writer;
use crate::tls::{Reloading, TicketKeys, TlsState};
pub(crate) use held::HELD_LEN_MAX;
pub use listen::{Listening, start};
use pace::{Pace, Sending};

/// What all connections share.
pub struct Shared {
    /// The configuration.
    pub config: Config,
    /// Certificates in use.
    pub tls: Reloading<TlsState>,
    /// Keys of session tickets, where servers share a fleet.
    pub tickets: Option<Arc<TicketKeys>>,
    /// Those of the operators' listener, where there is one.
    pub operators_tls: Option<Reloading<ServerConfig>>,
    /// Whom we serve.
    pub fleet: Arc<Fleet>,
    /// What we serve.
    pub published: Published,
    /// What we must not lose, for reading.
    pub store: Arc<dyn Store>,
    /// What we must not lose, for writing.
    pub writer: Writer,
    /// What happened, for ever.
    pub audit: Audit,
    /// Who is offered what.
    pub rollouts: Arc<Rollouts>,
    /// Signs that for each device; absent where devices live alone.
    pub director: Option<Director>,
    /// Seals what must stay secret in the store, where the configuration names a key.
    pub sealer: Option<Arc<Sealer>>,
    /// Lets devices enrol themselves; absent where only operators enrol them.
    pub est: Option<Est>,
    /// Where we say what happens.
    pub log: Arc<Log>,
    /// Unix time from which on the timestamp may not be served: others may serve another one.
    pub changing_from: AtomicI64,
    /// What it counts.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
}

impl Shared {
    /// The time of this request.
    pub fn now(&self) -> UtcTime {
        self.clock.now()
    }

    /// Whether another server may serve another timestamp at this moment.
    pub fn timestamp_changes(&self) -> bool {
        self.now().unix() >= self.changing_from.load(Ordering::Relaxed)
    }
}

/// Wall time in whole seconds, read in one place. Read anew each time: servers that share a fleet
/// go by it, and a reading that was kept would stand still while whoever renews it waits.
#[derive(Debug)]
pub struct Clock(());

impl Clock {
    /// The system's clock.
    pub fn start() -> Self {
        Self(())
    }

    /// The time now.
    pub fn now(&self) -> UtcTime {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let secs = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        UtcTime::from_unix(secs)
    }
}

/// Who is at the other end of a connection.
pub struct Peer {
    /// What its certificate says.
    pub identity: Arc<Identity>,
    /// How its connection moves.
    pub pace: Arc<Pace>,
    shared: Arc<Shared>,
    /// Its place in the fleet, once it has one.
    device: OnceLock<Arc<Device>>,
}

impl Peer {
    /// Whoever holds this certificate.
    pub fn new(identity: Arc<Identity>, pace: Arc<Pace>, shared: Arc<Shared>) -> Self {
        Self {
            identity,
            pace,
            shared,
            device: OnceLock::new(),
        }
    }

    /// The device, where it is known. It is looked for once: what is known of it may change, and
    /// it stays the same place in the fleet.
    pub fn device(&self) -> Option<&Arc<Device>> {
        if let Some(device) = self.device.get() {
            return Some(device);
        }
        let found = self.shared.fleet.find(&self.identity.device)?;
        Some(self.device.get_or_init(|| found))
    }

    /// A body on its way to this peer.
    pub fn transfer(&self, device: &Arc<Device>) -> Transfer {
        Transfer {
            device: device.clone(),
            identity: self.identity.clone(),
            shared: self.shared.clone(),
            _sending: Pace::begin(&self.pace),
        }
    }
}

/// Watches over a long body: it ends where its device is not served any more.
pub struct Transfer {
    device: Arc<Device>,
    identity: Arc<Identity>,
    shared: Arc<Shared>,
    _sending: Sending,
}

impl Transfer {
    /// Asked before each chunk.
    ///
    /// # Errors
    /// The device was revoked since.
    pub fn check(&self) -> io::Result<()> {
        let revoked = self.shared.tls.current().is_revoked(&self.identity)
            || self
                .device
                .admits(&self.identity, self.shared.now().unix())
                .is_err();
        if revoked {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "the device was revoked",
            ));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transfer")
            .field("device", &self.identity.device)
            .finish_non_exhaustive()
    }
}
