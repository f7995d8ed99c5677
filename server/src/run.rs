//! The life of a server process: start, serve, drain, end.
//!
//! Everything that can be found wrong is found before the first connection is accepted. SIGTERM
//! and SIGINT drain: no new connections, open requests finish, waiting reports are written. SIGHUP
//! loads certificates again.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use ampoule_protocol::error::chain;
use ampoule_protocol::paths::{METADATA_DIR, TIMESTAMP_FILE};
use ampoule_protocol::time::UtcTime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin;
use crate::audit;
use crate::blob::S3;
use crate::blob::mirror::Mirror;
use crate::config::{Config, Engine};
use crate::descriptors;
use crate::director::Director;
use crate::door::{self, Door};
use crate::error::ServerError;
use crate::est::{self, Est};
use crate::fleet::Fleet;
use crate::keeper::{Keeper, TICK};
use crate::log::Log;
use crate::online::{self, Home, OnlineTimestamp};
use crate::published::Published;
use crate::rollout::Halt;
use crate::rollouts::Rollouts;
use crate::secrets::{self, Sealer};
use crate::serve::{self, Clock, Shared};
use crate::store::open::{Lost, Opened};
use crate::store::writer::{Writer, Writing};
use crate::store::{Store, StoreError};
use crate::strangers::Listening;
use crate::tls::{self, Look, TicketKeys, TlsState};

/// What the drain may take beyond the connections' own patience.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Finds what is wrong with the configuration and the files it names, without starting.
///
/// # Errors
/// The first file that cannot be used.
pub fn check(config: &Config) -> Result<(), ServerError> {
    TlsState::load(&config.devices, config.est.as_ref(), None)?;
    Est::load(config)?;
    if let Some(operators) = &config.operators {
        door::certificates(operators)?;
    }
    if let Some(timestamp) = &config.timestamp {
        online::check_key("timestamp key", &timestamp.key)?;
    }
    if let Some(director) = &config.director {
        online::check_key("director key", &director.key)?;
    }
    sealer(config)?;
    Ok(())
}

/// Tries out what a start would: whether the online keys are those that the published roots name,
/// and whether the tree is one. Nothing is written, and no database or bucket is asked.
///
/// # Errors
/// The first that does not hold.
pub fn try_out(config: &Config) -> Result<(), ServerError> {
    if let Some(director) = &config.director {
        Director::try_out(director)?;
    }
    if let (Some(timestamp), None) = (&config.timestamp, &config.blobs) {
        let home = Home::File(config.store.path.join(TIMESTAMP_FILE));
        let online = OnlineTimestamp::load(timestamp, &config.tree, home)?;
        online.try_out(Clock::start().now())?;
    }
    Ok(())
}

/// Serves until a signal ends it.
///
/// # Errors
/// The server could not start.
pub fn run(config: Config) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ServerError::System {
            act: "start a runtime",
            source,
        })?;
    runtime.block_on(life(config))
}

fn sealer(config: &Config) -> Result<Option<Arc<Sealer>>, ServerError> {
    Ok(Sealer::configured(config)?.map(Arc::new))
}

/// Keys that all servers of the fleet share. Without a key to seal them with, each server has ticket
/// keys of its own.
fn tickets(config: &Config, sealer: Option<&Sealer>) -> Option<Arc<TicketKeys>> {
    let is_shared = matches!(config.store.engine, Engine::Postgres(_));
    (is_shared && sealer.is_some()).then(Arc::<TicketKeys>::default)
}

