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

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ampoule_protocol::device::Inventory;
use tokio::task::spawn_blocking;

use super::load::{damaged, read_receipt};
use super::{Heard, Rollouts, offer_of};
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
        let (mut rollouts, mark) = Self::load_with_mark(&**store, caps)?;
        if store.is_shared() {
            // The fleet was read before the mark.
            for row in store.devices()? {
                fleet.follow(&Written::Done(row));
            }
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
        let (facts, mark) = blocking(move || {
            let (news, mark) = store.news(Some(&mark))?;
            Ok((facts(&*store, &news)?, mark))
        })
        .await?;
        self.follow(others, facts, (mark, before));
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
        let (store, caps) = (others.store.clone(), self.state().caps.clone());
        let before = Before::now();
        let (anew, mark) = blocking(move || Self::load_with_mark(&*store, caps)).await?;
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
        for fact in facts {
            match fact {
                Fact::Heard(heard) => {
                    if let Heard::Row(row) = &heard {
                        others.fleet.follow(&Written::Done(row.clone()));
                    }
                    self.push(heard);
                }
                Fact::Change(change) => self.follow_change(change),
            }
        }
        others.set(heard);
    }

    fn follow_change(&self, change: Change) {
        let mut state = self.state();
        let Change::Deployment { device, row, .. } = &change else {
            state.book.follow(change);
            return;
        };
        let (device, at) = (*device, row.changed_at());
        state.book.follow(change);
        state.published_at = state.published_at.max(at);
        let offer = offer_of(&state, device);
        self.assigned.set(device, offer, at);
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
        News::Rollout(_) | News::Deployment(..) => None,
    };
    let numbers: BTreeSet<u32> = news.iter().filter_map(of_device).collect();
    let numbers: Vec<u32> = numbers.into_iter().collect();
    let mut all = Vec::new();
    let rows = if numbers.is_empty() {
        Vec::new()
    } else {
        store.some_devices(&numbers)?
    };
    let row = |number: u32| rows.iter().find(|row| row.number == number);
    for row in &rows {
        all.push(Fact::Heard(Heard::Row(row.clone())));
    }
    rollouts(store, news, &mut all)?;
    let news: BTreeSet<&News> = news.iter().collect();
    for news in news {
        if let Some(row) = of_device(news).and_then(row) {
            all.extend(of(store, news, row)?);
        }
    }
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

fn of(store: &dyn Store, news: &News, row: &DeviceRow) -> Result<Option<Fact>, StoreError> {
    let heard = match news {
        News::Inventory(number) => {
            let inventory = store.inventory(row)?;
            let inventory = inventory.and_then(|bytes| Inventory::parse(&bytes).ok());
            inventory.map(|inventory| Heard::Inventory(*number, Box::new(inventory)))
        }
        News::Tags(number) => {
            let tags = store.tags(row)?.unwrap_or_else(|| b"{}".to_vec());
            let tags = serde_json::from_slice(&tags);
            let tags = tags.map_err(|error| damaged("the tags of a device", &error))?;
            Some(Heard::Tags(*number, tags))
        }
        News::Receipt(number, seq) => {
            let receipts = store.receipts(row)?;
            let receipt = receipts.into_iter().find(|receipt| receipt.seq == *seq);
            receipt.and_then(|stored| {
                let receipt = Box::new(read_receipt(&stored.bytes)?);
                Some(Heard::Receipt(*number, receipt, Some(stored.at)))
            })
        }
        News::Device(_) | News::Rollout(_) | News::Deployment(..) => None,
    };
    Ok(heard.map(Fact::Heard))
}
