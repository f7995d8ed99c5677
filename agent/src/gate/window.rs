//! Maintenance windows in local time.
//!
//! What the clock on the wall of the ward reads is what counts: a moment lies in a window when its
//! local reading does. Where a change of the clocks skips an hour, no moment has those readings
//! and the window is that much shorter; where it repeats one, the window is that much longer. No
//! local time is ever turned back into a moment, so nothing is ambiguous.
//!
//! An update is begun only when the clock on the wall stays within the window for all of the
//! expected downtime and the worst way back. A clock that is not sane, or jumped against the time
//! since boot, is unknown until it has gone steadily for a while.
//!
//! Zones are TZif files (RFC 9636) of the system, read by `tz-rs`; none are built in.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use ampoule_protocol::time::UtcTime;
use tz::TimeZone;

use super::{Answer, Gate, Question};
use crate::ports::Clock;

/// Bytes of a zone file; the longest of the 2025 database has under 4 KiB.
const ZONE_LEN_MAX: u64 = 256 << 10;
/// By how much wall clock and time since boot may drift apart between two questions.
const DRIFT_MAX_SECS: i64 = 5;
/// Local readings change by whole minutes, and so do windows.
const STEP_SECS: i64 = 60;
/// For how far ahead the next window is looked for, for people.
const LOOK_AHEAD_SECS: i64 = 8 * 86_400;

/// Minutes of a day.
const DAY_MINUTES: u16 = 24 * 60;

/// One window of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins: bit 0 is Monday.
    pub days: u8,
    /// The minute of the day at which it begins.
    pub start: u16,
    /// The minute at which it ends; at or below `start` it ends the day after.
    pub end: u16,
}

impl Window {
    /// Reads `Mon-Fri 01:00-04:30`, `Sat,Sun 22:00-06:00` or `daily 02:00-04:00`.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("\"{text}\" is no window, expected one like \"Mon-Fri 01:00-04:30\"");
        let (days, times) = text.split_once(' ').ok_or_else(form)?;
        let (start, end) = times.split_once('-').ok_or_else(form)?;
        let window = Self {
            days: days_of(days).ok_or_else(form)?,
            start: minute_of(start).ok_or_else(form)?,
            end: minute_of(end).ok_or_else(form)?,
        };
        if window.start == DAY_MINUTES || window.start == window.end {
            return Err(form());
        }
        Ok(window)
    }

    fn contains(self, day: u8, minute: u16) -> bool {
        let begins_on = |day: u8| self.days & (1 << day) != 0;
        if self.start < self.end {
            return begins_on(day) && (self.start..self.end).contains(&minute);
        }
        let day_before = (day + 6) % 7;
        (begins_on(day) && minute >= self.start) || (begins_on(day_before) && minute < self.end)
    }
}

fn days_of(text: &str) -> Option<u8> {
    if text == "daily" {
        return Some(0x7f);
    }
    let mut days = 0;
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (mut day, last) = (day_of(first)?, day_of(last)?);
        days |= 1 << day;
        while day != last {
            day = (day + 1) % 7;
            days |= 1 << day;
        }
    }
    Some(days)
}

fn day_of(text: &str) -> Option<u8> {
    let days = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    let day = days.iter().position(|day| *day == text)?;
    u8::try_from(day).ok()
}

fn minute_of(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let is_plain = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(hour) || !is_plain(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let total = hour * 60 + minute;
    (minute < 60 && total <= DAY_MINUTES).then_some(total)
}

/// Whether a zone has the form of a name in the database: it becomes a path.
pub fn is_zone_name(name: &str) -> bool {
    let is_plain = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-+".contains(&byte))
    };
    name.split('/').all(is_plain)
}

/// When the device may be out of service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsConfig {
    /// The IANA zone, such as `Europe/Berlin`.
    pub zone: String,
    /// The folder of zone files.
    pub zoneinfo: PathBuf,
    /// The windows; one is enough.
    pub open: Vec<Window>,
    /// For how long the device is expected to be out of service.
    pub downtime: Duration,
    /// The longest way back.
    pub rollback: Duration,
    /// For how long the clock must have gone steadily.
    pub settle: Duration,
}

/// The gate.
pub struct Windows {
    config: WindowsConfig,
    clock: Rc<dyn Clock>,
    steady: Option<Steady>,
}

/// Since when wall clock and time since boot go together.
#[derive(Debug, Clone, Copy)]
struct Steady {
    since: Duration,
    wall: i64,
    boot: Duration,
}

impl Windows {
    /// Reads no clock yet.
    pub fn new(config: WindowsConfig, clock: Rc<dyn Clock>) -> Self {
        Self {
            config,
            clock,
            steady: None,
        }
    }

