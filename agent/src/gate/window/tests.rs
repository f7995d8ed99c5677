//! Windows against the zone files of this machine, with jiff as a second opinion.

use std::cell::Cell;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::release::Class;

use super::*;

const ZONEINFO: &str = "/usr/share/zoneinfo";
const HOUR: u64 = 3600;

fn config(zone: &str, open: &[&str], downtime_secs: u64) -> WindowsConfig {
    WindowsConfig {
        zone: zone.to_owned(),
        zoneinfo: PathBuf::from(ZONEINFO),
        open: open
            .iter()
            .map(|text| Window::parse(text).expect("a window"))
            .collect(),
        downtime: Duration::from_secs(downtime_secs),
        rollback: Duration::ZERO,
        settle: Duration::ZERO,
    }
}

fn at(text: &str) -> UtcTime {
    UtcTime::parse(text).expect("a time")
}

fn zone(name: &str) -> TimeZone {
    let bytes =
        std::fs::read(PathBuf::from(ZONEINFO).join(name)).expect("the zone files are there");
    TimeZone::from_tz_data(&bytes).expect("a zone file")
}

fn ask(config: &WindowsConfig, now: &str) -> Answer {
    judge(config, &zone(&config.zone), Duration::ZERO, at(now))
}

#[test]
fn windows_are_read_strictly() {
    let window = Window::parse("Fri-Mon,Wed 22:00-06:00").expect("a window");
    assert_eq!(window.days, 0b111_0101);
    assert_eq!((window.start, window.end), (1320, 360));
    assert_eq!(
        Window::parse("daily 00:00-24:00").expect("all day").end,
        1440
    );
    for text in [
        "",
        "daily",
        "daily 02:00",
        "daily 2:00-04:00",
        "daily 02:00-04:60",
        "daily 25:00-26:00",
        "daily 24:00-02:00",
        "daily 02:00-02:00",
        "Mo 01:00-02:00",
        "Mon- 01:00-02:00",
        "Mon  01:00-02:00",
        "daily 02:00-04:00 x",
        "daily -1:00-04:00",
    ] {
        assert!(Window::parse(text).is_err(), "\"{text}\"");
    }
    for (name, is_good) in [
        ("Europe/Berlin", true),
        ("UTC", true),
        ("America/Argentina/Ushuaia", true),
        ("Etc/GMT+5", true),
        ("../etc/passwd", false),
        ("/etc/x", false),
        ("", false),
        ("Europe//Berlin", false),
    ] {
        assert_eq!(is_zone_name(name), is_good, "{name}");
    }
}

#[test]
fn days_and_midnight() {
    // 2026-11-24 is a Tuesday.
    let config = config("UTC", &["Tue 22:00-02:00"], 60);
    for (now, is_open) in [
        ("2026-11-24T21:59:59Z", false),
        ("2026-11-24T22:00:00Z", true),
        ("2026-11-25T01:58:59Z", true),
        ("2026-11-25T02:00:00Z", false),
        ("2026-11-24T01:00:00Z", false),
        ("2026-11-25T22:30:00Z", false),
    ] {
        assert_eq!(ask(&config, now) == Answer::Yes, is_open, "{now}");
    }
}

#[test]
fn a_window_that_is_too_short_is_not_begun() {
    let mut config = config("UTC", &["daily 02:00-04:00"], 3600);
    config.rollback = Duration::from_mins(30);
    assert_eq!(ask(&config, "2026-11-24T02:30:00Z"), Answer::Yes);
    let Answer::No { reason, until } = ask(&config, "2026-11-24T02:31:00Z") else {
        panic!("1 h 29 min are not enough for 1 h 30 min");
    };
    assert_eq!(reason, "the window lasts 5340 more seconds, expected 5400");
    assert_eq!(until, Some(at("2026-11-25T02:00:00Z")));
    config.rollback = Duration::from_hours(2);
    let never = ask(&config, "2026-11-24T02:00:00Z");
    assert!(matches!(never, Answer::No { until: None, .. }), "{never:?}");
}

/// Meant to catch: `declared` in place of `config.downtime.max(declared)` opens a window that is too
/// short by the device's own expectation, on the word of a release.
#[test]
fn what_an_update_declares_may_only_ask_for_more() {
    let config = config("UTC", &["daily 02:00-04:00"], 3600);
    let judged = |declared: u64, now| {
        judge(
            &config,
            &zone("UTC"),
            Duration::from_secs(declared),
            at(now),
        )
    };
    assert_ne!(judged(0, "2026-11-24T03:30:00Z"), Answer::Yes);
    assert_ne!(judged(1, "2026-11-24T03:30:00Z"), Answer::Yes);
    assert_eq!(judged(5400, "2026-11-24T02:30:00Z"), Answer::Yes);
    assert_ne!(judged(5401, "2026-11-24T02:30:00Z"), Answer::Yes);
    assert_ne!(
        judged(u64::from(u32::MAX), "2026-11-24T02:00:00Z"),
        Answer::Yes
    );
}

