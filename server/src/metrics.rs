//! What the server counts, and `/metrics`, where it is read.
//!
//! The text format of Prometheus, version 0.0.4. Counters are words in memory, raised without a
//! lock on the device path; what can be asked of the fleet and the rollouts is asked when somebody
//! reads. Nothing here names a device: labels come from closed sets, so that there are never more
//! lines than below.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::StatusCode;

use crate::serve::Shared;
use crate::store::Standing;

/// Devices that were heard of within so many seconds, and what that is called.
const WITHIN: [(i64, &str); 3] = [(300, "5m"), (3_600, "1h"), (86_400, "1d")];

/// A number that grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn raise(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of the device path.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Handshakes in which certificates were verified.
    pub handshakes_full: Counter,
    /// Handshakes from a ticket.
    pub handshakes_resumed: Counter,
    /// Handshakes that came to nothing.
    pub handshakes_failed: Counter,
    opened: Counter,
    closed: Counter,
    fallen_asleep: Counter,
    woken: Counter,
    /// Answers by the hundreds of their status, 1 to 5.
    answers: [Counter; 5],
}

/// A connection that sleeps, counted until this is dropped.
#[derive(Debug)]
pub struct Asleep(Arc<Metrics>);

/// An open connection, counted until this is dropped.
#[derive(Debug)]
pub struct Open(Arc<Metrics>);

impl Metrics {
    /// A connection was accepted.
    pub fn open(self: &Arc<Self>) -> Open {
        self.opened.raise();
        Open(self.clone())
    }

    /// A connection has nothing to do.
    pub fn sleep(self: &Arc<Self>) -> Asleep {
        self.fallen_asleep.raise();
        Asleep(self.clone())
    }

    /// A request was answered.
    pub fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        if let Some(counter) = class.checked_sub(1).and_then(|at| self.answers.get(at)) {
            counter.raise();
        }
    }
}

impl Drop for Asleep {
    fn drop(&mut self) {
        self.0.woken.raise();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.raise();
    }
}

/// Everything, as it is now.
pub fn text(shared: &Shared) -> String {
    let mut page = Page::default();
    of_process(&mut page);
    of_connections(&mut page, &shared.metrics);
    of_store(&mut page, shared);
    of_fleet(&mut page, shared);
    page.0
}

fn of_process(page: &mut Page) {
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"");
    page.gauge("server_info", "Which server this is.");
    page.labelled("server_info", version, 1);
}

fn of_connections(page: &mut Page, metrics: &Metrics) {
    let (opened, closed) = (metrics.opened.count(), metrics.closed.count());
    page.counter(
        "connections_total",
        "Connections of devices that were accepted.",
    );
    page.value("connections_total", opened);
    page.gauge("connections_open", "Connections of devices that are open.");
    page.value("connections_open", opened.saturating_sub(closed));
    let asleep = metrics
        .fallen_asleep
        .count()
        .saturating_sub(metrics.woken.count());
    page.gauge(
        "connections_asleep",
        "Open connections that keep no buffers: nothing is asked.",
    );
    page.value("connections_asleep", asleep);
    page.counter(
        "connections_slept_total",
        "Times that a connection fell asleep.",
    );
    page.value("connections_slept_total", metrics.fallen_asleep.count());
    page.counter("handshakes_total", "TLS handshakes of devices.");
    for (kind, counter) in [
        ("kind=\"full\"", &metrics.handshakes_full),
        ("kind=\"resumed\"", &metrics.handshakes_resumed),
        ("kind=\"failed\"", &metrics.handshakes_failed),
    ] {
        page.labelled("handshakes_total", kind, counter.count());
    }
    page.counter(
        "answers_total",
        "Answers to devices, by the class of their status.",
    );
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    for (class, counter) in classes.into_iter().zip(&metrics.answers) {
        let label = format!("class=\"{class}\"");
        page.labelled("answers_total", &label, counter.count());
    }
}

