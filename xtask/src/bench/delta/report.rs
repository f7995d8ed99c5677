//! What a run says: a line per row while it runs, tables and sums at its end.

use std::fmt::Write as _;
use std::process::Command;

use super::Pair;
use super::budget;
use super::measured::{Cost, Ended, Figures, Row};
use super::peers::PEERS;
use crate::shell::{self, Outcome};
use crate::table::Table;

/// A row as it comes.
pub(super) fn line(row: &Row) -> String {
    let name = row.peer.name;
    match &row.ended {
        Ended::Done(figures) => {
            let Figures { patch, make, apply } = figures;
            format!(
                "  {name:<13} {patch:>10} bytes; make {}; apply {}",
                cost(make),
                cost(apply)
            )
        }
        Ended::LeftOut(why) => format!("  {name:<13} left out: {why}"),
        Ended::Failed(why) => format!("  {name:<13} FAILED: {why}"),
    }
}

fn cost(cost: &Cost) -> String {
    format!(
        "{:.2} s cpu, {:.2} s wall, {} MiB",
        cost.cpu,
        cost.wall,
        cost.peak_kib >> 10
    )
}

/// When and where a run was made, since seconds mean nothing without it.
pub(super) fn machine() -> Outcome<String> {
    let date = shell::read(Command::new("date").args(["-u", "+%Y-%m-%d"]))?;
    let told = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = told
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("an unknown processor", |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(format!(
        "Measured on {} on {cores} cores of {model}.",
        date.trim()
    ))
}

/// The tables, the sums and the budgets, as Markdown.
pub(super) fn text(pairs: &[Pair], rows: &[Row]) -> String {
    let mut text = String::new();
    let one = |figure: f64| format!("{figure:.2}");
    let mib = |kib: u64| (kib >> 10).to_string();
    let mut add = |title: &str, of: &dyn Fn(&Figures) -> String| {
        let _ = writeln!(text, "\n### {title}\n\n{}", table(pairs, rows, of));
    };
    add("Patch, bytes", &|figures| figures.patch.to_string());
    add("Make, CPU s", &|figures| one(figures.make.cpu));
    add("Make, wall s", &|figures| one(figures.make.wall));
    add("Make, peak MiB", &|figures| mib(figures.make.peak_kib));
    add("Apply, CPU s", &|figures| one(figures.apply.cpu));
    add("Apply, wall s", &|figures| one(figures.apply.wall));
    add("Apply, peak MiB", &|figures| mib(figures.apply.peak_kib));
    let _ = writeln!(
        text,
        "\n### Beside the best peer of each pair\n\n{}",
        ratios(pairs, rows)
    );
    let _ = writeln!(
        text,
        "\n### Budgets\n\n{}",
        budget::table(pairs, rows).to_markdown()
    );
    let _ = writeln!(text, "\n{}", legend(rows));
    text
}

fn table(pairs: &[Pair], rows: &[Row], of: &dyn Fn(&Figures) -> String) -> String {
    let mut head = vec!["pair"];
    let peers: Vec<_> = PEERS
        .iter()
        .filter(|peer| {
            rows.iter()
                .any(|row| row.peer.name == peer.name && row.figures().is_some())
        })
        .collect();
    head.extend(peers.iter().map(|peer| peer.name));
    let mut table = Table::new(&head);
    for pair in pairs {
        let mut cells = vec![pair.name.clone()];
        cells.extend(peers.iter().map(|peer| {
            let row = rows
                .iter()
                .find(|row| row.pair == pair.name && row.peer.name == peer.name);
            row.and_then(Row::figures)
                .map_or_else(|| "-".to_owned(), of)
        }));
        table.row(cells);
    }
    table.to_markdown()
}

/// Ours against the smallest peer's patch of a pair.
pub(super) struct Beside {
    pub(super) pair: String,
    pub(super) ours: u64,
    pub(super) best: u64,
    pub(super) best_peer: &'static str,
}

impl Beside {
    #[allow(
        clippy::cast_precision_loss,
        reason = "lengths of patches are far below 2^52"
    )]
    pub(super) fn ratio(&self) -> f64 {
        self.ours as f64 / self.best as f64
    }
}

