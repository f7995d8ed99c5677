//! `[gates]` and what stands below it.

use std::path::Path;
use std::time::Duration;

use super::table::{Faults, Table};
use crate::gate::{
    ConsentConfig, InterlockConfig, Mains, Meter, PinHash, PostponeConfig, PowerConfig, Provider,
    Window, WindowsConfig, is_zone_name,
};
use crate::system::CommandLine;

/// Seconds in a day and a week, as bounds.
const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;
/// The largest energy of a battery that is believed: a kilowatt-hour.
const ENERGY_MAX_MWH: u64 = 1_000_000;

/// The gates. All of them come from the configuration file; nothing received adds, changes or
/// removes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatesConfig {
    /// What is run; all must exit with 0.
    pub commands: Vec<CommandLine>,
    /// For how long each may run.
    pub timeout: Duration,
    /// Between two questions.
    pub interval: Duration,
    /// Therapy interlocks; all must say idle.
    pub interlocks: Vec<InterlockConfig>,
    /// Power and battery.
    pub power: Option<PowerConfig>,
    /// Maintenance windows.
    pub windows: Option<WindowsConfig>,
    /// Agreement, where it is needed.
    pub consent: Option<ConsentConfig>,
    /// Whether no update is begun before the boot loaders were proven.
    pub boot_probe: bool,
    /// Postponements; always there, since putting off needs no other gate.
    pub postpone: PostponeConfig,
}