fn of_store(page: &mut Page, shared: &Shared) {
    let counts = shared.writer.counts();
    page.gauge("store_waiting", "Writes that wait for their group.");
    page.value("store_waiting", shared.writer.waiting() as u64);
    page.counter("store_writes_total", "Writes that were made durable.");
    page.value("store_writes_total", counts.writes.count());
    page.counter(
        "store_groups_total",
        "Groups of writes, each one wait for the disk.",
    );
    page.value("store_groups_total", counts.groups.count());
    page.counter(
        "store_failures_total",
        "Groups that failed; nothing of them was acknowledged.",
    );
    page.value("store_failures_total", counts.failures.count());
    page.counter(
        "store_seconds_total",
        "Time that groups took, the wait for the disk included.",
    );
    page.seconds("store_seconds_total", counts.micros.count());
    page.gauge("audit_broken", "1 where the audit log takes no entries.");
    page.value("audit_broken", u64::from(shared.audit.is_broken()));
}

fn of_fleet(page: &mut Page, shared: &Shared) {
    let now = shared.now().unix();
    let (mut enrolled, mut revoked, mut lapsing) = (0_u64, 0_u64, 0_u64);
    let mut within = [0_u64; WITHIN.len()];
    shared.fleet.each(|row| {
        match row.standing {
            Standing::Enrolled => enrolled += 1,
            Standing::Revoked => revoked += 1,
        }
        let lapses_in = row.not_after.saturating_sub(now);
        lapsing += u64::from(row.standing == Standing::Enrolled && lapses_in < 30 * 86_400);
        for (count, (secs, _)) in within.iter_mut().zip(WITHIN) {
            let is_within = row
                .seen_at
                .is_some_and(|seen| now.saturating_sub(seen) <= secs);
            *count += u64::from(is_within);
        }
    });
    page.gauge("devices", "Devices, by whether they may speak to us.");
    page.labelled("devices", "standing=\"enrolled\"", enrolled);
    page.labelled("devices", "standing=\"revoked\"", revoked);
    page.gauge("devices_seen", "Devices that reported within so long.");
    for (count, (_, name)) in within.into_iter().zip(WITHIN) {
        page.labelled("devices_seen", &format!("within=\"{name}\""), count);
    }
    page.gauge(
        "devices_lapsing",
        "Enrolled devices whose certificate ends within 30 days or has ended.",
    );
    page.value("devices_lapsing", lapsing);
}

/// The page, line by line. Writing to a String cannot fail.
#[derive(Default)]
struct Page(String);

impl Page {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP ampoule_{name} {help}");
        let _ = writeln!(self.0, "# TYPE ampoule_{name} {kind}");
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.head(name, "counter", help);
    }

    fn gauge(&mut self, name: &str, help: &str) {
        self.head(name, "gauge", help);
    }

    fn value(&mut self, name: &str, value: u64) {
        let _ = writeln!(self.0, "ampoule_{name} {value}");
    }

    fn labelled(&mut self, name: &str, label: &str, value: u64) {
        let _ = writeln!(self.0, "ampoule_{name}{{{label}}} {value}");
    }

    fn seconds(&mut self, name: &str, micros: u64) {
        let (secs, rest) = (micros / 1_000_000, micros % 1_000_000);
        let _ = writeln!(self.0, "ampoule_{name} {secs}.{rest:06}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches: an open connection that is counted for ever, a class in the wrong place.
    #[test]
    fn connections_and_answers_are_counted() {
        let metrics = Arc::new(Metrics::default());
        let (one, two) = (metrics.open(), metrics.open());
        drop(one);
        for status in [200, 206, 304, 404, 503, 999] {
            metrics.answered(StatusCode::from_u16(status).unwrap());
        }
        let mut page = Page::default();
        of_connections(&mut page, &metrics);
        for line in [
            "ampoule_connections_total 2",
            "ampoule_connections_open 1",
            "ampoule_answers_total{class=\"2xx\"} 2",
            "ampoule_answers_total{class=\"3xx\"} 1",
            "ampoule_answers_total{class=\"5xx\"} 1",
        ] {
            assert!(
                page.0.lines().any(|found| found == line),
                "{line} in {}",
                page.0
            );
        }
        drop(two);
    }

    #[test]
    fn seconds_have_six_places() {
        let mut page = Page::default();
        page.seconds("s", 12_000_034);
        assert_eq!(page.0, "ampoule_s 12.000034\n");
    }
}
