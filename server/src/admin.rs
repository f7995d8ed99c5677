//! The operator's door on this machine: a Unix socket that only the server's user may open.
//!
//! One line of JSON asks, one line answers. The commands `enroll` and `device` use it while a
//! server runs, and do the same to the store themselves while none does ([`Door`]).

pub mod ending;
mod enrolment;
mod first;
mod listen;
pub mod rollouts;

use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ampoule_protocol::device::DeviceView;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::chain;
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::time::UtcTime;
use serde::{Deserialize, Serialize};

use crate::accounts::AccountName;
use crate::audit::{self, Record, start};
use crate::config::Config;
use crate::error::ServerError;
use crate::est;
use crate::est::ledger::Asked;
use crate::http::view_of;
use crate::rollouts::Heard;
use crate::serve::{Clock, Shared};
use crate::store::open::Opened;
use crate::store::transfer::{self, Moved, TransferError};
use crate::store::{DeviceRow, Event, Store, StoreError, Write, Written};

pub use enrolment::{EnrolmentAsk, MadeToken};
pub use first::accounts;
pub use listen::{listen, serve};
pub use rollouts::RolloutAsk;

/// For one question to come and its answer to be taken.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// A question.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Ask {
    /// Enrol a device with this certificate.
    Enroll {
        /// Who.
        device: DeviceId,
        /// SHA-256 of its certificate.
        certificate: Digest,
        /// Unix time at which that ends.
        not_after: i64,
    },
    /// Revoke a device for ever: its name is not enrolled again.
    Decommission {
        /// Which one.
        device: DeviceId,
    },
    /// Revoke a device.
    Revoke {
        /// Who.
        device: DeviceId,
    },
    /// Keep a receipt that came by file. Whoever asks has verified it.
    Receipt {
        /// Whose.
        device: DeviceId,
        /// Its exact bytes.
        receipt: String,
    },
    /// All devices.
    List,
    /// One device.
    Show {
        /// Who.
        device: DeviceId,
    },
    /// About rollouts.
    Rollout(RolloutAsk),
    /// Write the whole fleet to a new file.
    Export {
        /// The file, from the root.
        file: PathBuf,
    },
    /// About enrolment.
    Enrolment(EnrolmentAsk),
    /// Make the first administrator of the operators' door.
    AccountFirst {
        /// Their name.
        account: AccountName,
    },
}

/// An answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Told {
    /// The device as it is now.
    Device(Box<DeviceRow>),
    /// All devices, by name.
    Devices {
        /// Their rows.
        devices: Vec<DeviceRow>,
    },
    /// All about one device.
    Details(Box<Details>),
    /// About rollouts: for people, and the same for programs.
    Rollout {
        /// Lines.
        text: String,
        /// JSON.
        value: serde_json::Value,
    },
    /// The fleet is in the file.
    Exported(Moved),
    /// Devices that asked to be enrolled.
    Enrolments {
        /// Those who wait first.
        asked: Vec<Asked>,
    },
    /// A one-time token.
    Token(MadeToken),
    /// An account was made; its owner takes it up with this, once.
    Invited {
        /// Whose.
        account: AccountName,
        /// The secret.
        invitation: String,
        /// Until then.
        until: UtcTime,
    },
    /// There is no such device.
    Unknown,
    /// It cannot be done now.
    Unavailable {
        /// Why.
        what: String,
    },
    /// It could not be done.
    Failed {
        /// Why.
        what: String,
    },
}

/// All that is known of a device.
#[derive(Debug, Serialize, Deserialize)]
pub struct Details {
    /// Its row.
    pub row: DeviceRow,
    /// What it is told about itself.
    pub view: DeviceView,
    /// What happened to it, oldest first.
    pub events: Vec<Event>,
}

/// The way to the store: through the running server, or by hand.
pub enum Door {
    /// A server runs.
    Running(UnixStream),
    /// None does, and the store is ours.
    Own(Arc<Opened>),
}

