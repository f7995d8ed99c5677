//! The agent's machine, exhaustively: every order of events, every outcome of every action, a cut
//! before and after each, until no new state turns up.
//!
//! The machine is the real one, `machine::step`. Around it stands [`world`]: boot loader, two slots,
//! gates, health and repository, each with all that they can answer. A node is what the journal
//! holds, what the process knows, and the world; counters that only grow and words for people are
//! left out of it ([`node::plain`]). In each node the invariants of the machine's header are
//! checked, and from each the device can come to rest, and to the newest release unless that is bad.
//!
//! Meant to catch: a floor that rises with the verdict and not with the commit; gates
//! not asked after arming; a restart that leads to Waiting with something armed; a fall-back that
//! refuses for ever; staging that survives a restart without reading the slot back.

mod drawing;
mod node;
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use node::{Move, Node};

/// More nodes than this mean that a counter came into them.
const NODES_MAX: usize = 400_000;

/// All that can be reached.
struct Graph {
    nodes: Vec<Node>,
    /// From, to.
    edges: Vec<(usize, usize)>,
    /// From phase to phase, by which events.
    phases: BTreeMap<(&'static str, &'static str), BTreeSet<&'static str>>,
    violations: Vec<String>,
}

fn explore() -> Graph {
    let mut graph = Graph {
        nodes: Vec::new(),
        edges: Vec::new(),
        phases: BTreeMap::new(),
        violations: Vec::new(),
    };
    let mut known: HashMap<Vec<u8>, usize> = HashMap::new();
    let first = Node::factory();
    known.insert(first.key(), 0);
    graph.nodes.push(first);
    let mut at = 0;
    while at < graph.nodes.len() {
        let node = graph.nodes[at].clone();
        for Move { node: next, event } in node.moves() {
            graph.violations.extend(node.wrong(&next, event));
            let (from, to) = (node.phase(), next.phase());
            if from != to {
                graph.phases.entry((from, to)).or_default().insert(event);
            }
            let id = *known.entry(next.key()).or_insert_with(|| {
                graph.nodes.push(next);
                graph.nodes.len() - 1
            });
            graph.edges.push((at, id));
        }
        at += 1;
        assert!(graph.nodes.len() < NODES_MAX, "the states are not bounded");
    }
    graph
}

impl Graph {
    /// The nodes from which none of these can be reached.
    fn stranded(&self, is_goal: impl Fn(&Node) -> bool) -> Vec<usize> {
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (from, to) in &self.edges {
            before[*to].push(*from);
        }
        let mut reaches = vec![false; self.nodes.len()];
        let mut waiting: Vec<usize> = (0..self.nodes.len())
            .filter(|id| is_goal(&self.nodes[*id]))
            .collect();
        while let Some(id) = waiting.pop() {
            if !std::mem::replace(&mut reaches[id], true) {
                waiting.extend(&before[id]);
            }
        }
        (0..self.nodes.len()).filter(|id| !reaches[*id]).collect()
    }
}

#[test]
fn every_state_of_the_machine() {
    let graph = explore();
    println!(
        "machine: {} states, {} transitions",
        graph.nodes.len(),
        graph.edges.len()
    );
    assert!(graph.nodes.len() > 500, "the world is too small");
    let shown = &graph.violations[..graph.violations.len().min(10)];
    assert!(shown.is_empty(), "{}", shown.join("\n"));
    let phases: BTreeSet<&str> = graph.nodes.iter().map(Node::phase).collect();
    assert_eq!(phases.len(), 10, "every phase is reached: {phases:?}");
    for (goal, stranded) in [
        ("rest", graph.stranded(Node::is_at_rest)),
        (
            "the newest release that is not bad",
            graph.stranded(Node::is_up_to_date),
        ),
    ] {
        let example = stranded.first().map(|id| &graph.nodes[*id]);
        assert!(
            stranded.is_empty(),
            "{} states cannot come to {goal}: {example:?}",
            stranded.len()
        );
    }
    drawing::check(&graph);
}
