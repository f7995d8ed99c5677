//! Reads and checks the file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ampoule_protocol::fault;
use ampoule_protocol::name::{ComponentName, NameError};
use ampoule_protocol::release::Install;
use toml::de::DeTable;

use super::boot::{Folders, world};
use super::gates::gates;
use super::local::local;
use super::table::{Faults, Table};
use super::{Config, ConfigError, EnrolBy, Enrolment, HealthConfig, Links, Server};
use crate::boot::World;
use crate::install::{Options, Place};
use crate::net::{Backoff, HOSTS_MAX, LinkHost, Pace};
use crate::state::StateConfig;

/// Seconds in a day and a week, as bounds.
const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;

/// Where update modules are, unless a component says otherwise.
const MODULES: &str = "/usr/share/mender/modules/v3";
/// For how long a call of one may run, in seconds: the protocol's default.
const MODULE_SECS: u64 = 4 * 3600;

/// Reads and checks a configuration. Relative paths in it are below its own folder.
///
/// # Errors
/// All that is wrong with it at once.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    read_file(path, |document, faults| read(document, folder, faults))
}

/// Reads a file of tables. All its faults are told at once; a file without faults has a value.
pub(super) fn read_file<T>(
    path: &Path,
    read: impl FnOnce(&DeTable<'_>, &mut Faults<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let fail = |list| {
        let file = format!("configuration \"{}\"", path.display());
        ConfigError(fault::Faults::new(file, list))
    };
    let text = std::fs::read_to_string(path).map_err(|error| {
        fail(vec![fault::Fault {
            line: None,
            what: format!("it cannot be read: {error}"),
        }])
    })?;
    let (document, errors) = DeTable::parse_recoverable(&text);
    let mut faults = Faults::new(&text);
    for error in errors {
        faults.add(error.span().map_or(0, |span| span.start), error.message());
    }
    if !faults.found.is_empty() {
        return Err(fail(faults.into_list()));
    }
    match read(document.get_ref(), &mut faults) {
        Some(value) if faults.found.is_empty() => Ok(value),
        _ => Err(fail(faults.into_list())),
    }
}

fn read(document: &DeTable<'_>, folder: &Path, faults: &mut Faults<'_>) -> Option<Config> {
    let mut top = Table::new("", 0, Some(document));
    let data_dir = folder.join(top.needed_path("data_dir", faults));
    let product = name(top.needed_text("product", faults), faults);
    let hardware = name(top.needed_text("hardware", faults), faults);
    let region = top.text("region", faults).map(|(_, text)| text);
    let root = folder.join(top.needed_path("root", faults));
    let mut fleet = top.table("fleet", faults);
    let director_root = fleet.text("director_root", faults);
    let director_root = director_root.map(|(_, text)| folder.join(text));
    fleet.finish(faults);
    let facts = top.table("facts", faults).all_texts(faults);
    top.need("server", faults);
    let server = server(top.table("server", faults), folder, faults);
    let has_enrolment = top.has("enrolment");
    let enrolment = top.table("enrolment", faults);
    let enrolment = has_enrolment.then(|| enrolment_of(enrolment, folder, faults));
    let (poll_interval, backoff) = poll(top.table("poll", faults), faults);
    let mut limits = top.table("limits", faults);
    let patch_memory_max = limits.number("patch_memory_max", 16 << 20, 1 << 20..=1 << 30, faults);
    limits.finish(faults);
    top.need("component", faults);
    let components = top.tables("component", faults);
    let components = places(components, folder, &data_dir, faults);
    let (mut places, worlds) = split(components);
    let health = health(top.table("health", faults), faults);
    let gates = gates(top.table("gates", faults), folder, faults);
    let local = local(top.table("local", faults), folder, &data_dir, faults);
    let mut restart_table = top.table("restart", faults);
    let restart = restart_table.command("command", faults);
    restart_table.finish(faults);
    let mut recovery = top.table("recovery", faults);
    let is_recovery = recovery.flag("image", false, faults);
    recovery.finish(faults);
    if is_recovery {
        // Nothing that it fills runs in the recovery image: all of it is tried after a restart.
        for place in &mut places {
            place.options.live = false;
        }
    }
    let worlds = if is_recovery {
        let worlds = worlds.into_iter();
        worlds
            .map(|(name, world)| (name, world.in_recovery()))
            .collect()
    } else {
        worlds
    };
    let has_state = top.has("state");
    let state = state(top.table("state", faults), folder, faults);
    top.finish(faults);
    Some(Config {
        data_dir,
        product: product?,
        hardware: hardware?,
        region,
        facts,
        root,
        director_root,
        server,
        enrolment,
        poll_interval,
        backoff,
        patch_memory_max,
        places,
        worlds,
        health,
        gates,
        local,
        restart,
        is_recovery,
        state: has_state.then_some(state),
    })
}