/// The pairs that both ours and a peer have a patch of.
pub(super) fn beside(pairs: &[Pair], rows: &[Row]) -> Vec<Beside> {
    let smallest = |pair: &Pair, ours: bool| {
        let found = rows
            .iter()
            .filter(|row| row.pair == pair.name && row.peer.ours == ours);
        found
            .filter_map(|row| Some((row.figures()?.patch, row.peer.name)))
            .min()
    };
    let found = pairs.iter().filter_map(|pair| {
        let (ours, _) = smallest(pair, true)?;
        let (best, best_peer) = smallest(pair, false)?;
        let pair = pair.name.clone();
        Some(Beside {
            pair,
            ours,
            best,
            best_peer,
        })
    });
    found.collect()
}

fn ratios(pairs: &[Pair], rows: &[Row]) -> String {
    let mut table = Table::new(&["pair", "ours", "best peer", "ratio", "which peer"]);
    let found = beside(pairs, rows);
    for one in &found {
        table.row([
            one.pair.clone(),
            one.ours.to_string(),
            one.best.to_string(),
            format!("{:.3}", one.ratio()),
            one.best_peer.to_owned(),
        ]);
    }
    let plain: Vec<&Beside> = found
        .iter()
        .filter(|one| !budget::is_compressed_inside(&one.pair))
        .collect();
    let sums = [
        ("all", found.iter().collect()),
        ("all but those compressed inside", plain),
    ];
    for (name, of) in sums {
        let Some(total) = Total::of(&of) else {
            continue;
        };
        table.row([
            format!("total of {name} ({})", of.len()),
            total.ours.to_string(),
            total.best.to_string(),
            format!("{:.3}", total.ratio),
            format!("geometric mean {:.3}", total.mean),
        ]);
    }
    table.to_markdown()
}

/// Sums over pairs.
pub(super) struct Total {
    pub(super) ours: u64,
    pub(super) best: u64,
    pub(super) ratio: f64,
    /// The geometric mean of the pairs' ratios.
    pub(super) mean: f64,
}

impl Total {
    #[allow(
        clippy::cast_precision_loss,
        reason = "lengths of patches are far below 2^52"
    )]
    pub(super) fn of(found: &[&Beside]) -> Option<Self> {
        let ours = found.iter().map(|one| one.ours).sum::<u64>();
        let best = found.iter().map(|one| one.best).sum::<u64>();
        let logs = found.iter().map(|one| one.ratio().ln()).sum::<f64>();
        (best > 0).then(|| Self {
            ours,
            best,
            ratio: ours as f64 / best as f64,
            mean: (logs / found.len() as f64).exp(),
        })
    }
}

fn legend(rows: &[Row]) -> String {
    let mut text = String::new();
    for peer in &PEERS {
        if rows.iter().any(|row| row.peer.name == peer.name) {
            let _ = writeln!(text, "- {}: {}", peer.name, peer.what);
        }
    }
    for row in rows {
        match &row.ended {
            Ended::Done(_) => {}
            Ended::LeftOut(why) => {
                let _ = writeln!(text, "- left out: {} on {}: {why}", row.peer.name, row.pair);
            }
            Ended::Failed(why) => {
                let _ = writeln!(text, "- FAILED: {} on {}: {why}", row.peer.name, row.pair);
            }
        }
    }
    text.push_str("- a ratio is against the best of the peers that ran; peak memory of hdiffpatch and detools holds Python too\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_geometric_and_the_ratio_is_of_sums() {
        let one = |ours, best| Beside {
            pair: String::new(),
            ours,
            best,
            best_peer: "x",
        };
        let (a, b) = (one(1, 4), one(100, 100));
        let total = Total::of(&[&a, &b]).expect("there are two");
        assert!((total.mean - 0.5).abs() < 1e-9);
        assert!((total.ratio - 101.0 / 104.0).abs() < 1e-9);
        assert!(Total::of(&[]).is_none());
    }
}
