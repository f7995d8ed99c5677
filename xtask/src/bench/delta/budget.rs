//! What was promised of the engine, and whether this run kept it.
//!
//! The names are those of the open corpus that docs/DELTA-FRIENDLY.md tells how to build; a budget
//! whose pair or peer was not measured is not judged.

use super::Pair;
use super::measured::{Figures, Row};
use super::report::{Beside, Total, beside};
use crate::table::Table;

const MCU: &str = "mcu-hub-stm32f4";
const ARMHF: &str = "app-elf-armhf-rust";
const ARM64: &str = "app-elf-arm64-go";
const X64: &str = "app-elf-x64-rust";
const KERNEL: &str = "kernel-vmlinuz-x64";
const MODULES: &str = "kmods-xz-tar";
const SQUASHFS: &str = "rootfs-squashfs-xz";
const EXT4: &str = "rootfs-ext4";
const JS: &str = "app-js-tar";
const RAW_MODULES: &str = "kmods-raw-tar";

/// Ratios to the best peer.
const RATIOS: [(&str, f64); 7] = [
    (MCU, 0.54),
    (ARMHF, 0.67),
    (ARM64, 0.64),
    (X64, 0.75),
    (KERNEL, 0.45),
    (MODULES, 0.11),
    (SQUASHFS, 0.17),
];

/// Peak memory of an apply, in MiB, by what the image holds.
const APPLY_MEMORY: [(&str, u64); 9] = [
    (MCU, 6),
    (ARMHF, 6),
    (ARM64, 6),
    (X64, 6),
    (JS, 6),
    (RAW_MODULES, 6),
    (EXT4, 6),
    (SQUASHFS, 10),
    (MODULES, 20),
];

/// Whether a pair of the open corpus holds compressed stretches.
pub(super) fn is_compressed_inside(pair: &str) -> bool {
    [KERNEL, MODULES, SQUASHFS].contains(&pair)
}

/// Every budget that this run can judge.
pub(super) fn table(pairs: &[Pair], rows: &[Row]) -> Table {
    let run = Run { pairs, rows };
    let mut judged = Judged(Table::new(&["budget", "found", "allowed", "kept"]));
    sizes(&run, &mut judged);
    making(&run, &mut judged);
    applying(&run, &mut judged);
    judged.0
}

struct Judged(Table);

impl Judged {
    fn most(&mut self, what: &str, found: Option<f64>, allowed: f64, unit: &str) {
        self.row(what, found, allowed, unit, |found| found <= allowed, "<=");
    }

    fn least(&mut self, what: &str, found: Option<f64>, allowed: f64, unit: &str) {
        self.row(what, found, allowed, unit, |found| found >= allowed, ">=");
    }

    fn row(
        &mut self,
        what: &str,
        found: Option<f64>,
        allowed: f64,
        unit: &str,
        keeps: impl Fn(f64) -> bool,
        sign: &str,
    ) {
        let verdict = match found {
            None => "not measured",
            Some(found) if keeps(found) => "met",
            Some(_) => "MISSED",
        };
        let found = found.map_or_else(|| "-".to_owned(), |found| format!("{found:.3}{unit}"));
        self.0.row([
            what.to_owned(),
            found,
            format!("{sign} {allowed}{unit}"),
            verdict.to_owned(),
        ]);
    }
}

fn sizes(run: &Run<'_>, judged: &mut Judged) {
    let found = beside(run.pairs, run.rows);
    let whole = Total::of(&found.iter().collect::<Vec<_>>());
    let plain: Vec<&Beside> = found
        .iter()
        .filter(|one| !is_compressed_inside(&one.pair))
        .collect();
    judged.most(
        "total beside the best peers",
        whole.as_ref().map(|t| t.ratio),
        0.30,
        "",
    );
    judged.most(
        "geometric mean of the ratios",
        whole.as_ref().map(|t| t.mean),
        0.48,
        "",
    );
    let plain = Total::of(&plain).map(|total| total.ratio);
    judged.most("total without those compressed inside", plain, 0.74, "");
    let worst = found
        .iter()
        .map(Beside::ratio)
        .fold(None, |a: Option<f64>, b| Some(a.map_or(b, |a| a.max(b))));
    judged.most("worst pair", worst, 1.0, "");
    for (pair, allowed) in RATIOS {
        let ratio = found.iter().find(|one| one.pair == pair).map(Beside::ratio);
        judged.most(pair, ratio, allowed, "");
    }
}