fn name<T: std::str::FromStr<Err = NameError>>(
    text: Option<(usize, String)>,
    faults: &mut Faults<'_>,
) -> Option<T> {
    let (at, text) = text?;
    match text.parse() {
        Ok(name) => Some(name),
        Err(error) => {
            faults.add(at, error.to_string());
            None
        }
    }
}

fn server(mut table: Table<'_, '_>, folder: &Path, faults: &mut Faults<'_>) -> Server {
    let url = https(&mut table, "server.url", faults);
    let has_max = table.has("bytes_per_sec_max");
    let bytes_per_sec_max = table.number("bytes_per_sec_max", 1 << 30, 1024..=1 << 30, faults);
    let is_metered = table.has("whole_bytes_max");
    let whole_bytes_max = table.number("whole_bytes_max", u64::MAX, 0..=1 << 40, faults);
    let server = Server {
        url,
        ca: folder.join(table.needed_path("ca", faults)),
        certificate: folder.join(table.needed_path("certificate", faults)),
        key: folder.join(table.needed_path("key", faults)),
        connect_timeout: table.secs("connect_timeout_secs", 20, 1..=600, faults),
        stall_timeout: table.secs("stall_timeout_secs", 30, 1..=600, faults),
        pace: Pace {
            bytes_per_sec_min: table.number("bytes_per_sec_min", 512, 0..=1 << 30, faults),
            window: table.secs("slow_window_secs", 60, 1..=3600, faults),
        },
        bytes_per_sec_max: has_max.then_some(bytes_per_sec_max),
        whole_bytes_max: is_metered.then_some(whole_bytes_max),
        links: links(&mut table, folder, faults),
    };
    // A device that slows its server down must not take it for an attack.
    if has_max && server.pace.bytes_per_sec_min > bytes_per_sec_max / 2 {
        let what = "\"server.bytes_per_sec_min\" is above half of \"server.bytes_per_sec_max\"";
        faults.add(table.at(), what);
    }
    table.finish(faults);
    server
}

fn links(server: &mut Table<'_, '_>, folder: &Path, faults: &mut Faults<'_>) -> Option<Links> {
    if !server.has("links") {
        return None;
    }
    let mut table = server.table("links", faults);
    let mut hosts = Vec::new();
    for (at, text) in table.texts("hosts", faults) {
        match LinkHost::parse(&text) {
            Some(host) => hosts.push(host),
            None => faults.add(
                at,
                format!("\"{text}\" is not a host, or a host and a port"),
            ),
        }
    }
    if !(1..=HOSTS_MAX).contains(&hosts.len()) {
        let what = format!(
            "\"server.links.hosts\" names {} hosts, expected 1 to {HOSTS_MAX}",
            hosts.len()
        );
        faults.add(table.at(), what);
    }
    let ca = folder.join(table.needed_path("ca", faults));
    table.finish(faults);
    Some(Links { hosts, ca })
}

