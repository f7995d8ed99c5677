//! Sees devices and server at once, and says what must never be:
//!
//! - a device works on a release that the server did not offer to it;
//! - more devices of one ward are away at once than may be, or one leaves service when its permit
//!   is over;
//! - a floor falls; an image runs that nobody signed; an agent gives up;
//! - a receipt that was acknowledged is not in the store.

use ampoule_agent::machine::State;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::version::RollbackIndex;

use super::device::Device;
use super::server::{Known, Server, WARD_LEN};

/// Sentences that are kept.
const SINS_MAX: usize = 20;

/// See the module's head.
pub(super) struct Observer {
    seen: Vec<Seen>,
    /// What must never be, the first ones in words.
    pub(super) sins: Vec<String>,
    pub(super) sins_count: u64,
    pub(super) cuts: u64,
    pub(super) wakings: u64,
    /// Whether a ward has had its most devices away.
    pub(super) most_away: u32,
}

#[derive(Default, Clone)]
struct Seen {
    floor: RollbackIndex,
    is_away: bool,
    /// Until when that is allowed for.
    lease_until: i64,
    /// When each version was committed for the first time.
    committed_at: [Option<i64>; 5],
    acknowledged: Vec<Digest>,
}

impl Observer {
    pub(super) fn new(devices: u32) -> Self {
        Self {
            seen: vec![Seen::default(); devices as usize],
            sins: Vec::new(),
            sins_count: 0,
            cuts: 0,
            wakings: 0,
            most_away: 0,
        }
    }

    pub(super) fn sin(&mut self, what: String) {
        self.sins_count += 1;
        if self.sins.len() < SINS_MAX {
            self.sins.push(what);
        }
    }

    pub(super) fn acknowledged(&mut self, number: u32, body: &[u8]) {
        self.seen[number as usize]
            .acknowledged
            .push(Digest::of(body));
    }

    /// A device was awake.
    pub(super) fn look(
        &mut self,
        device: &Device,
        state: &State,
        is_away: bool,
        server: &Server,
        now: i64,
    ) {
        self.wakings += 1;
        let number = device.number as usize;
        let floor = state.facts.floor;
        if floor < self.seen[number].floor {
            self.sin(format!("the floor of {} falls to {floor}", device.id));
        }
        self.seen[number].floor = floor;
        let version = usize::try_from(floor.0).unwrap_or(usize::MAX);
        if let Some(at) = self.seen[number].committed_at.get_mut(version) {
            at.get_or_insert(now);
        }
        if let Some(plan) = state.phase.plan() {
            match server.offer(device.number, &plan.release.sha256) {
                Known::Away => {}
                Known::NoOffer => self.sin(format!(
                    "{} works on {}, which it was not offered",
                    device.id, plan.version
                )),
                Known::Offer { lease_until } => self.seen[number].lease_until = lease_until,
            }
        }
        if is_away && !self.seen[number].is_away {
            self.leaves(device, now);
        }
        self.seen[number].is_away = is_away;
    }

    fn leaves(&mut self, device: &Device, now: i64) {
        let number = device.number as usize;
        self.seen[number].is_away = true;
        if now >= self.seen[number].lease_until {
            self.sin(format!(
                "{} leaves service when its permit is over",
                device.id
            ));
        }
        let first = number - number % WARD_LEN as usize;
        let end = (first + WARD_LEN as usize).min(self.seen.len());
        let ward = &self.seen[first..end];
        let away = ward
            .iter()
            .filter(|seen| seen.is_away && now < seen.lease_until);
        let away = u32::try_from(away.count()).unwrap_or(u32::MAX);
        self.most_away = self.most_away.max(away);
        if away > 1 {
            let ward = number / WARD_LEN as usize;
            self.sin(format!("{away} devices of ward {ward} are away at once"));
        }
    }

    /// How long after `begun` each device had committed a version, in order.
    pub(super) fn committed_after(&self, version: u8, begun: i64) -> Vec<i64> {
        let at = |seen: &Seen| seen.committed_at[usize::from(version)];
        let mut secs: Vec<i64> = self
            .seen
            .iter()
            .filter_map(at)
            .map(|at| at - begun)
            .collect();
        secs.sort_unstable();
        secs
    }

    /// At the end: acknowledged receipts, and those of them that are not in the store.
    pub(super) fn audit(&mut self, devices: &[Device], server: &Server) -> (usize, usize) {
        let (mut acknowledged, mut missing) = (0, 0);
        for device in devices {
            let stored = server.receipts(&device.id);
            let wanted = &self.seen[device.number as usize].acknowledged;
            acknowledged += wanted.len();
            missing += wanted
                .iter()
                .filter(|digest| !stored.contains(digest))
                .count();
        }
        if missing > 0 {
            self.sin(format!(
                "{missing} acknowledged receipts are not in the store"
            ));
        }
        (acknowledged, missing)
    }
}
