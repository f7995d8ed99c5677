//! What a run came to, as a table.

use std::collections::BTreeMap;
use std::fmt;

/// One run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The rollouts, in their order.
    pub campaigns: Vec<Campaign>,
    /// Devices by what they are at the end: `runs 2.4.0`, `dead`.
    pub states: BTreeMap<String, u32>,
    /// Devices whose update is not over.
    pub unsettled: u32,
    /// What must never be; the first ones in words.
    pub sins: Vec<String>,
    /// How much of it.
    pub violations: u64,
    /// Receipts that were acknowledged, and those of them that the store has not.
    pub receipts: (usize, usize),
    /// Wakings of devices.
    pub wakings: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Deaths of the server.
    pub deaths: u32,
    /// Most devices of one ward that were away at once.
    pub most_away: u32,
    /// Seconds of simulated time.
    pub secs: i64,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Its name.
    pub name: &'static str,
    /// Where it stands.
    pub stage: String,
    /// Why it halted, or what it waits for.
    pub why: Option<String>,
    /// Whether it had to halt.
    pub must_halt: bool,
    /// Devices that were offered, that committed, failures, and silence among those.
    pub counts: [u32; 4],
    /// Seconds from its begin until it was done or halted.
    pub took_secs: i64,
    /// Seconds from its begin until half, nine tenths and all of those that committed had.
    pub committed_secs: Option<[i64; 3]>,
}

impl Campaign {
    /// Whether it ended as it must.
    pub fn is_right(&self) -> bool {
        (self.stage == "halted") == self.must_halt && (self.must_halt || self.stage == "done")
    }
}

impl Outcome {
    /// Rollouts that halted.
    pub fn halts(&self) -> Vec<&'static str> {
        let halted = self
            .campaigns
            .iter()
            .filter(|campaign| campaign.stage == "halted");
        halted.map(|campaign| campaign.name).collect()
    }

    /// Whether nothing was that must not be, and every rollout ended as it must.
    pub fn is_right(&self) -> bool {
        self.violations == 0 && self.campaigns.iter().all(Campaign::is_right)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:8} {:>8} {:>10} {:>7} {:>7} {:>9} {:>24}",
            "rollout",
            "ended",
            "offered",
            "committed",
            "failed",
            "silent",
            "took",
            "committed 50/90/100 %"
        )?;
        for campaign in &self.campaigns {
            let [offered, committed, failed, silent] = campaign.counts;
            let spread = campaign
                .committed_secs
                .map_or_else(String::new, |secs| secs.map(hours).join(" / "));
            writeln!(
                f,
                "{:8} {:8} {offered:>8} {committed:>10} {failed:>7} {silent:>7} {:>9} {spread:>24}",
                campaign.name,
                campaign.stage,
                hours(campaign.took_secs)
            )?;
            if let Some(why) = &campaign.why {
                writeln!(f, "         {why}")?;
            }
        }
        writeln!(f)?;
        for (state, count) in &self.states {
            writeln!(f, "{count:>8} devices: {state}")?;
        }
        let Self {
            unsettled,
            violations,
            wakings,
            cuts,
            deaths,
            most_away,
            ..
        } = self;
        let (acknowledged, missing) = self.receipts;
        writeln!(f, "{unsettled:>8} updates under way at the end")?;
        writeln!(
            f,
            "{acknowledged:>8} receipts acknowledged, {missing} of them missing"
        )?;
        writeln!(
            f,
            "{wakings:>8} wakings, {cuts} power cuts, {deaths} deaths of the server"
        )?;
        writeln!(f, "{most_away:>8} device of a ward away at once, at most")?;
        writeln!(f, "{:>8} of simulated time", hours(self.secs))?;
        writeln!(f, "{violations:>8} violations")?;
        self.sins
            .iter()
            .try_for_each(|sin| writeln!(f, "         {sin}"))
    }
}

fn hours(secs: i64) -> String {
    format!("{}:{:02} h", secs / 3600, secs % 3600 / 60)
}
