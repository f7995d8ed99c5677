//! Visits the states that a story can come to by power cuts, and checks each.
//!
//! One recorded life yields, for each of its operations, the medium after a cut there in each
//! outcome. Media that hold the same are one state: what a device does next is a function of its
//! medium. Each state is looked at, lives on until it rests, and takes the next update. With
//! [`Effort::depth_states`] the recovery is recorded too, so that the cuts inside it, and inside
//! theirs, are visited; there two states are one that differ in counters alone (see [`essence`]).
//! Where no state is left to visit, the story holds for any number of cuts.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use serde_json::Value;

use super::cut::{Unsynced, mix};
use super::disk::SimDisk;
use super::life::World;
use super::medium::{Blob, Medium, Node};
use super::story::{Marks, Story};

/// How much is visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effort {
    /// States after more than one cut that are visited; 0 for none.
    pub depth_states: usize,
    /// Chooses them where there are more.
    pub seed: u64,
    /// Of how many states one takes the next update; 1 for all.
    pub next_every: u64,
    /// Whether to end at the first violation.
    pub ends_early: bool,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Operations of one life without a cut.
    pub operations: usize,
    /// Cuts: operations, each in each outcome.
    pub cuts: usize,
    /// Different media after them.
    pub states: usize,
    /// Cuts inside recoveries.
    pub deep_cuts: usize,
    /// Different media after those that were visited.
    pub deep_states: usize,
    /// Media after those that were not visited.
    pub left: usize,
    /// What was wrong, with the cut that led there.
    pub violations: Vec<String>,
}

/// A medium after a cut, not yet looked at.
struct State {
    medium: Medium,
    least: Marks,
    trail: String,
    is_deep: bool,
}

/// What the recorder collects.
#[derive(Default)]
struct Net {
    seen: HashSet<u64>,
    /// By an order that a seed makes.
    waiting: BTreeMap<(bool, u64, u64), State>,
    cuts: usize,
    deep_cuts: usize,
    seed: u64,
    /// Of the life that is recorded.
    trail: String,
    is_deep: bool,
    place: usize,
    least: Marks,
    lost: u64,
}

impl Net {
    fn begin(&mut self, trail: &str, is_deep: bool, least: &Marks) {
        trail.clone_into(&mut self.trail);
        self.is_deep = is_deep;
        self.place = 0;
        self.least.clone_from(least);
        self.lost = 0;
    }

    /// All outcomes of a cut before this operation.
    fn take(&mut self, medium: &Medium) {
        let lost = medium.after_cut(Unsynced::Lost);
        let fingerprint = lost.fingerprint();
        if fingerprint != self.lost {
            self.lost = fingerprint;
            self.least.raise(&Marks::of(&SimDisk::of(lost.clone())));
        }
        let outcomes = Unsynced::all(self.place);
        *(if self.is_deep {
            &mut self.deep_cuts
        } else {
            &mut self.cuts
        }) += outcomes.len();
        for unsynced in outcomes {
            if unsynced != Unsynced::Lost && medium.is_quiet() {
                continue;
            }
            self.offer(medium.after_cut(unsynced), unsynced);
        }
        self.place += 1;
    }

    fn offer(&mut self, medium: Medium, unsynced: Unsynced) {
        let fingerprint = if self.is_deep {
            essence(&medium)
        } else {
            medium.fingerprint()
        };
        if !self.seen.insert(fingerprint) {
            return;
        }
        let state = State {
            medium,
            least: self.least.clone(),
            trail: format!("{} > {} {unsynced:?}", self.trail, self.place),
            is_deep: self.is_deep,
        };
        let turn = (self.is_deep, mix(self.seed, fingerprint), fingerprint);
        self.waiting.insert(turn, state);
    }
}

/// Visits the states of a story.
pub fn explore(story: &Story, effort: Effort) -> Found {
    let mut found = Found::default();
    let net = Rc::new(RefCell::new(Net {
        seed: effort.seed,
        ..Net::default()
    }));
    let clean = story.start.fork();
    let (before, _) = clean.counts();
    net.borrow_mut().begin("", false, &Marks::of(&clean));
    let ended = story.rests_well(&clean, |disk| recorded(story, &story.world, disk, &net));
    found.operations = net.borrow().place.saturating_sub(1);
    debug_assert!(clean.counts().0 >= before);
    found.violations.extend(told("without a cut", ended));
    loop {
        let next = net.borrow_mut().waiting.pop_first();
        let Some((_, state)) = next else { break };
        if state.is_deep && found.deep_states >= effort.depth_states {
            found.left = 1 + net.borrow().waiting.len();
            break;
        }
        *(if state.is_deep {
            &mut found.deep_states
        } else {
            &mut found.states
        }) += 1;
        visit(story, &state, effort, &net, &mut found);
        if effort.ends_early && !found.violations.is_empty() {
            break;
        }
    }
    found.cuts = net.borrow().cuts;
    found.deep_cuts = net.borrow().deep_cuts;
    found
}