fn enrolment_of(mut table: Table<'_, '_>, folder: &Path, faults: &mut Faults<'_>) -> Enrolment {
    let url = https(&mut table, "enrolment.url", faults);
    let mut path =
        |name, faults: &mut Faults<'_>| table.path(name, faults).map(|path| folder.join(path));
    let token = path("token_file", faults);
    let certificate = path("birth_certificate", faults);
    let key = path("birth_key", faults);
    let by = match (token, certificate, key) {
        (Some(token), None, None) => EnrolBy::Token(token),
        (None, Some(certificate), Some(key)) => EnrolBy::Birth { certificate, key },
        _ => {
            let what = "enrolment takes \"token_file\", or \"birth_certificate\" and \"birth_key\"";
            faults.add(table.at(), what);
            EnrolBy::Token(PathBuf::new())
        }
    };
    table.finish(faults);
    Enrolment { url, by }
}

fn https(table: &mut Table<'_, '_>, name: &str, faults: &mut Faults<'_>) -> String {
    let Some((at, text)) = table.needed_text("url", faults) else {
        return String::new();
    };
    if !text.starts_with("https://") {
        faults.add(at, format!("\"{name}\" does not begin with \"https://\""));
    }
    text.trim_end_matches('/').to_owned()
}

fn poll(mut table: Table<'_, '_>, faults: &mut Faults<'_>) -> (Duration, Backoff) {
    let interval = table.secs("interval_secs", 300, 1..=WEEK, faults);
    let backoff = Backoff {
        first: table.secs("backoff_first_secs", 10, 1..=DAY, faults),
        longest: table.secs("backoff_longest_secs", 3600, 1..=DAY, faults),
    };
    table.finish(faults);
    (interval, backoff)
}

fn health(mut table: Table<'_, '_>, faults: &mut Faults<'_>) -> HealthConfig {
    let attempts_max = table.number("attempts_max", 3, 1..=100, faults);
    let health = HealthConfig {
        commands: table.commands("commands", faults),
        timeout: table.secs("timeout_secs", 30, 1..=DAY, faults),
        interval: table.secs("interval_secs", 5, 1..=DAY, faults),
        bake_time: table.secs("bake_secs", 0, 0..=WEEK, faults),
        settle_time: table.secs("settle_secs", 0, 0..=DAY, faults),
        silence_max: table.secs("silence_max_secs", 600, 0..=WEEK, faults),
        attempts_max: u32::try_from(attempts_max).unwrap_or(3),
    };
    table.finish(faults);
    health
}

fn state(mut table: Table<'_, '_>, folder: &Path, faults: &mut Faults<'_>) -> StateConfig {
    let dir = if table.has("dir") {
        table.path("dir", faults)
    } else {
        None
    };
    if let (None, true) = (&dir, table.has("migrate")) {
        faults.add(table.at(), "\"state.dir\" is missing");
    }
    let state = StateConfig {
        dir: folder.join(dir.unwrap_or_default()),
        migrate: table.command("migrate", faults).unwrap_or_default(),
        timeout: table.secs("timeout_secs", 600, 1..=DAY, faults),
    };
    table.finish(faults);
    state
}

fn places(
    tables: Vec<Table<'_, '_>>,
    folder: &Path,
    data_dir: &Path,
    faults: &mut Faults<'_>,
) -> Vec<(Place, Option<World>)> {
    let mut places: Vec<(Place, Option<World>)> = Vec::new();
    for table in tables {
        let at = table.at();
        let Some((place, world)) = place(table, folder, data_dir, faults) else {
            continue;
        };
        let twice = |(other, _): &&(Place, _)| other.component == place.component;
        if let Some((other, _)) = places.iter().find(twice) {
            faults.add(
                at,
                format!("component \"{}\" stands twice", other.component),
            );
        }
        places.push((place, world));
    }
    places
}

