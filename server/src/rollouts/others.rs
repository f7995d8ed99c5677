//! Several servers on one store: what the others did, and whose turn it is.
//!
//! ```text
//!   every second: news since the last mark -> followed (fleet, book, facts of devices)
//!   news to think about, or ten seconds passed -> the turn: news again, decide, write, give back
//! ```
//!
//! All servers are alike; none leads. What a server decided in memory and could not write is
//! forgotten: the book is read anew before anything else is done. A server that has not heard the
//! news for three seconds knows that it is behind, and serves nothing that others may have replaced.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ampoule_protocol::device::Inventory;
use tokio::task::spawn_blocking;

use super::load::{damaged, read_receipt};
use super::{Heard, Rollouts, decided};
use crate::fleet::Fleet;
use crate::rollout::{Change, Deployment};
use crate::store::{DeviceRow, Mark, News, Store, StoreError, Turn, Write, Written};

/// A server that heard nothing for longer is deaf.
const LAG_MAX: Duration = Duration::from_secs(3);
/// A clock that differs more from the database's makes the hold too short. Two servers are apart by
/// twice that, and as much again until it is noticed: [`super::assignments::APART_SECS`].
const SKEW_MAX_MILLIS: i64 = 500;

/// The right to decide, held.
pub(super) type Held = Box<dyn Turn>;

/// What is known of the others.
pub(super) struct Others {
    store: Arc<dyn Store>,
    fleet: Arc<Fleet>,
    known: Mutex<Known>,
    /// Something was decided that is perhaps not in the store.
    doubtful: AtomicBool,
}

struct Known {
    mark: Mark,
    /// When the news were heard last.
    at: Instant,
    /// Our clock minus the database's, milliseconds.
    skew_millis: i64,
}

/// Both clocks, read before something is asked.
#[derive(Clone, Copy)]
struct Before(Instant, i64);

impl Before {
    fn now() -> Self {
        Self(Instant::now(), millis())
    }
}

impl Known {
    /// The database read its clock between `before` and now.
    fn of(mark: Mark, before: Before) -> Self {
        let (earliest, latest) = (before.1, millis());
        let skew_millis = if mark.clock_millis < earliest {
            earliest - mark.clock_millis
        } else {
            (latest - mark.clock_millis).min(0)
        };
        Self {
            skew_millis,
            mark,
            at: before.0,
        }
    }
}

fn millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(i64::MAX)
}

/// Why a server serves nothing that others may have replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// It cannot hear them.
    Deaf,
    /// Its clock differs from the database's by so many milliseconds.
    Clock(i64),
}

impl std::fmt::Display for Behind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deaf => f.write_str(
                "the database does not answer, so devices are asked to come again: another server \
                 may know more",
            ),
            Self::Clock(millis) => write!(
                f,
                "the clock differs from the database's by {millis} ms, {SKEW_MAX_MILLIS} are \
                 allowed; devices are asked to come again"
            ),
        }
    }
}

/// News with what is in the store now.
enum Fact {
    Heard(Heard),
    Change(Change),
}

impl Rollouts {
    /// [`Self::load`], for a server among others where the store is shared.
    ///
    /// # Errors
    /// The store is damaged or cannot be read.
    pub fn among_others(
        store: &Arc<dyn Store>,
        fleet: &Arc<Fleet>,
        caps: Vec<crate::rollout::permits::Cap>,
    ) -> Result<Self, StoreError> {
        let before = Before::now();
        let (mut rollouts, mark) = Self::load_with_mark(&**store, caps, |row| {
            // The fleet was read before the mark.
            if store.is_shared() {
                fleet.follow(&Written::Done(row.clone()));
            }
        })?;
        if store.is_shared() {
            rollouts.others = Some(Others {
                store: store.clone(),
                fleet: fleet.clone(),
                known: Mutex::new(Known::of(mark, before)),
                doubtful: AtomicBool::new(false),
            });
        }
        Ok(rollouts)
    }

    /// Whether others may know what we do not.
    pub fn behind(&self) -> Option<Behind> {
        let others = self.others.as_ref()?;
        let known = others.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.skew_millis.abs() > SKEW_MAX_MILLIS {
            return Some(Behind::Clock(known.skew_millis));
        }
        (known.at.elapsed() > LAG_MAX).then_some(Behind::Deaf)
    }