fn making(run: &Run<'_>, judged: &mut Judged) {
    let hdiff = if run.has("hdiffz") {
        "hdiffz"
    } else {
        "hdiffpatch"
    };
    let wall = run.ratio_of_sums(hdiff, |figures| figures.make.wall);
    judged.most(&format!("making, wall beside {hdiff}"), wall, 1.0, "");
    let cpu = run.ratio_of_sums("bsdiff-crate", |figures| figures.make.cpu);
    judged.most("making, CPU beside the bsdiff crate", cpu, 0.3, "");
    let peak = run
        .of(EXT4, "ours-small")
        .map(|figures| mib(figures.make.peak_kib));
    judged.most("making rootfs-ext4, peak", peak, 512.0, " MiB");
}

fn applying(run: &Run<'_>, judged: &mut Judged) {
    for (pair, allowed) in [(X64, 250.0), (EXT4, 700.0)] {
        let speed = run.speed(pair, "ours-fast");
        judged.least(
            &format!("applying {pair}, fast, per CPU second"),
            speed,
            allowed,
            " MB",
        );
    }
    for (pair, allowed) in [(X64, 1.5), (SQUASHFS, 15.0)] {
        let wall = run.of(pair, "ours-small").map(|figures| figures.apply.wall);
        judged.most(
            &format!("applying {pair}, small, wall"),
            wall,
            allowed,
            " s",
        );
    }
    for (pair, allowed) in APPLY_MEMORY {
        let peaks = ["ours-small", "ours-fast"]
            .iter()
            .filter_map(|peer| run.of(pair, peer));
        let peak = peaks.map(|figures| figures.apply.peak_kib).max().map(mib);
        #[allow(clippy::cast_precision_loss, reason = "a few MiB")]
        judged.most(
            &format!("applying {pair}, peak"),
            peak,
            allowed as f64,
            " MiB",
        );
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "resident sizes are far below 2^52 KiB"
)]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

struct Run<'a> {
    pairs: &'a [Pair],
    rows: &'a [Row],
}

impl Run<'_> {
    fn of(&self, pair: &str, peer: &str) -> Option<&Figures> {
        let row = self
            .rows
            .iter()
            .find(|row| row.pair == pair && row.peer.name == peer);
        row?.figures()
    }

    fn has(&self, peer: &str) -> bool {
        self.rows
            .iter()
            .any(|row| row.peer.name == peer && row.figures().is_some())
    }

    /// Ours in the `small` profile over a peer's, summed over the pairs that both have.
    fn ratio_of_sums(&self, peer: &str, of: impl Fn(&Figures) -> f64) -> Option<f64> {
        let both = self.pairs.iter().filter_map(|pair| {
            let ours = self.of(&pair.name, "ours-small")?;
            Some((of(ours), of(self.of(&pair.name, peer)?)))
        });
        let (ours, theirs) = both.fold((0.0, 0.0), |sums, one| (sums.0 + one.0, sums.1 + one.1));
        (theirs > 0.0).then(|| ours / theirs)
    }

    /// Megabytes of output per CPU second of an apply.
    #[allow(
        clippy::cast_precision_loss,
        reason = "lengths of images are far below 2^52"
    )]
    fn speed(&self, pair: &str, peer: &str) -> Option<f64> {
        let len = self.pairs.iter().find(|one| one.name == pair)?.new_len;
        let cpu = self.of(pair, peer)?.apply.cpu;
        (cpu > 0.0).then(|| len as f64 / 1e6 / cpu)
    }
}