    /// Looks at both clocks; for how long they have gone together.
    fn steady_for(&mut self, wall: i64) -> Duration {
        let boot = self.clock.since_boot();
        let since = match self.steady {
            Some(last) if !has_jumped(last, wall, boot) => last.since,
            Some(_) | None => boot,
        };
        self.steady = Some(Steady { since, wall, boot });
        boot.saturating_sub(since)
    }

    fn zone(&self) -> Result<TimeZone, String> {
        let path = self.config.zoneinfo.join(&self.config.zone);
        let fail = |why: String| format!("zone \"{}\" cannot be read: {why}", path.display());
        let file = std::fs::File::open(&path).map_err(|error| fail(error.to_string()))?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(file, ZONE_LEN_MAX), &mut bytes)
            .map_err(|error| fail(error.to_string()))?;
        TimeZone::from_tz_data(&bytes).map_err(|error| fail(error.to_string()))
    }
}

fn has_jumped(last: Steady, wall: i64, boot: Duration) -> bool {
    let by_boot = boot.saturating_sub(last.boot).as_secs();
    let by_boot = i64::try_from(by_boot).unwrap_or(i64::MAX);
    let by_wall = wall.saturating_sub(last.wall);
    by_wall.saturating_sub(by_boot).saturating_abs() > DRIFT_MAX_SECS
}

impl Gate for Windows {
    fn name(&self) -> &'static str {
        "window"
    }

    fn ask(&mut self, question: &Question) -> Answer {
        let Some(wall) = self.clock.wall() else {
            self.steady = None;
            return Answer::unknown("the clock is not sane");
        };
        let steady = self.steady_for(wall.unix());
        if steady < self.config.settle {
            return Answer::unknown(format!(
                "the clock has gone steadily for {} seconds, expected {}",
                steady.as_secs(),
                self.config.settle.as_secs()
            ));
        }
        match self.zone() {
            Ok(zone) => judge(&self.config, &zone, question.downtime, wall),
            Err(what) => Answer::unknown(what),
        }
    }
}

/// Pure: what the windows say at a moment, for an update that declares so much downtime.
fn judge(config: &WindowsConfig, zone: &TimeZone, declared: Duration, now: UtcTime) -> Answer {
    // What an update declares counts only where it asks for more.
    let needed = config
        .downtime
        .max(declared)
        .saturating_add(config.rollback);
    let needed = i64::try_from(needed.as_secs()).unwrap_or(LOOK_AHEAD_SECS);
    let needed = needed.min(LOOK_AHEAD_SECS);
    let now = now.unix();
    match open_for(config, zone, now, needed) {
        Err(what) => Answer::unknown(what),
        Ok(lasts) if lasts >= needed => Answer::Yes,
        Ok(lasts) => {
            let reason = match lasts {
                0 => "outside of every window".to_owned(),
                _ => format!("the window lasts {lasts} more seconds, expected {needed}"),
            };
            match next_begin(config, zone, now + lasts, needed) {
                Some(begin) => Answer::no_until(reason, UtcTime::from_unix(begin)),
                None => Answer::no(reason),
            }
        }
    }
}

/// For how many seconds from `from` on the clock on the wall stays within the windows, up to
/// `enough`.
fn open_for(
    config: &WindowsConfig,
    zone: &TimeZone,
    from: i64,
    enough: i64,
) -> Result<i64, String> {
    let mut at = from;
    loop {
        if !is_open(config, zone, at)? {
            return Ok(at - from);
        }
        if at - from >= enough {
            return Ok(enough);
        }
        // To the next full minute: offsets of our days are whole minutes, as windows are.
        at += STEP_SECS - at.rem_euclid(STEP_SECS);
    }
}

/// The next moment after `from` at which a long enough window begins.
fn next_begin(config: &WindowsConfig, zone: &TimeZone, from: i64, needed: i64) -> Option<i64> {
    let mut at = from;
    while at - from < LOOK_AHEAD_SECS {
        match open_for(config, zone, at, needed).ok()? {
            lasts if lasts >= needed => return Some(at),
            lasts => at += lasts + STEP_SECS - (at + lasts).rem_euclid(STEP_SECS),
        }
    }
    None
}

fn is_open(config: &WindowsConfig, zone: &TimeZone, at: i64) -> Result<bool, String> {
    let local = zone
        .find_local_time_type(at)
        .map_err(|error| format!("zone \"{}\" does not know this time: {error}", config.zone))?;
    let local = at.saturating_add(local.ut_offset().into());
    // 1970-01-01 was a Thursday.
    let day = (local.div_euclid(86_400) + 3).rem_euclid(7);
    let minute = local.rem_euclid(86_400) / 60;
    let (day, minute) = (
        u8::try_from(day).unwrap_or(0),
        u16::try_from(minute).unwrap_or(0),
    );
    Ok(config
        .open
        .iter()
        .any(|window| window.contains(day, minute)))
}

#[cfg(test)]
mod tests;