pub(super) fn gates(
    mut table: Table<'_, '_>,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> GatesConfig {
    let timeout = table.secs("timeout_secs", 10, 1..=600, faults);
    let interlocks = table.tables("interlock", faults);
    let interlocks = interlocks
        .into_iter()
        .filter_map(|table| interlock(table, folder, timeout, faults));
    let gates = GatesConfig {
        interlocks: interlocks.collect(),
        commands: table.commands("commands", faults),
        timeout,
        interval: table.secs("interval_secs", 30, 1..=DAY, faults),
        boot_probe: table.flag("boot_probe", false, faults),
        power: table
            .has("power")
            .then(|| power(table.table("power", faults), folder, timeout, faults)),
        windows: table
            .has("windows")
            .then(|| windows(table.table("windows", faults), folder, faults)),
        consent: table
            .has("consent")
            .then(|| consent(table.table("consent", faults), faults)),
        postpone: postpone(table.table("postpone", faults), faults),
    };
    table.finish(faults);
    gates
}

fn interlock(
    mut table: Table<'_, '_>,
    folder: &Path,
    timeout: Duration,
    faults: &mut Faults<'_>,
) -> Option<InterlockConfig> {
    let name = table.text("name", faults).map(|(_, name)| name);
    let socket = table.path("socket", faults).map(|path| folder.join(path));
    let file = table.path("file", faults).map(|path| folder.join(path));
    let command = table.command("command", faults);
    let age_max = table.secs("age_max_secs", 10, 1..=DAY, faults);
    let timeout = table.secs("timeout_secs", timeout.as_secs(), 1..=600, faults);
    let provider = match (socket, file, command) {
        (Some(socket), None, None) => Some(Provider::Socket(socket)),
        (None, Some(file), None) => Some(Provider::File(file, age_max)),
        (None, None, Some(command)) => Some(Provider::Command(command)),
        _ => {
            let what = "\"gates.interlock\" needs one of \"socket\", \"file\" and \"command\"";
            faults.add(table.at(), what);
            None
        }
    };
    table.finish(faults);
    Some(InterlockConfig {
        name: name.unwrap_or_else(|| "therapy".to_owned()),
        provider: provider?,
        timeout,
    })
}

fn power(
    mut table: Table<'_, '_>,
    folder: &Path,
    timeout: Duration,
    faults: &mut Faults<'_>,
) -> PowerConfig {
    let supplies = table.path("supplies", faults);
    let supplies = folder.join(supplies.unwrap_or_else(|| "/sys/class/power_supply".into()));
    let meter = match table.command("command", faults) {
        Some(command) => Meter::Command(command, timeout),
        None => Meter::Supplies(supplies),
    };
    let mains = match table.text("mains", faults) {
        None => Mains::NotNeeded,
        Some((_, text)) if text == "not-needed" => Mains::NotNeeded,
        Some((_, text)) if text == "needed" => Mains::Needed,
        Some((at, _)) => {
            faults.add(
                at,
                "\"gates.power.mains\" is neither \"needed\" nor \"not-needed\"",
            );
            Mains::Needed
        }
    };
    let mut energy = |name| table.number(name, 0, 0..=ENERGY_MAX_MWH, faults);
    let config = PowerConfig {
        meter,
        mains,
        install_mwh: energy("install_mwh"),
        rollback_mwh: energy("rollback_mwh"),
        reserve_mwh: energy("reserve_mwh"),
    };
    let needs_nothing = config.install_mwh == 0 && config.mains == Mains::NotNeeded;
    if needs_nothing || (config.install_mwh == 0) != (config.rollback_mwh == 0) {
        let what = "\"gates.power\" needs \"install_mwh\" and \"rollback_mwh\", or \"mains\"";
        faults.add(table.at(), what);
    }
    table.finish(faults);
    config
}

fn windows(mut table: Table<'_, '_>, folder: &Path, faults: &mut Faults<'_>) -> WindowsConfig {
    let zone = table.needed_text("zone", faults);
    if let Some((at, zone)) = &zone
        && !is_zone_name(zone)
    {
        faults.add(*at, format!("\"{zone}\" is not the name of a zone"));
    }
    let zoneinfo = table.path("zoneinfo", faults);
    table.need("open", faults);
    let texts = table.texts("open", faults);
    if texts.is_empty() && table.has("open") {
        faults.add(table.at(), "\"gates.windows.open\" holds no window");
    }
    let mut open = Vec::new();
    for (at, text) in texts {
        match Window::parse(&text) {
            Ok(window) => open.push(window),
            Err(what) => faults.add(at, what),
        }
    }
    let windows = WindowsConfig {
        zone: zone.map(|(_, zone)| zone).unwrap_or_default(),
        zoneinfo: folder.join(zoneinfo.unwrap_or_else(|| "/usr/share/zoneinfo".into())),
        open,
        downtime: table.secs("downtime_secs", 300, 1..=WEEK, faults),
        rollback: table.secs("rollback_secs", 300, 0..=WEEK, faults),
        settle: table.secs("clock_settle_secs", 60, 0..=DAY, faults),
    };
    table.finish(faults);
    windows
}

fn consent(mut table: Table<'_, '_>, faults: &mut Faults<'_>) -> ConsentConfig {
    let pin = table.text("pin_hash", faults).and_then(|(at, text)| {
        let pin = PinHash::parse(&text);
        if pin.is_none() {
            let what = "\"gates.consent.pin_hash\" is not what \"ampoule-agent hash-pin\" prints";
            faults.add(at, what);
        }
        pin
    });
    let consent = ConsentConfig {
        pin,
        button: table.command("button", faults),
        timeout: table.secs("button_secs", 30, 1..=600, faults),
    };
    table.finish(faults);
    consent
}

fn postpone(mut table: Table<'_, '_>, faults: &mut Faults<'_>) -> PostponeConfig {
    let mut times = |name, default| {
        let times = table.number(name, default, 0..=1000, faults);
        u32::try_from(times).unwrap_or(0)
    };
    let (security, functional, both) = (
        times("security", 3),
        times("functional", 10),
        times("both", 3),
    );
    let postpone = PostponeConfig {
        security,
        functional,
        both,
        longest: table.secs("longest_secs", DAY, 1..=30 * DAY, faults),
    };
    table.finish(faults);
    postpone
}