/// Europe/Berlin, 2027-03-28: 02:00 becomes 03:00 at 01:00 UTC.
#[test]
fn an_hour_that_is_skipped_is_not_counted() {
    // 01:30 to 03:30 on the wall is one hour long that night.
    let hour = config("Europe/Berlin", &["daily 01:30-03:30"], 3600);
    assert_eq!(ask(&hour, "2027-03-28T00:30:00Z"), Answer::Yes);
    assert_ne!(ask(&hour, "2027-03-28T00:31:00Z"), Answer::Yes);
    let two = config("Europe/Berlin", &["daily 01:30-03:30"], 7200);
    assert_ne!(ask(&two, "2027-03-28T00:30:00Z"), Answer::Yes);
    assert_eq!(ask(&two, "2027-03-27T00:30:00Z"), Answer::Yes);
    // A window within the skipped hour does not come that night.
    let gone = config("Europe/Berlin", &["daily 02:10-02:50"], 60);
    let Answer::No { until, .. } = ask(&gone, "2027-03-28T00:00:00Z") else {
        panic!("there is no such time that night");
    };
    assert_eq!(until, Some(at("2027-03-29T00:10:00Z")));
}

/// Europe/Berlin, 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
#[test]
fn an_hour_that_is_repeated_is_counted_twice() {
    let three = config("Europe/Berlin", &["daily 01:30-03:30"], 3 * HOUR);
    assert_eq!(ask(&three, "2026-10-24T23:30:00Z"), Answer::Yes);
    assert_ne!(ask(&three, "2026-10-25T23:30:00Z"), Answer::Yes);
    // 02:30 comes twice; the first time the clock goes back out of the window.
    let twice = config("Europe/Berlin", &["daily 02:30-04:00"], HOUR);
    assert_ne!(ask(&twice, "2026-10-25T00:30:00Z"), Answer::Yes);
    assert_eq!(ask(&twice, "2026-10-25T01:30:00Z"), Answer::Yes);
}

/// A clock for tests: what it shows is set from outside.
#[derive(Clone, Default)]
struct Hands(Rc<Cell<(Option<i64>, u64)>>);

impl Clock for Hands {
    fn wall(&self) -> Option<UtcTime> {
        self.0.get().0.map(UtcTime::from_unix)
    }
    fn uptime(&self) -> Duration {
        Duration::from_secs(self.0.get().1)
    }
    fn sleep(&self, _time: Duration) {}
}

/// Meant to catch: without `has_jumped` the third question opens on a clock that was set a moment ago.
#[test]
fn a_clock_that_jumps_is_not_believed_until_it_is_steady() {
    let hands = Hands::default();
    let mut config = config("UTC", &["daily 00:00-24:00"], 0);
    config.settle = Duration::from_mins(1);
    let mut gate = Windows::new(config, Rc::new(hands.clone()));
    let question = Question {
        update: Digest::of(b""),
        class: Class::Both,
        downtime: Duration::ZERO,
    };
    let mut ask = |wall, boot| {
        hands.0.set((wall, boot));
        gate.ask(&question).as_str()
    };
    let start = 1_800_000_000;
    assert_eq!(ask(Some(start), 100), "unknown", "seen for the first time");
    assert_eq!(ask(Some(start + 60), 160), "yes");
    assert_eq!(
        ask(Some(start + 7200), 220),
        "unknown",
        "two hours in a minute"
    );
    assert_eq!(ask(Some(start + 7259), 279), "unknown");
    assert_eq!(ask(Some(start + 7261), 280), "yes");
    assert_eq!(ask(Some(start), 340), "unknown", "back");
    assert_eq!(ask(None, 500), "unknown", "not sane");
    assert_eq!(
        ask(Some(start + 200), 600),
        "unknown",
        "sane again, and seen for the first time"
    );
}

#[test]
fn a_zone_that_is_not_there_is_unknown() {
    let clock = Hands::default();
    clock.0.set((Some(1_800_000_000), 0));
    for name in ["Europe/Atlantis", "tzdata.zi"] {
        let mut gate = Windows::new(
            config(name, &["daily 00:00-24:00"], 0),
            Rc::new(clock.clone()),
        );
        let question = Question {
            update: Digest::of(b""),
            class: Class::Both,
            downtime: Duration::ZERO,
        };
        assert_eq!(gate.ask(&question).as_str(), "unknown", "{name}");
    }
}

/// The local readings that decide are those of another library over the same files.
#[test]
fn local_time_is_what_jiff_says() {
    let names = [
        "Europe/Berlin",
        "America/New_York",
        "America/Sao_Paulo",
        "Australia/Lord_Howe",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Africa/Casablanca",
        "Pacific/Apia",
        "UTC",
        "Antarctica/Troll",
        "Asia/Gaza",
        "Europe/Dublin",
    ];
    let mut compared = 0;
    for name in names {
        let ours = zone(name);
        let bytes = std::fs::read(PathBuf::from(ZONEINFO).join(name)).expect("a zone file");
        let theirs = jiff::tz::TimeZone::tzif(name, &bytes).expect("a zone file");
        // 2020 to 2060, in steps that meet every hour of the day and both sides of each change.
        for step in 0..20_000_i64 {
            let unix = 1_577_836_800 + step * 63_113;
            let stamp = jiff::Timestamp::from_second(unix).expect("in range");
            let ours = ours.find_local_time_type(unix).expect("known").ut_offset();
            assert_eq!(ours, theirs.to_offset(stamp).seconds(), "{name} at {unix}");
            compared += 1;
        }
    }
    println!("{compared} local times compared");
}
