//! The machine's phases, drawn from all transitions that were found, in `docs/MACHINE.md`.

use std::fmt::Write as _;

use ampoule_tests::page;

use super::Graph;

/// The page tells what was found.
pub(super) fn check(graph: &Graph) {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{} states, {} transitions, in these phases:\n",
        graph.nodes.len(),
        graph.edges.len()
    );
    text.push_str("```mermaid\nstateDiagram-v2\n    [*] --> idle\n");
    for ((from, to), events) in &graph.phases {
        let events: Vec<&str> = events.iter().copied().collect();
        let _ = writeln!(text, "    {from} --> {to}: {}", events.join(", "));
    }
    text.push_str("```\n");
    page::tells("MACHINE.md", "drawn", &text);
}