fn visit(story: &Story, state: &State, effort: Effort, net: &Rc<RefCell<Net>>, found: &mut Found) {
    let disk = SimDisk::of(state.medium.clone());
    let wrong = story.look(&disk, &state.least);
    found.violations.extend(told(&state.trail, wrong));
    let mut least = state.least.clone();
    least.raise(&Marks::of(&disk));
    let ended = story.rests_well(&disk, |disk| {
        if effort.depth_states == 0 {
            return (story.act)(disk, &story.after);
        }
        net.borrow_mut().begin(&state.trail, true, &least);
        recorded(story, &story.after, disk, net)
    });
    found.violations.extend(told(&state.trail, ended));
    if mix(effort.seed, state.medium.fingerprint()).is_multiple_of(effort.next_every) {
        let wrong = story.next_update_works(&disk);
        found.violations.extend(told(&state.trail, wrong));
    }
}

/// One life, recorded, to its end.
fn recorded(
    story: &Story,
    world: &World,
    disk: &SimDisk,
    net: &Rc<RefCell<Net>>,
) -> Result<(), ampoule_agent::driver::DriverError> {
    let recorder = net.clone();
    disk.record(Some(Rc::new(move |medium: &Medium| {
        recorder.borrow_mut().take(medium);
    })));
    let lived = (story.act)(disk, world);
    disk.record(None);
    net.borrow_mut().take(&disk.0.borrow());
    lived
}

fn told(trail: &str, wrong: Vec<String>) -> Vec<String> {
    let tell = |what| format!("{}: {what}", trail.trim_start_matches(" > "));
    wrong.into_iter().map(tell).collect()
}

/// What of a medium decides what comes next: all of it, but the counters of the journal (how many
/// steps, checks, receipts, bytes there were), the history for people, and files that were being
/// made, which whoever makes them empties first.
fn essence(medium: &Medium) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut journals = Vec::new();
    for (path, node) in medium.live.all() {
        let id = match node {
            Node::File(id) => id,
            Node::Folder(_) => {
                path.hash(&mut hasher);
                continue;
            }
            Node::Link(target) => {
                (&path, target).hash(&mut hasher);
                continue;
            }
        };
        let blob = &medium.inodes[*id].live;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match (&*name, &*extension) {
            // Being made: whoever makes it empties it first. For people: nothing reads it.
            (_, "new") | ("history", _) => {}
            // That it was set aside counts, and not what is in it.
            (_, "broken") => path.hash(&mut hasher),
            ("journal-0" | "journal-1", "json") => journals.push(journal_of(blob)),
            // Made of chance, and looked at after every cut: that they are there is what counts.
            ("device", "key" | "pem") => (&path, blob.bytes.len()).hash(&mut hasher),
            _ => (&path, blob.fingerprint()).hash(&mut hasher),
        }
    }
    for (_, essence) in &journals {
        essence.hash(&mut hasher);
    }
    let newest = journals.iter().max_by_key(|(number, _)| *number);
    journals
        .iter()
        .position(|one| Some(one) == newest)
        .hash(&mut hasher);
    hasher.finish()
}

/// A journal's number, and a fingerprint of the rest without counters.
fn journal_of(blob: &Blob) -> (u64, u64) {
    thread_local! { static KNOWN: RefCell<HashMap<u64, (u64, u64)>> = RefCell::default(); }
    let fingerprint = blob.fingerprint();
    let read = || {
        let body = blob.bytes.get(65..).unwrap_or_default();
        let Ok(mut entry) = serde_json::from_slice::<Value>(body) else {
            return (0, fingerprint);
        };
        let number = entry["seq"].as_u64().unwrap_or(0);
        entry["seq"] = Value::Null;
        forget_counters(&mut entry);
        let mut hasher = DefaultHasher::new();
        entry.to_string().hash(&mut hasher);
        (number, hasher.finish())
    };
    KNOWN.with_borrow_mut(|known| *known.entry(fingerprint).or_insert_with(read))
}

fn forget_counters(value: &mut Value) {
    const COUNTERS: [&str; 6] = [
        "inventory_seq",
        "report_seq",
        "seq",
        "fetched",
        "boots",
        "tries",
    ];
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if COUNTERS.contains(&name.as_str()) {
                    *member = Value::Null;
                } else {
                    forget_counters(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(forget_counters),
        _ => {}
    }
}
