//! What the next look has to think about: who changed, and who waits for what.
//!
//! ```text
//!   a device, its offer, its lock changed --+
//!   a time came (silence, a lease, a day) --+-> touched --> seated: which rollout may ask it, in which
//!   a rollout makes offers, or no more    --+               place; the permits that it holds; when to
//!                                                           look at it again by time alone
//! ```
//!
//! A fleet of ten million cannot be gone through each second. What a look needs is therefore kept, and
//! each device is looked at anew when something happened that can change the answer. Nothing of this
//! is stored: it follows from book, devices, caps and time, and [`Agenda::of`] makes it anew.
//!
//! Whoever a cap stands in the way of is set aside until somebody of that ward gives a permit back:
//! within one look permits are only taken, so asking before that would be in vain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ampoule_protocol::time::UtcTime;

use super::book::{Book, Rollout};
use super::facts::{DeviceFacts, Tags};
use super::line::Entry;
use super::objection::{Objection, object};
use super::permits::{Cap, Group, Permits};
use super::plan::RolloutId;
use super::turn::{Kind, Lane, LaneId, Turn, chosen, place};

/// Devices that a look of a server thinks about, and offers that it makes. What is left is the next
/// look's: whoever asks for a lock is not kept waiting, and what is decided is durable before anybody
/// counts on it ([`crate::rollouts`]).
pub const SLICE: usize = 20_000;

/// See the module's head. It belongs to one book and one fleet, and is told of each device that changes
/// ([`Self::touch`]); the book tells by itself.
#[derive(Debug)]
pub struct Agenda {
    /// Devices that one decision thinks about, and offers that it tries.
    pub(super) slice: usize,
    /// When it was last followed up to.
    now: UtcTime,
    seats: Vec<Seat>,
    touched: Touched,
    /// When to look at a device again though nothing is said of it.
    due: BTreeSet<(i64, u32)>,
    lanes: BTreeMap<LaneId, Lane>,
    lane_ids: BTreeMap<RolloutId, LaneId>,
    next_lane: LaneId,
    permits: Permits,
    /// For each cap, by the value of its tag: whom it stands in the way of.
    aside: Vec<HashMap<String, BTreeSet<u32>>>,
    /// Offers are left to make, or to take back.
    pub(super) has_more: bool,
}

/// What is kept of a device.
#[derive(Debug, Clone, Default)]
struct Seat {
    waits: Option<(LaneId, Kind, u64)>,
    /// The cap that stands in its way, and the tags by which that was found.
    aside: Option<(usize, Arc<Tags>)>,
    due: Option<i64>,
}

/// Devices that something happened to; each once.
#[derive(Debug, Default)]
struct Touched {
    list: Vec<u32>,
    has: Vec<bool>,
}

impl Touched {
    fn add(&mut self, device: u32) {
        let index = device as usize;
        if self.has.len() <= index {
            self.has.resize(index + 1, false);
        }
        if !std::mem::replace(&mut self.has[index], true) {
            self.list.push(device);
        }
    }

    fn pop(&mut self) -> Option<u32> {
        let device = self.list.pop()?;
        self.has[device as usize] = false;
        Some(device)
    }
}

impl Agenda {
    /// Of a fleet that nothing is known of yet. A decision thinks about at most `slice` devices, and
    /// leaves the rest to the next one ([`Self::is_behind`]): nobody waits for long.
    pub fn new(caps: Vec<Cap>, slice: usize) -> Self {
        Self {
            slice,
            now: UtcTime::from_unix(i64::MIN),
            seats: Vec::new(),
            touched: Touched::default(),
            due: BTreeSet::new(),
            lanes: BTreeMap::new(),
            lane_ids: BTreeMap::new(),
            next_lane: 0,
            aside: caps.iter().map(|_| HashMap::new()).collect(),
            permits: Permits::new(caps),
            has_more: false,
        }
    }

    /// Of this book and these devices at `now`.
    pub fn of(book: &Book, devices: &[DeviceFacts], caps: &[Cap], now: UtcTime) -> Self {
        let mut this = Self::new(caps.into(), usize::MAX);
        this.notice(book, devices, now);
        this.seat_some(book, devices);
        this
    }

    /// Something about this device changed: its standing, what it runs, its tags, when it was seen.
    pub fn touch(&mut self, device: u32) {
        self.touched.add(device);
    }

    /// Whether something is left for the next decision to do at once.
    pub fn is_behind(&self) -> bool {
        let is_due = self.due.first().is_some_and(|due| due.0 <= self.now.unix());
        self.has_more || is_due || !self.touched.list.is_empty()
    }

