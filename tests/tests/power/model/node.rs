//! A node: what the journal holds, what the process knows, and the world; and the moves from it.

use ampoule_agent::machine::{
    Action, Event, FILL_TRIES_MAX, Health, Party, Phase, Slot, State, step,
};
use ampoule_protocol::time::UtcTime;

use super::world::{ATTEMPTS, Content, NEWEST, World, fault, version_of};

const NOW: UtcTime = UtcTime::from_unix(1_900_000_000);

/// See the module's head.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) state: State,
    pub(super) world: World,
    /// Actions to perform, first first.
    actions: Vec<Action>,
    /// Whether this process read the slot back.
    has_proof: bool,
    /// Whether the last answer of the gates was yes.
    is_open: bool,
}

/// A node that follows, and by what.
pub(super) struct Move {
    pub(super) node: Node,
    pub(super) event: &'static str,
}

/// What an action comes to: the world after it, and the event it yields.
struct Outcome {
    world: World,
    event: Option<Event>,
    has_proof: bool,
}

impl Node {
    pub(super) fn factory() -> Self {
        Self {
            state: State::default(),
            world: World::factory(),
            actions: Vec::new(),
            has_proof: false,
            is_open: false,
        }
    }

    pub(super) fn phase(&self) -> &'static str {
        self.state.phase.as_str()
    }

    /// Equal keys, equal nodes.
    pub(super) fn key(&self) -> Vec<u8> {
        let mut key = serde_json::to_vec(&self.state).expect("plain data");
        let rest = (&self.world, &self.actions, self.has_proof, self.is_open);
        key.extend_from_slice(format!("{rest:?}").as_bytes());
        key
    }

    pub(super) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        match self.actions.first() {
            Some(action) => {
                for outcome in self.outcomes(*action) {
                    // The power may fail before the event is written down.
                    moves.extend(self.power_cut(&outcome.world));
                    moves.push(self.after(outcome));
                }
            }
            None => moves.extend(self.at_rest().into_iter().map(|event| self.told(event))),
        }
        moves.extend(self.power_cut(&self.world));
        // The agent alone dies, and is started again.
        moves.push(self.started(&self.world));
        if self
            .state
            .facts
            .refused
            .iter()
            .any(|refused| refused.until.is_some())
        {
            let mut node = self.clone();
            node.state
                .facts
                .refused
                .retain(|refused| refused.until.is_none());
            moves.push(Move {
                node,
                event: "a day",
            });
        }
        moves
    }

    /// What may happen while nothing is to do.
    fn at_rest(&self) -> Vec<Event> {
        match &self.state.phase {
            Phase::Idle => vec![Event::CheckDue],
            Phase::Waiting(_) => vec![Event::CheckDue, Event::Tick],
            Phase::Checking
            | Phase::Filling(_)
            | Phase::Verifying(_)
            | Phase::Staged(_)
            | Phase::Arming(_)
            | Phase::Activating(_)
            | Phase::Trial(_)
            | Phase::Committing(_)
            | Phase::Reverting(_) => vec![Event::Tick],
        }
    }

    fn power_cut(&self, world: &World) -> Vec<Move> {
        let boots = world.boots();
        boots.iter().map(|world| self.started(world)).collect()
    }

    /// A new process: nothing is known but the journal.
    fn started(&self, world: &World) -> Move {
        let process = Self {
            state: self.state.clone(),
            world: world.clone(),
            actions: Vec::new(),
            has_proof: false,
            is_open: false,
        };
        process.told(Event::Started(world.views()))
    }

    fn after(&self, outcome: Outcome) -> Move {
        let mut node = self.clone();
        node.actions.remove(0);
        node.world = outcome.world;
        node.has_proof = outcome.has_proof;
        match outcome.event {
            Some(event) => node.told(event),
            None => Move {
                node,
                event: "nothing",
            },
        }
    }

    /// The machine is told: state first, then actions.
    fn told(&self, event: Event) -> Move {
        let name = name_of(&event);
        let mut node = self.clone();
        node.is_open = matches!(event, Event::GatesOpen);
        if let Event::Verdict(Health::Bad(_)) = &event
            && let Some(plan) = self.state.phase.plan()
        {
            node.world.bad[usize::from(version_of(plan))] = true;
        }
        let (state, actions) = step(self.state.clone(), event, NOW);
        node.state = plain(state);
        node.actions.extend(actions);
        Move { node, event: name }
    }

    /// All that an action can come to.
    fn outcomes(&self, action: Action) -> Vec<Outcome> {
        let same = |event| self.outcome(self.world.clone(), event);
        let failed = |world: World| self.outcome(world, Some(Event::Failed(fault(Party::Device))));
        let plan = self.state.phase.plan();
        let slot = plan.map_or(Slot::A, |plan| plan.parts[0].slot);
        let version = plan.map(version_of);
        match action {
            Action::Check => self
                .checks()
                .into_iter()
                .map(|event| same(Some(event)))
                .collect(),
            Action::Fill => self.fills(slot, version),
            Action::Verify if self.world.content(slot) == version => vec![
                Outcome {
                    has_proof: true,
                    ..same(Some(Event::Verified))
                },
                failed(self.world.clone()),
            ],
            Action::Verify => vec![failed(self.world.clone())],
            Action::Prepare => vec![same(Some(Event::Prepared)), failed(self.world.clone())],
            Action::AskGates => vec![
                same(Some(Event::GatesOpen)),
                same(Some(Event::GatesClosed(Vec::new()))),
                same(Some(Event::Withdrawn(fault(Party::Repository)))),
            ],
            Action::Arm if !self.has_proof => {
                vec![same(Some(Event::Failed(fault(Party::Ourselves))))]
            }
            Action::Arm => self.writes(Event::Armed, |world| world.armed = Some((slot, ATTEMPTS))),
            Action::Restart => {
                let boots = self.world.boots().into_iter();
                // A restart that fails leaves everything as it is.
                let mut all: Vec<Outcome> = boots.map(Self::restarted).collect();
                all.push(same(None));
                all
            }
            Action::AskHealth => vec![
                same(Some(Event::Verdict(Health::Good))),
                same(Some(Event::Verdict(Health::Bad(fault(Party::Device))))),
                same(Some(Event::Verdict(Health::Undecided))),
            ],
            Action::Commit => self.writes(Event::Committed, |world| {
                world.default = slot;
                world.armed = None;
            }),
            Action::Disarm => {
                let mut after = self.world.clone();
                after.armed = None;
                let views = after.views();
                self.writes(Event::Disarmed(views), |world| world.armed = None)
            }
            Action::SendReports => vec![same(None)],
            // This device is one slot: it has no module, and nothing becomes visible at once.
            Action::Activate | Action::Cleanup => unreachable!("asked of a slot alone"),
        }
    }

    fn outcome(&self, world: World, event: Option<Event>) -> Outcome {
        let has_proof = self.has_proof;
        Outcome {
            world,
            event,
            has_proof,
        }
    }

    /// A restart is a power cut that is meant.
    fn restarted(world: World) -> Outcome {
        let event = Some(Event::Started(world.views()));
        Outcome {
            world,
            event,
            has_proof: false,
        }
    }

    /// A write of settings: done and told; done, and told to have failed; not done.
    fn writes(&self, event: Event, write: impl Fn(&mut World)) -> Vec<Outcome> {
        let failed = || Some(Event::Failed(fault(Party::Device)));
        let mut after = self.world.clone();
        write(&mut after);
        vec![
            self.outcome(after.clone(), Some(event)),
            self.outcome(after, failed()),
            self.outcome(self.world.clone(), failed()),
        ]
    }

    fn checks(&self) -> Vec<Event> {
        let runs = self.world.content(self.world.running).unwrap_or(0);
        let newer = runs + 1..=NEWEST;
        let offers = newer.map(|version| Event::Offered(Box::new(self.world.plan(version))));
        let failures = [Party::Network, Party::Repository, Party::Device];
        offers
            .chain([Event::NothingNew(Vec::new())])
            .chain(failures.map(|party| Event::Failed(fault(party))))
            .collect()
    }

    fn fills(&self, slot: Slot, version: Content) -> Vec<Outcome> {
        let filled = |content, event| {
            let mut world = self.world.clone();
            world.fill(slot, content);
            Outcome {
                world,
                event: Some(event),
                has_proof: false,
            }
        };
        let failures = [Party::Network, Party::Repository, Party::Device];
        let failures = failures.map(|party| filled(None, Event::Failed(fault(party))));
        let whole = filled(version, Event::Filled { fetched: 0 });
        // A medium that did not keep it.
        let torn = filled(None, Event::Filled { fetched: 0 });
        failures.into_iter().chain([whole, torn]).collect()
    }

    /// What is wrong with the move to `next`.
    pub(super) fn wrong(&self, next: &Self, event: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut expect = |holds: bool, what: &str| {
            if !holds {
                wrong.push(format!("{what}, after {event} in {self:?}"));
            }
        };
        let world = &next.world;
        for booted in world.boots() {
            let content = booted.content(booted.running);
            expect(content.is_some(), "a torn image boots");
        }
        let default = world.content(world.default);
        let floor = next.state.facts.floor.0;
        expect(
            default.is_some_and(|v| floor <= v.into()),
            "the floor is above the default",
        );
        expect(floor >= self.state.facts.floor.0, "the floor fell");
        expect(
            default.is_some_and(|v| !world.bad[usize::from(v)]),
            "a bad image is the default",
        );
        for refused in next
            .state
            .facts
            .refused
            .iter()
            .filter(|r| r.until.is_none())
        {
            let is_bad = (0..=NEWEST).any(|version| {
                world.bad[usize::from(version)] && world.plan(version).digest() == refused.digest
            });
            expect(is_bad, "a good image is refused for ever");
        }
        match next.actions.first() {
            Some(Action::Fill) => {
                let slot = next.state.phase.plan().map(|plan| plan.parts[0].slot);
                let is_armed = world.armed.is_some_and(|(armed, _)| Some(armed) == slot);
                let is_used = slot == Some(world.running) || slot == Some(world.default);
                expect(!is_used && !is_armed, "a slot in use is filled");
            }
            Some(Action::Restart) if matches!(next.state.phase, Phase::Arming(_)) => {
                expect(
                    next.is_open,
                    "it restarts, and no gate said yes just before",
                );
            }
            Some(Action::Arm) => expect(next.has_proof, "it arms what it did not read back"),
            _ => {}
        }
        let is_resting = matches!(next.state.phase, Phase::Idle | Phase::Waiting(_));
        expect(
            !is_resting || world.armed.is_none() || !next.actions.is_empty(),
            "it rests armed",
        );
        wrong
    }

    pub(super) fn is_at_rest(&self) -> bool {
        self.state.phase == Phase::Idle
            && self.actions.is_empty()
            && self.world.armed.is_none()
            && self.world.running == self.world.default
    }

    /// It runs the newest release that is not bad, by default.
    pub(super) fn is_up_to_date(&self) -> bool {
        let newest = (0..=NEWEST)
            .rev()
            .find(|version| !self.world.bad[usize::from(*version)]);
        let default = self.world.content(self.world.default);
        self.is_at_rest() && default == newest
    }
}

