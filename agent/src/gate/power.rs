//! Power: enough energy for the install, and for the worst way back after it.
//!
//! The charge is read from `/sys/class/power_supply` (Linux, `Documentation/ABI/testing/
//! sysfs-class-power`) or printed by a command: `mains=0|1` and `charge_mwh=N`, in any order, one
//! to a line. What cannot be read is unknown, and unknown is no.
//!
//! Mains may be pulled at any moment, so where the device has a battery the battery alone must
//! hold the budget, mains or not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::command::run;
use super::{Answer, Gate, Question, quoted};
use crate::system::CommandLine;

/// Bytes of one attribute.
const ATTRIBUTE_LEN_MAX: u64 = 256;
/// Supplies that are looked at; more is no device that we know.
const SUPPLIES_MAX: usize = 64;

/// Where the state of the power is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meter {
    /// A folder like `/sys/class/power_supply`.
    Supplies(PathBuf),
    /// A command, and for how long it may run.
    Command(CommandLine, Duration),
}

/// Whether mains must be connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mains {
    /// It must.
    Needed,
    /// A battery that holds the budget is enough.
    NotNeeded,
}

/// What an update needs of the power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerConfig {
    /// Where it is told.
    pub meter: Meter,
    /// Whether mains must be connected.
    pub mains: Mains,
    /// Energy of restart, trial and commit, in milliwatt-hours.
    pub install_mwh: u64,
    /// Energy of the longest way back, in milliwatt-hours.
    pub rollback_mwh: u64,
    /// What must be left after both, for the device's own work, in milliwatt-hours.
    pub reserve_mwh: u64,
}

impl PowerConfig {
    fn budget_mwh(&self) -> u64 {
        self.install_mwh
            .saturating_add(self.rollback_mwh)
            .saturating_add(self.reserve_mwh)
    }
}

/// What the meter shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Shown {
    /// Whether mains is connected; `None` where there is no such supply.
    mains: Option<bool>,
    /// The charge of all batteries, in milliwatt-hours; `None` where there is none.
    charge_mwh: Option<u64>,
}

/// The gate.
pub struct Power {
    config: PowerConfig,
}

impl Power {
    /// Reads nothing yet.
    pub fn new(config: PowerConfig) -> Self {
        Self { config }
    }
}

impl Gate for Power {
    fn name(&self) -> &'static str {
        "power"
    }

    fn ask(&mut self, _question: &Question) -> Answer {
        let shown = match &self.config.meter {
            Meter::Supplies(folder) => read_supplies(folder),
            Meter::Command(command, timeout) => ask_command(command, *timeout),
        };
        match shown {
            Ok(shown) => judge(&self.config, shown),
            Err(what) => Answer::unknown(what),
        }
    }
}

fn judge(config: &PowerConfig, shown: Shown) -> Answer {
    let on_mains = shown.mains == Some(true);
    if config.mains == Mains::Needed && !on_mains {
        return match shown.mains {
            Some(_) => Answer::no("mains is not connected"),
            None => Answer::unknown("no supply of mains is shown"),
        };
    }
    let budget = config.budget_mwh();
    match shown.charge_mwh {
        Some(charge) if charge >= budget => Answer::Yes,
        Some(charge) => Answer::no(format!(
            "the charge is {charge} mWh, expected at least {budget} mWh for the update and the way back"
        )),
        // Nothing was asked of a battery: a device that lives on mains alone.
        None if budget == 0 && on_mains => Answer::Yes,
        None => Answer::unknown("no battery is shown"),
    }
}

fn read_supplies(folder: &Path) -> Result<Shown, String> {
    let fail = |error| format!("\"{}\" cannot be read: {error}", folder.display());
    let mut shown = Shown::default();
    for (count, entry) in std::fs::read_dir(folder).map_err(fail)?.enumerate() {
        if count == SUPPLIES_MAX {
            return Err(format!("more than {SUPPLIES_MAX} supplies are shown"));
        }
        add_supply(&mut shown, &entry.map_err(fail)?.path())?;
    }
    Ok(shown)
}