    /// Takes in what happened up to `now`, or up to where it is if that is later, and decides nothing:
    /// a slice of it, and whether that was all.
    pub fn follow(&mut self, book: &mut Book, devices: &[DeviceFacts], now: UtcTime) -> bool {
        self.gather(book, devices, now.max(self.now));
        self.seat_some(book, devices);
        self.touched.list.is_empty()
    }

    /// Up to when it knows what happened.
    pub fn now(&self) -> UtcTime {
        self.now
    }

    /// Who may be out of service.
    pub(super) fn permits(&self) -> &Permits {
        &self.permits
    }

    /// Whom a rollout may ask; nothing where it asks nobody now.
    pub(super) fn lane(&self, rollout: &RolloutId) -> Option<&Lane> {
        self.lanes.get(self.lane_ids.get(rollout)?)
    }

    /// Learns of what happened, without thinking about it.
    pub(super) fn gather(&mut self, book: &mut Book, devices: &[DeviceFacts], now: UtcTime) {
        for device in book.take_touched() {
            self.touched.add(device);
        }
        self.notice(book, devices, now);
    }

    fn notice(&mut self, book: &Book, devices: &[DeviceFacts], now: UtcTime) {
        let known = self.seats.len();
        let mut everyone = known == 0 || now < self.now;
        self.now = now;
        while let Some((_, device)) = self.due.first().filter(|due| due.0 <= now.unix()).copied() {
            self.set_due(device, None);
            self.touched.add(device);
        }
        everyone |= self.open_lanes(book);
        let from = if everyone { 0 } else { known };
        (from..devices.len()).for_each(|number| self.touched.add(number_of(number)));
        self.seats
            .resize_with(devices.len().max(known), Seat::default);
        if everyone {
            book.with_offers()
                .for_each(|device| self.touched.add(device));
        }
    }

    /// One lane for each rollout that makes offers; whether there is a new one, which each device may
    /// be asked by.
    fn open_lanes(&mut self, book: &Book) -> bool {
        let now = self.now;
        let offers = |name: &RolloutId| book.rollout(name).is_some_and(|found| found.offers(now));
        let over: Vec<_> = self
            .lane_ids
            .extract_if(.., |name, _| !offers(name))
            .collect();
        for (_, id) in over {
            let lane = self.lanes.remove(&id).unwrap_or_default();
            lane.devices().for_each(|device| self.touched.add(device));
        }
        let mut has_new = false;
        for rollout in book.rollouts().filter(|rollout| rollout.offers(now)) {
            if !self.lane_ids.contains_key(&rollout.plan.name) {
                let id = self.next_lane;
                self.next_lane += 1;
                self.lane_ids.insert(rollout.plan.name.clone(), id);
                self.lanes.insert(id, Lane::default());
                has_new = true;
            }
        }
        has_new
    }

    /// Devices that the next decision thinks about.
    pub(super) fn next(&self) -> Vec<u32> {
        let list = &self.touched.list;
        list[list.len().saturating_sub(self.slice)..].to_vec()
    }

    /// Thinks about devices that something happened to, not more than a slice of them.
    pub(super) fn seat_some(&mut self, book: &Book, devices: &[DeviceFacts]) {
        let running: Vec<(LaneId, &Rollout)> = self
            .lane_ids
            .iter()
            .filter_map(|(name, id)| Some((*id, book.rollout(name)?)))
            .collect();
        let timed = book.rollouts().any(|rollout| {
            let counts = rollout.offers(self.now) || rollout.tally().open > 0;
            counts && rollout.plan.filter.is_timed()
        });
        for _ in 0..self.slice {
            let Some(device) = self.touched.pop() else {
                return;
            };
            self.leave(device);
            match devices.get(device as usize) {
                Some(facts) => self.seat(book, &running, facts, timed),
                // It has an offer, and its row was not heard of.
                None => self.set_due(device, book.next_moment_of(device, self.now)),
            }
        }
    }