async fn life(config: Config) -> Result<(), ServerError> {
    let sealer = sealer(&config)?;
    let tickets = tickets(&config, sealer.as_deref());
    let tls = tls::start(&config, tickets.clone())?;
    let operators_tls = config
        .operators
        .as_ref()
        .map(door::certificates)
        .transpose()?;
    let est = Est::load(&config)?;
    let log = Arc::new(Log::default());
    if let Err(error) = secrets::forbid_core_dumps() {
        log.warn(format_args!(
            "a crash may leave a core file with keys: {error}"
        ));
    }
    descriptors::make_room(config.limits.connections_max, &log);
    let (store, fleet, writer, writing) = open_store(&config, &log)?;
    let shared_store: Arc<dyn Store> = store.clone();
    let (audit, auditing) =
        audit::start::start(&config.audit, &shared_store, sealer.as_deref(), log.clone())?;
    audit
        .record(audit::start::started(), Clock::start().now())
        .await?;
    let caps = config
        .director
        .as_ref()
        .map(|director| director.caps.clone());
    let rollouts = Rollouts::among_others(&shared_store, &fleet, caps.unwrap_or_default())?;
    let rollouts = Arc::new(rollouts);
    rollouts.record_in(audit.clone());
    let clock = Clock::start();
    if let Some(lost) = store.lost {
        stop_what_may_be_halted(&store, lost, &rollouts, &writer, clock.now(), &log).await?;
    }
    let director = config.director.as_ref().map(Director::load).transpose()?;
    let online = open_online(&config, &store)?;
    let (drain, draining) = watch::channel(false);
    let (published, mirroring) = open_tree(&config, &log, &draining).await?;
    let shared = Arc::new(Shared {
        published,
        tls,
        tickets,
        operators_tls,
        fleet,
        store: store.clone(),
        writer,
        audit,
        rollouts,
        director,
        sealer,
        est,
        log: log.clone(),
        changing_from: AtomicI64::new(i64::MAX),
        metrics: Arc::default(),
        clock,
        config,
    });
    let mut keeper = Keeper::start(shared.clone(), online)?;
    let admin_socket = admin::listen(&shared.config.admin.socket)?;
    let admin = tokio::spawn(admin::serve(admin_socket, shared.clone(), draining.clone()));
    let deciding = tokio::spawn(decide(shared.clone(), draining.clone()));
    let mut signals = Signals::new()?;
    let enrolment = est::listen::start(&shared, &draining)?;
    let operators = match &shared.config.operators {
        Some(config) => Some(door::start(open_door(&shared)?, config, draining.clone())?),
        None => None,
    };
    let listening = serve::start(&shared, &draining)?;
    let address = |of: &Option<Listening>| of.as_ref().map(|listening| listening.address);
    announce(listening.address, address(&enrolment), address(&operators))?;

    wait_for_end(&mut keeper, &mut signals).await;
    log.note(format_args!("draining"));
    let _ = drain.send(true);
    let _ = admin.await;
    let _ = deciding.await;
    if let Some(mirroring) = mirroring {
        let _ = mirroring.await;
    }
    let _ = std::fs::remove_file(&shared.config.admin.socket);
    let patience = shared.config.limits.drain + END_PATIENCE;
    for (whose, listening) in [("strangers'", enrolment), ("operators'", operators)] {
        if let Some(listening) = listening
            && !listening.ended(patience).await
        {
            log.warn(format_args!("some {whose} connections did not end"));
            return Ok(());
        }
    }
    if !listening.ended(patience).await {
        // What they wait for is not acknowledged; their devices will send it again.
        log.warn(format_args!("some connections did not end"));
        return Ok(());
    }
    // The writer ends with the last of those who could still ask it to write.
    drop((keeper, shared));
    writing.join();
    auditing.join();
    store.close();
    log.note(format_args!("ended"));
    Ok(())
}

/// The online key, and what it signed last.
fn open_online(
    config: &Config,
    store: &Arc<Opened>,
) -> Result<Option<OnlineTimestamp>, ServerError> {
    let Some(timestamp) = &config.timestamp else {
        return Ok(None);
    };
    let home = if store.is_shared() {
        Home::Shared(store.clone())
    } else {
        Home::File(config.store.path.join(TIMESTAMP_FILE))
    };
    OnlineTimestamp::load(timestamp, &config.tree, home).map(Some)
}

/// The published tree; where it comes from a bucket it is brought here once before devices are met,
/// and then followed.
async fn open_tree(
    config: &Config,
    log: &Arc<Log>,
    draining: &watch::Receiver<bool>,
) -> Result<(Published, Option<JoinHandle<()>>), ServerError> {
    let folder = config.tree.path.clone();
    let Some(blobs) = &config.blobs else {
        return Ok((Published::new(folder), None));
    };
    let bucket = Arc::new(S3::new(&blobs.bucket)?);
    let mirror = Mirror::new(bucket.clone(), folder.clone());
    if let Err(error) = mirror.look().await {
        // What was brought before is as good as it was.
        if !folder.join(METADATA_DIR).join(TIMESTAMP_FILE).exists() {
            return Err(error);
        }
        let said = chain(&error, None).replace('\n', "; ");
        log.trouble("bucket", format_args!("the tree stays as it is: {said}"));
    }
    let following = mirror.follow(blobs.poll, log.clone(), draining.clone());
    let following = tokio::spawn(following);
    Ok((Published::with_targets(folder, bucket), Some(following)))
}