fn add_supply(shown: &mut Shown, supply: &Path) -> Result<(), String> {
    // The battery of a mouse keeps no pump alive.
    if attribute(supply, "scope")?.as_deref() == Some("Device") {
        return Ok(());
    }
    let kind = attribute(supply, "type")?;
    match kind.as_deref() {
        Some("Battery") => {
            let charge = battery_mwh(supply)?;
            shown.charge_mwh = Some(shown.charge_mwh.unwrap_or(0).saturating_add(charge));
        }
        // Every other kind feeds the device: mains, USB, wireless.
        Some("Mains" | "USB" | "Wireless") => {
            let online = attribute(supply, "online")?;
            // 1 is online fixed, 2 is online programmable.
            let is_online = matches!(online.as_deref(), Some("1" | "2"));
            shown.mains = Some(shown.mains.unwrap_or(false) || is_online);
        }
        Some(_) | None => {}
    }
    Ok(())
}

/// What a battery holds. One that is absent holds nothing; one that is ill is not counted on.
fn battery_mwh(supply: &Path) -> Result<u64, String> {
    if attribute(supply, "present")?.as_deref() == Some("0") {
        return Ok(0);
    }
    let health = attribute(supply, "health")?;
    if !matches!(health.as_deref(), None | Some("Good" | "Unknown")) {
        return Ok(0);
    }
    if let Some(energy_uwh) = number(supply, "energy_now")? {
        return Ok(energy_uwh / 1000);
    }
    let charge_uah = number(supply, "charge_now")?;
    // The design's least voltage says less than the present one, which falls with the charge.
    let voltage_uv = match number(supply, "voltage_min_design")? {
        Some(voltage) => Some(voltage),
        None => number(supply, "voltage_now")?,
    };
    match (charge_uah, voltage_uv) {
        (Some(charge), Some(voltage)) => {
            let pwh = u128::from(charge) * u128::from(voltage);
            Ok(u64::try_from(pwh / 1_000_000_000).unwrap_or(u64::MAX))
        }
        _ => Err(format!(
            "\"{}\" shows neither energy_now nor charge_now with a voltage",
            supply.display()
        )),
    }
}

fn number(supply: &Path, name: &str) -> Result<Option<u64>, String> {
    let Some(text) = attribute(supply, name)? else {
        return Ok(None);
    };
    let path = supply.join(name);
    let malformed = |_| format!("\"{}\" is no number: \"{text}\"", path.display());
    text.parse().map(Some).map_err(malformed)
}

/// One attribute; `None` where the supply has no such file.
fn attribute(supply: &Path, name: &str) -> Result<Option<String>, String> {
    let path = supply.join(name);
    let fail = |error| format!("\"{}\" cannot be read: {error}", path.display());
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, ATTRIBUTE_LEN_MAX), &mut text)
        .map_err(fail)?;
    Ok(Some(quoted(&text)))
}