    fn seat(
        &mut self,
        book: &Book,
        running: &[(LaneId, &Rollout)],
        device: &DeviceFacts,
        timed: bool,
    ) {
        let (number, now) = (device.number, self.now);
        for group in self.permits.update(device, book.holds_permit(number, now)) {
            self.let_try(&group);
        }
        let turn = book.is_free(number).then(|| chosen(running, device, now));
        if let Some((lane, rollout)) = turn.flatten() {
            let (kind, rank) = place(rollout, device);
            self.seats[number as usize].waits = Some((lane, kind, rank));
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.line(kind).join((rank, number));
            }
        }
        let moments = book.next_moment_of(number, now).into_iter();
        let days = timed.then(|| device.next_day(now));
        let at_once = runs_what_it_is_offered(book, device, now).then_some(now.unix());
        self.set_due(number, moments.chain(days).chain(at_once).min());
    }

    fn set_due(&mut self, device: u32, due: Option<i64>) {
        let index = device as usize;
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, Seat::default);
        }
        let old = std::mem::replace(&mut self.seats[index].due, due);
        if let Some(old) = old {
            self.due.remove(&(old, device));
        }
        if let Some(due) = due {
            self.due.insert((due, device));
        }
    }

    /// Takes a device out of whatever it waits in.
    pub(super) fn leave(&mut self, device: u32) {
        let Some(seat) = self.seats.get_mut(device as usize) else {
            return;
        };
        if let Some((cap, tags)) = seat.aside.take() {
            let of_cap = &self.permits.caps()[cap].tag;
            let group = tags
                .get(of_cap)
                .and_then(|value| self.aside[cap].get_mut(value));
            if let Some(group) = group {
                group.remove(&device);
                if group.is_empty() {
                    self.aside[cap].remove(&tags[of_cap]);
                }
            }
        }
        if let Some((lane, kind, rank)) = seat.waits.take()
            && let Some(lane) = self.lanes.get_mut(&lane)
        {
            lane.line(kind).leave((rank, device));
        }
    }

    /// Takes the permits for an offer, or sets the device aside.
    pub(super) fn take_permit(&mut self, device: &DeviceFacts) -> bool {
        let number = device.number;
        let Err(cap) = self.permits.take(device) else {
            self.leave(number);
            return true;
        };
        let seat = &mut self.seats[number as usize];
        seat.aside = Some((cap, device.tags.clone()));
        if let Some(value) = device.tag(&self.permits.caps()[cap].tag) {
            let group = self.aside[cap].entry(value.to_owned()).or_default();
            group.insert(number);
        }
        self.let_go_on(number, false);
        false
    }

    /// Somebody of this group gave a permit back.
    fn let_try(&mut self, (cap, value): &Group) {
        let waiting = self.aside[*cap].remove(value).unwrap_or_default();
        for device in waiting {
            self.seats[device as usize].aside = None;
            self.let_go_on(device, true);
        }
    }

    fn let_go_on(&mut self, device: u32, may: bool) {
        if let Some((lane, kind, rank)) = self.seats[device as usize].waits
            && let Some(lane) = self.lanes.get_mut(&lane)
        {
            lane.line(kind).may_try((rank, device), may);
        }
    }

    /// Whom to ask now, in the order in which they take permits: the higher priority first, and
    /// after all rollouts those who did not take an offer, whoever waits longest first. A device that is
    /// dead would else hold the one permit of its ward for ever, offer after offer, and its neighbours
    /// would wait. Of each rollout, how many it would ask that are not of the latter.
    pub(super) fn in_turn(&mut self, book: &Book) -> (Vec<Turn>, BTreeMap<RolloutId, usize>) {
        let of = |(name, id): (&RolloutId, &LaneId)| Some((book.rollout(name)?, *id));
        let mut order: Vec<(&Rollout, LaneId)> = self.lane_ids.iter().filter_map(of).collect();
        order.sort_by_key(|(rollout, _)| std::cmp::Reverse(rollout.plan.priority));
        let turn = |name: &RolloutId, entry: Entry, in_vain| Turn {
            rollout: name.clone(),
            device: entry.1,
            in_vain,
        };
        let (mut turns, mut wanted) = (Vec::new(), BTreeMap::new());
        let mut last = Vec::new();
        for (rollout, id) in order {
            let lane = &self.lanes[&id];
            let (room, name) = (lane.room(rollout), &rollout.plan.name);
            wanted.insert(name.clone(), lane.again.len() + room);
            let mine = lane.again.untried(usize::MAX).chain(lane.new.untried(room));
            let mine = mine.take(self.slice.saturating_sub(turns.len()));
            turns.extend(mine.map(|entry| turn(name, entry, false)));
            let late = lane.unclaimed.untried(usize::MAX);
            let late = late.take(self.slice.saturating_add(1));
            last.extend(late.map(|entry| (entry, name)));
        }
        last.sort_by_key(|(entry, _): &(Entry, _)| *entry);
        let room = self.slice.saturating_sub(turns.len());
        self.has_more = room == 0 || room < last.len();
        let last = last.into_iter().take(room);
        turns.extend(last.map(|(entry, name)| turn(name, entry, true)));
        (turns, wanted)
    }
}

/// The next look settles that.
pub(super) fn runs_what_it_is_offered(book: &Book, device: &DeviceFacts, now: UtcTime) -> bool {
    let offer = book.offer(device.number);
    offer.is_some_and(|(rollout, _)| object(rollout, device, now) == Err(Objection::Runs))
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