/// The components, and the boot loaders of those that have one.
fn split(components: Vec<(Place, Option<World>)>) -> (Vec<Place>, Vec<(ComponentName, World)>) {
    let mut worlds = Vec::new();
    let mut places = Vec::new();
    for (place, world) in components {
        worlds.extend(world.map(|world| (place.component.clone(), world)));
        places.push(place);
    }
    (places, worlds)
}

fn place(
    mut table: Table<'_, '_>,
    folder: &Path,
    data_dir: &Path,
    faults: &mut Faults<'_>,
) -> Option<(Place, Option<World>)> {
    let component: Option<ComponentName> = name(table.needed_text("name", faults), faults);
    let install = match table.needed_text("install", faults) {
        None => None,
        Some((at, text)) => match Install::parse(&text) {
            Ok(install) => Some(install),
            Err(error) => {
                faults.add(at, error.to_string());
                None
            }
        },
    };
    let (slots, visible) = match &install {
        Some(Install::Slot) => (slots(&mut table, folder, faults), PathBuf::new()),
        Some(Install::Tree) => {
            let dir = folder.join(table.needed_path("dir", faults));
            ([dir.join("a.tar"), dir.join("b.tar")], dir.join("current"))
        }
        Some(Install::File) => {
            let path = folder.join(table.needed_path("path", faults));
            ([beside(&path, ".a"), beside(&path, ".b")], path)
        }
        Some(Install::Module(_)) => {
            let component = component.as_ref().map_or("", |name| name.as_str());
            let at = |ending| data_dir.join(format!("module-{component}{ending}"));
            ([at(".a"), at(".b")], PathBuf::new())
        }
        None => return None,
    };
    let boot_file = table
        .path("boot_file", faults)
        .map(|path| folder.join(path));
    let folders = Folders {
        own: folder,
        data: data_dir,
        slots: &slots,
    };
    let world = component
        .as_ref()
        .and_then(|name| world(&mut table, name, &folders, faults));
    if world.is_some() && install != Some(Install::Slot) {
        let what = "only slots are chosen by a boot loader, expected \"file\" or \"symlink\"";
        faults.add(table.at(), format!("\"component.boot\": {what}"));
    }
    let options = options(&mut table, install.as_ref(), folder, faults);
    table.finish(faults);
    let component = component?;
    let boot_file = boot_file.unwrap_or_else(|| data_dir.join(format!("boot-{component}.json")));
    let place = Place {
        component,
        install: install?,
        slots,
        visible,
        boot_file,
        options,
    };
    Some((place, world))
}

fn options(
    table: &mut Table<'_, '_>,
    install: Option<&Install>,
    folder: &Path,
    faults: &mut Faults<'_>,
) -> Options {
    let mut options = Options {
        discard: table.flag("discard", false, faults),
        timeout: table.secs("timeout_secs", 60, 1..=WEEK, faults),
        ..Options::default()
    };
    match install {
        Some(Install::File | Install::Tree) => {
            options.reload = table.command("reload", faults).unwrap_or_default();
            // Who is told of it wants to be told at once.
            options.live = table.flag("live", !options.reload.is_empty(), faults);
        }
        Some(Install::Module(name)) => {
            options.timeout = table.secs("timeout_secs", MODULE_SECS, 1..=WEEK, faults);
            let program = table.path("module", faults);
            let program = program.unwrap_or_else(|| Path::new(MODULES).join(name.as_str()));
            options.program = folder.join(program);
        }
        Some(Install::Slot) | None => {}
    }
    options
}

fn slots(table: &mut Table<'_, '_>, folder: &Path, faults: &mut Faults<'_>) -> [PathBuf; 2] {
    table.need("slots", faults);
    let mut inner = table.table("slots", faults);
    let a = folder.join(inner.needed_path("a", faults));
    let b = folder.join(inner.needed_path("b", faults));
    if a == b {
        faults.add(inner.at(), "both slots are the same file");
    }
    inner.finish(faults);
    [a, b]
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    path.with_file_name(name)
}