fn ask_command(command: &CommandLine, timeout: Duration) -> Result<Shown, String> {
    let ended = run(command, timeout)?;
    let nonsense = || {
        let said = quoted(&ended.output);
        format!("\"{}\" spoke nonsense: \"{said}\"", command[0])
    };
    if ended.code != Some(0) {
        return Err(format!("\"{}\" failed", command[0]));
    }
    let mut shown = Shown::default();
    for line in String::from_utf8_lossy(&ended.output).lines() {
        let (name, value) = line.trim().split_once('=').ok_or_else(nonsense)?;
        match (name, value) {
            ("mains", "0" | "1") => shown.mains = Some(value == "1"),
            ("charge_mwh", number) => {
                shown.charge_mwh = Some(number.parse().map_err(|_| nonsense())?);
            }
            _ => return Err(nonsense()),
        }
    }
    Ok(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: PowerConfig = PowerConfig {
        meter: Meter::Supplies(PathBuf::new()),
        mains: Mains::NotNeeded,
        install_mwh: 2000,
        rollback_mwh: 1500,
        reserve_mwh: 500,
    };

    fn supply(folder: &Path, name: &str, attributes: &[(&str, &str)]) {
        let supply = folder.join(name);
        std::fs::create_dir_all(&supply).expect("a folder");
        for (name, value) in attributes {
            std::fs::write(supply.join(name), format!("{value}\n")).expect("writes");
        }
    }

    fn ask(config: &PowerConfig, folder: &Path) -> Answer {
        let meter = Meter::Supplies(folder.to_owned());
        let question = Question {
            update: ampoule_protocol::digest::Digest::of(b""),
            class: ampoule_protocol::release::Class::Security,
            downtime: Duration::ZERO,
        };
        let config = PowerConfig {
            meter,
            ..config.clone()
        };
        Power::new(config).ask(&question)
    }

    /// Meant to catch: a budget without `rollback_mwh` opens with 3999 mWh.
    #[test]
    fn the_battery_holds_the_update_and_the_way_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        for (energy_uwh, is_enough) in [("4000000", true), ("3999999", false), ("0", false)] {
            supply(
                folder,
                "BAT0",
                &[("type", "Battery"), ("energy_now", energy_uwh)],
            );
            assert_eq!(
                ask(&CONFIG, folder) == Answer::Yes,
                is_enough,
                "{energy_uwh}"
            );
        }
        // Mains can be pulled: it does not stand in for the charge.
        supply(folder, "AC", &[("type", "Mains"), ("online", "1")]);
        assert_ne!(ask(&CONFIG, folder), Answer::Yes);
        // 500 mAh at no less than 9 V.
        let charge = [
            ("type", "Battery"),
            ("charge_now", "500000"),
            ("voltage_min_design", "9000000"),
            ("voltage_now", "1"),
        ];
        supply(folder, "BAT1", &charge);
        assert_eq!(ask(&CONFIG, folder), Answer::Yes);
        supply(folder, "BAT1", &[("health", "Overheat")]);
        assert_ne!(ask(&CONFIG, folder), Answer::Yes);
    }

    #[test]
    fn mains_where_it_is_needed() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let config = PowerConfig {
            mains: Mains::Needed,
            install_mwh: 0,
            rollback_mwh: 0,
            reserve_mwh: 0,
            ..CONFIG
        };
        assert_eq!(ask(&config, folder).as_str(), "unknown");
        supply(folder, "AC", &[("type", "Mains"), ("online", "0")]);
        assert_eq!(ask(&config, folder).as_str(), "no");
        supply(folder, "AC", &[("online", "1")]);
        assert_eq!(ask(&config, folder), Answer::Yes);
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        assert_eq!(ask(&CONFIG, folder).as_str(), "unknown", "no battery");
        supply(
            folder,
            "mouse",
            &[
                ("type", "Battery"),
                ("scope", "Device"),
                ("energy_now", "9000000"),
            ],
        );
        assert_eq!(ask(&CONFIG, folder).as_str(), "unknown", "a mouse");
        supply(
            folder,
            "BAT0",
            &[("type", "Battery"), ("energy_now", "lots")],
        );
        assert_eq!(ask(&CONFIG, folder).as_str(), "unknown", "nonsense");
        assert_eq!(ask(&CONFIG, &folder.join("none")).as_str(), "unknown");
    }

    #[test]
    fn a_command_is_read_strictly() {
        let shown = |script: &str| {
            let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            ask_command(&command, Duration::from_secs(10))
        };
        assert_eq!(
            shown("echo mains=1; echo charge_mwh=4200").expect("well said"),
            Shown {
                mains: Some(true),
                charge_mwh: Some(4200)
            }
        );
        for script in [
            "echo mains=yes",
            "echo charge_mwh=-1",
            "echo fine",
            "exit 1",
            "sleep 0; kill $$",
        ] {
            assert!(shown(script).is_err(), "{script}");
        }
    }
}