    /// Hears what the others did.
    pub(super) async fn catch_up(&self) -> Result<(), StoreError> {
        let Some(others) = &self.others else {
            return Ok(());
        };
        if others.doubtful.load(Ordering::Relaxed) {
            self.read_anew(others).await?;
        }
        let (store, mark) = (others.store.clone(), others.mark());
        let before = Before::now();
        let heard = blocking(move || {
            let (news, mark) = store.news(Some(&mark))?;
            Ok((facts(&*store, &news)?, mark))
        });
        match heard.await {
            Ok((facts, mark)) => self.follow(others, facts, (mark, before)),
            // It was away for long, or too much happened.
            Err(StoreError::Forgotten) => self.read_anew(others).await?,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Waits for the turn, and hears everything that was decided before it.
    pub(super) async fn begin(&self) -> Result<Option<Held>, StoreError> {
        let Some(others) = &self.others else {
            return Ok(None);
        };
        self.catch_up().await?;
        let (store, mark) = (others.store.clone(), others.mark());
        let (turn, facts, mark, before) = blocking(move || {
            let Some(mut turn) = store.turn()? else {
                return Err(StoreError::Closed);
            };
            let before = Before::now();
            let (news, mark) = turn.news(Some(&mark))?;
            Ok((turn, facts(&*store, &news)?, mark, before))
        })
        .await?;
        self.follow(others, facts, (mark, before));
        Ok(Some(turn))
    }

    /// Writes what was decided, and gives the turn back.
    pub(super) async fn finish(&self, turn: Held, writes: Vec<Write>) -> Result<(), StoreError> {
        let Some(others) = &self.others else {
            return Ok(());
        };
        others.doubtful.store(true, Ordering::Relaxed);
        blocking(move || turn.finish(writes)).await?;
        others.doubtful.store(false, Ordering::Relaxed);
        Ok(())
    }

    async fn read_anew(&self, others: &Others) -> Result<(), StoreError> {
        let (store, fleet) = (others.store.clone(), others.fleet.clone());
        let caps = self.state().neighbours.caps().to_vec();
        let before = Before::now();
        let (anew, mark) = blocking(move || {
            let follow = |row: &DeviceRow| fleet.follow(&Written::Done(row.clone()));
            Self::load_with_mark(&*store, caps, follow)
        })
        .await?;
        *self.state() = anew
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        self.assigned.replace(anew.assigned);
        let unheard = anew.inbox.into_inner();
        for heard in unheard.unwrap_or_else(PoisonError::into_inner) {
            self.push(heard);
        }
        others.set((mark, before));
        others.doubtful.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn follow(&self, others: &Others, facts: Vec<Fact>, heard: (Mark, Before)) {
        let mut changes = Vec::new();
        for fact in facts {
            match fact {
                Fact::Heard(heard) => {
                    if let Heard::Row(row) = &heard {
                        others.fleet.follow(&Written::Done(row.clone()));
                        // Offers name the device, perhaps before our next look.
                        self.state().follow(row);
                    }
                    self.push(heard);
                }
                Fact::Change(change) => changes.push(change),
            }
        }
        let mut state = self.state();
        let decided = decided(&changes);
        for change in changes {
            state.book.follow(change);
        }
        let latest = decided.values().copied().max();
        state.published_at = state.published_at.max(latest.unwrap_or(i64::MIN));
        self.publish(&state, &decided);
        others.set(heard);
    }
}

impl Others {
    fn mark(&self) -> Mark {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.mark.clone()
    }

    fn set(&self, (mark, before): (Mark, Before)) {
        let known = Known::of(mark, before);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // It does not panic, and is not cancelled before it runs.
    spawn_blocking(work)
        .await
        .unwrap_or(Err(StoreError::Closed))
}

/// What the store holds of what changed. Rows of devices come first, then rollouts, then what is
/// about both.
fn facts(store: &dyn Store, news: &[News]) -> Result<Vec<Fact>, StoreError> {
    let of_device = |news: &News| match news {
        News::Device(number)
        | News::Inventory(number)
        | News::Tags(number)
        | News::Receipt(number, _) => Some(*number),
        News::Rollout(_) | News::Deployment(..) | News::Lock(_) => None,
    };
    let numbers: BTreeSet<u32> = news.iter().filter_map(of_device).collect();
    let numbers: Vec<u32> = numbers.into_iter().collect();
    let mut all = Vec::new();
    let rows = if numbers.is_empty() {
        Vec::new()
    } else {
        store.some_devices(&numbers)?
    };
    let rows: HashMap<u32, DeviceRow> = rows.into_iter().map(|row| (row.number, row)).collect();
    for row in numbers.iter().filter_map(|number| rows.get(number)) {
        all.push(Fact::Heard(Heard::Row(row.clone())));
    }
    rollouts(store, news, &mut all)?;
    locks(store, news, &mut all)?;
    of_devices(store, news, &rows, &mut all)?;
    Ok(all)
}

fn rollouts(store: &dyn Store, news: &[News], all: &mut Vec<Fact>) -> Result<(), StoreError> {
    let mut names = BTreeSet::new();
    let mut shares = BTreeSet::new();
    for news in news {
        match news {
            News::Rollout(name) => drop(names.insert(name.clone())),
            News::Deployment(name, device) => drop(shares.insert((name.clone(), *device))),
            _ => {}
        }
    }
    if !names.is_empty() {
        for bytes in store.rollouts()? {
            let rollout: crate::rollout::Rollout =
                serde_json::from_slice(&bytes).map_err(|error| damaged("a rollout", &error))?;
            if names.contains(&rollout.plan.name) {
                all.push(Fact::Change(Change::Rollout(Box::new(rollout))));
            }
        }
    }
    let shares: Vec<_> = shares.into_iter().collect();
    for ((rollout, device), bytes) in store.some_deployments(&shares)? {
        let row: Deployment =
            serde_json::from_slice(&bytes).map_err(|error| damaged("a deployment", &error))?;
        all.push(Fact::Change(Change::Deployment {
            rollout,
            device,
            row,
        }));
    }
    Ok(())
}

/// A device takes one when it restarts: there are few.
fn locks(store: &dyn Store, news: &[News], all: &mut Vec<Fact>) -> Result<(), StoreError> {
    let of = |news: &News| match news {
        News::Lock(device) => Some(*device),
        _ => None,
    };
    for device in news.iter().filter_map(of).collect::<BTreeSet<_>>() {
        let lock = super::locks::read_one(store, device)?;
        all.push(Fact::Change(Change::Lock { device, lock }));
    }
    Ok(())
}

/// What devices and operators said, each kind asked for at once.
fn of_devices(
    store: &dyn Store,
    news: &[News],
    rows: &HashMap<u32, DeviceRow>,
    all: &mut Vec<Fact>,
) -> Result<(), StoreError> {
    let (mut inventories, mut tags) = (BTreeSet::new(), BTreeSet::new());
    let mut receipts = BTreeSet::new();
    for news in news {
        match news {
            News::Inventory(number) => drop(inventories.insert(*number)),
            News::Tags(number) => drop(tags.insert(*number)),
            News::Receipt(number, seq) => drop(receipts.insert((*number, *seq))),
            News::Device(_) | News::Rollout(_) | News::Deployment(..) | News::Lock(_) => {}
        }
    }
    let known = |numbers: BTreeSet<u32>| -> Vec<&DeviceRow> {
        let found = numbers.iter().filter_map(|number| rows.get(number));
        found.collect()
    };
    for (number, bytes) in store.inventories(&known(inventories))? {
        if let Ok(inventory) = Inventory::parse(&bytes) {
            let heard = Heard::Inventory(number, Box::new(inventory));
            all.push(Fact::Heard(heard));
        }
    }
    for (number, bytes) in store.tags_of(&known(tags))? {
        let tags = serde_json::from_slice(&bytes);
        let tags = tags.map_err(|error| damaged("the tags of a device", &error))?;
        all.push(Fact::Heard(Heard::Tags(number, tags)));
    }
    let wanted: Vec<_> = receipts
        .iter()
        .filter_map(|(number, seq)| Some((rows.get(number)?, *seq)))
        .collect();
    let mut found = store.some_receipts(&wanted)?;
    // As they came: of one device the earlier first.
    found.sort_by_key(|(number, stored)| (*number, stored.seq));
    for (number, stored) in found {
        if let Some(receipt) = read_receipt(&stored.bytes) {
            let heard = Heard::Receipt(number, Box::new(receipt), Some(stored.at));
            all.push(Fact::Heard(heard));
        }
    }
    Ok(())
}