/// The state without what only grows, and without words for people.
fn plain(mut state: State) -> State {
    let facts = &mut state.facts;
    facts.inventory_seq = 0;
    facts.report_seq = 0;
    facts.failed_checks = 0;
    facts.last_fault = None;
    facts.outbox.clear();
    // What slots hold is remembered for people and as the base of patches; no step depends on it.
    facts.slots.clear();
    match &mut state.phase {
        Phase::Filling(filling) => {
            filling.pending.fetched = 0;
            // One network fault stands for as many as are allowed.
            filling.tries = if filling.tries > 0 { FILL_TRIES_MAX } else { 0 };
        }
        Phase::Trial(pending) | Phase::Committing(pending) => pending.boots = 1,
        Phase::Reverting(reverting) => {
            reverting.pending.boots = 0;
            reverting.pending.fetched = 0;
            reverting.pending.fills = 0;
            reverting.pending.attempts_left = None;
            reverting.fault = fault(Party::Device);
        }
        _ => {}
    }
    state
}

fn name_of(event: &Event) -> &'static str {
    match event {
        Event::Started(_) => "started",
        Event::CheckDue => "check due",
        Event::Tick => "tick",
        Event::Offered(_) => "offered",
        Event::NothingNew(_) => "nothing new",
        Event::Progress { .. } => "progress",
        Event::Filled { .. } => "filled",
        Event::Verified => "verified",
        Event::Prepared => "prepared",
        Event::GatesOpen => "gates open",
        Event::GatesClosed(_) => "gates closed",
        Event::Withdrawn(_) => "withdrawn",
        Event::Armed => "armed",
        Event::Activated { .. } => "activated",
        Event::Tracked(..) => "tracked",
        Event::Lost(..) => "lost",
        Event::StateOf(_) => "state of",
        Event::CleanedUp => "cleaned up",
        Event::Verdict(Health::Good) => "good",
        Event::Verdict(Health::Bad(_)) => "bad",
        Event::Verdict(Health::Undecided) => "undecided",
        Event::Committed => "committed",
        Event::Disarmed(_) => "disarmed",
        Event::Failed(_) => "failed",
        Event::Acknowledged(_) => "acknowledged",
        Event::PassedOver(_) => "passed over",
        Event::GatesAnswered(_) => "gates answered",
        Event::HealthAnswered(..) => "health answered",
    }
}