/// The end of the store that was lost may have held the word that halted a rollout; a person has
/// to look before any goes on.
async fn stop_what_may_be_halted(
    store: &Opened,
    lost: Lost,
    rollouts: &Rollouts,
    writer: &Writer,
    now: UtcTime,
    log: &Log,
) -> Result<(), ServerError> {
    let Lost {
        found,
        acknowledged,
    } = lost;
    let why = Halt::StoreLostItsEnd {
        found,
        acknowledged,
    };
    let halted = rollouts.halt_all(writer, &why, now).await?;
    store.settle()?;
    log.warn(format_args!(
        "{lost}; reports that were acknowledged last are missing, and {} rollouts were halted",
        halted.len()
    ));
    Ok(())
}

/// Looks at the rollouts once a second until `draining` says that it is enough.
async fn decide(shared: Arc<Shared>, mut draining: watch::Receiver<bool>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = draining.wait_for(|draining| *draining) => return,
            _ = ticks.tick() => {}
        }
        let done = shared.rollouts.tick(&shared.writer, shared.now()).await;
        match shared.rollouts.behind() {
            None => shared.log.over("behind"),
            Some(behind) => shared.log.trouble("behind", format_args!("{behind}")),
        }
        match done {
            Ok(_) => shared.log.over("rollouts"),
            Err(error) => shared
                .log
                .trouble("rollouts", format_args!("rollouts stand still: {error}")),
        }
    }
}

type Stored = (Arc<Opened>, Arc<Fleet>, Writer, Writing);

fn open_store(config: &Config, log: &Arc<Log>) -> Result<Stored, ServerError> {
    let probe = std::env::current_exe().ok();
    let store = Opened::open(&config.store, probe.as_deref()).map_err(|error| match error {
        StoreError::Busy(path) => ServerError::StoreBusy {
            path,
            socket: config.admin.socket.clone(),
        },
        other => ServerError::Store(other),
    })?;
    if let Some((aside, error)) = &store.damaged {
        log.warn(format_args!(
            "{error}; it was moved to \"{}\", and enrolments were restored",
            aside.display()
        ));
    }
    let store = Arc::new(store);
    let fleet = Arc::new(Fleet::new(store.devices()?));
    let (following, complaining) = (fleet.clone(), log.clone());
    let (writer, writing) = Writer::start(
        store.clone(),
        config.store.queue_len,
        config.store.group_len_max,
        move |written| following.follow(written),
        move |error| {
            complaining.warn(format_args!(
                "{}; what waited for it is not acknowledged",
                chain(error, None).replace('\n', "; ")
            ));
        },
    )
    .map_err(|source| ServerError::System {
        act: "start a thread",
        source,
    })?;
    Ok((store, fleet, writer, writing))
}

/// What the operators' door needs of a server.
fn open_door(shared: &Arc<Shared>) -> Result<Door, ServerError> {
    let accounts = admin::accounts(shared)
        .ok_or_else(|| ServerError::Refused("[operators] needs [secrets]".into()))?;
    Ok(Door {
        shared: shared.clone(),
        accounts,
    })
}

/// Scripts wait for "listening on", the last line, and read the ports from these.
fn announce(
    devices: SocketAddr,
    enrolment: Option<SocketAddr>,
    operators: Option<SocketAddr>,
) -> Result<(), ServerError> {
    let mut out = std::io::stdout().lock();
    let enrolment = enrolment.map(|address| format!("enrolling on {address}\n"));
    let operators = operators.map(|address| format!("operators on {address}\n"));
    let (enrolment, operators) = (enrolment.unwrap_or_default(), operators.unwrap_or_default());
    let text = format!("{enrolment}{operators}listening on {devices}\n");
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| ServerError::System {
            act: "write to standard output",
            source,
        })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> Result<Self, ServerError> {
        let listen = |kind| {
            signal(kind).map_err(|source| ServerError::System {
                act: "listen to signals",
                source,
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            reload: listen(SignalKind::hangup())?,
        })
    }
}

async fn wait_for_end(keeper: &mut Keeper, signals: &mut Signals) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.reload.recv() => keeper.look_at_certificates(Look::Always),
            _ = ticks.tick() => keeper.tick(),
        }
    }
}