impl Door {
    /// Finds the way.
    ///
    /// # Errors
    /// Somebody holds the store and does not answer, or the store is damaged.
    pub fn open(config: &Config) -> Result<Self, ServerError> {
        let socket = &config.admin.socket;
        if let Ok(stream) = UnixStream::connect(socket) {
            return Ok(Self::Running(stream));
        }
        let probe = std::env::current_exe().ok();
        match Opened::open(&config.store, probe.as_deref()) {
            Ok(store) => Ok(Self::Own(Arc::new(store))),
            Err(StoreError::Busy(path)) => Err(ServerError::StoreBusy {
                path,
                socket: socket.clone(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Asks.
    ///
    /// # Errors
    /// The server broke off, or the store failed.
    pub fn ask(self, ask: &Ask, config: &Config) -> Result<Told, ServerError> {
        match self {
            Self::Running(stream) => through(stream, ask).map_err(|source| ServerError::System {
                act: "ask the running server",
                source,
            }),
            Self::Own(store) => {
                if let Some((aside, error)) = &store.damaged {
                    eprintln!("warning: {error}; it was moved to \"{}\"", aside.display());
                }
                let now = Clock::start().now();
                let all: Arc<dyn Store> = store.clone();
                let told = start::by_hand(config, &all, record_of(ask, LOCAL), now, || {
                    Ok(by_hand(&store, ask)?)
                })?;
                store.close();
                Ok(told)
            }
        }
    }
}

fn through(mut stream: UnixStream, ask: &Ask) -> std::io::Result<Told> {
    let mut line = serde_json::to_vec(ask)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

fn by_hand(store: &Opened, ask: &Ask) -> Result<Told, StoreError> {
    let now = Clock::start().now().unix();
    let find = |wanted: &DeviceId| -> Result<Option<DeviceRow>, StoreError> {
        Ok(store
            .devices()?
            .into_iter()
            .find(|row| row.device == *wanted))
    };
    if let Ask::Rollout(_) | Ask::Enrolment(_) | Ask::AccountFirst { .. } = ask {
        let what = "this is decided by a running server, and none answers".into();
        return Ok(Told::Failed { what });
    }
    if let Ask::Export { file } = ask {
        return Ok(export_to(store, file, now));
    }
    if let Some(refused) = ending::refused(store, ask)? {
        return Ok(refused);
    }
    if let Some(write) = write_of(ask, now) {
        if let Write::Revoke { device, .. } = &write
            && find(device)?.is_none()
        {
            return Ok(Told::Unknown);
        }
        let mut group = vec![write];
        group.extend(ending::record_of(ask, now).map(|record| Write::Records(vec![record])));
        let written = store.commit(&group)?.into_iter().next();
        return Ok(written.map_or(Told::Unknown, told));
    }
    if let Ask::Show { device } = ask {
        return find(device)?.map_or(Ok(Told::Unknown), |row| details(store, row));
    }
    let mut devices = store.devices()?;
    devices.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(Told::Devices { devices })
}

fn write_of(ask: &Ask, at: i64) -> Option<Write> {
    match ask {
        Ask::Enroll {
            device,
            certificate,
            not_after,
        } => Some(Write::Enroll {
            device: device.clone(),
            certificate: *certificate,
            not_after: *not_after,
            at,
        }),
        Ask::Revoke { device } | Ask::Decommission { device } => Some(Write::Revoke {
            device: device.clone(),
            at,
        }),
        Ask::Receipt { device, receipt } => Some(Write::Receipt {
            device: device.clone(),
            at,
            digest: Digest::of(receipt.as_bytes()),
            bytes: receipt.clone().into_bytes(),
        }),
        Ask::List
        | Ask::Show { .. }
        | Ask::Rollout(_)
        | Ask::Enrolment(_)
        | Ask::Export { .. }
        | Ask::AccountFirst { .. } => None,
    }
}

fn told(written: Written) -> Told {
    match written {
        Written::Done(row) | Written::Repeated(row) => Told::Device(Box::new(row)),
        Written::UnknownDevice
        | Written::Kept
        | Written::Recorded(_)
        | Written::Conflict { .. } => Told::Unknown,
    }
}

fn export_to(store: &dyn Store, file: &Path, now: i64) -> Told {
    let exported = transfer::create(file)
        .map_err(TransferError::from)
        .and_then(|file| transfer::export(store, file, now));
    exported.map_or_else(
        |error| Told::Failed {
            what: chain(&error, None).replace('\n', "; "),
        },
        Told::Exported,
    )
}

fn details(store: &dyn Store, row: DeviceRow) -> Result<Told, StoreError> {
    let (view, events) = (view_of(store, &row)?, store.events(&row)?);
    Ok(Told::Details(Box::new(Details { row, view, events })))
}

/// Whoever may open the server's own socket.
pub const LOCAL: &str = "local";

/// Does what `by` asks, and writes it down before and after, where it changes something.
pub async fn recorded(shared: &Shared, ask: &Ask, by: &str) -> Told {
    let Some(record) = record_of(ask, by) else {
        return unrecorded(shared, ask).await;
    };
    let is_done = |told: &Told| {
        !matches!(
            told,
            Told::Unknown | Told::Failed { .. } | Told::Unavailable { .. }
        )
    };
    let around = shared
        .audit
        .around(record, || shared.now(), unrecorded(shared, ask), is_done);
    around.await.unwrap_or_else(|error| Told::Unavailable {
        what: chain(&error, None).replace('\n', "; "),
    })
}

/// What the audit log says of a question that changes something.
fn record_of(ask: &Ask, by: &str) -> Option<Record> {
    match ask {
        Ask::Enroll {
            device,
            certificate,
            ..
        } => {
            let record = Record::new(audit::Act::Enroll, by).about("device", device);
            Some(record.digest(*certificate))
        }
        Ask::Revoke { device } => Some(Record::new(audit::Act::Revoke, by).about("device", device)),
        Ask::Decommission { device } => {
            Some(Record::new(audit::Act::Decommission, by).about("device", device))
        }
        Ask::Receipt { device, receipt } => {
            let record = Record::new(audit::Act::Receipt, by).about("device", device);
            Some(record.digest(Digest::of(receipt.as_bytes())))
        }
        Ask::Rollout(ask) => rollouts::record_of(ask, by),
        Ask::Enrolment(ask) => enrolment::record_of(ask, by),
        Ask::AccountFirst { account } => {
            let record = Record::new(audit::Act::AccountCreate, by).about("account", account);
            Some(record.with("roles", ["administrator"]))
        }
        Ask::List | Ask::Show { .. } | Ask::Export { .. } => None,
    }
}

async fn unrecorded(shared: &Shared, ask: &Ask) -> Told {
    if let Some(told) = ending::before(shared, ask).await {
        return told;
    }
    let done = match write_of(ask, shared.now().unix()) {
        Some(write) if ending::is_of_nobody(&shared.fleet, &write) => Ok(Told::Unknown),
        Some(write) => shared.writer.write(write).await.map(|written| {
            if let Written::Done(row) = &written {
                shared.rollouts.hear(Heard::Row(row.clone()));
            }
            told(written)
        }),
        None => match ask {
            Ask::Rollout(ask) => return rollouts::answer(shared, ask).await,
            Ask::Export { file } => {
                let (store, file) = (shared.store.clone(), file.clone());
                let now = shared.now().unix();
                let export = move || export_to(&*store, &file, now);
                let told = tokio::task::spawn_blocking(export).await;
                return told.unwrap_or_else(|error| Told::Failed {
                    what: error.to_string(),
                });
            }
            Ask::Enrolment(ask) => return enrolment::answer(shared, ask).await,
            Ask::AccountFirst { account } => return first::answer(shared, account).await,
            Ask::Show { device } => match shared.fleet.find(device) {
                Some(device) => details(&*shared.store, device.row()),
                None => Ok(Told::Unknown),
            },
            _ => Ok(Told::Devices {
                devices: shared.fleet.rows(),
            }),
        },
    };
    if let Ask::Revoke { device } | Ask::Decommission { device } = ask
        && let Err(problem) = est::revoked(shared, device).await
    {
        let what = format!(
            "revoked, but not on the revocation list: {}",
            problem.detail()
        );
        return Told::Failed { what };
    }
    done.unwrap_or_else(|error| failed(&error))
}

fn failed(error: &StoreError) -> Told {
    Told::Failed {
        what: chain(error, None).replace('\n', "; "),
    }
}
