//! `cargo xtask fleet-sim`: a whole fleet in one process, or over real sockets (see
//! `ampoule_tests::fleet`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use ampoule_tests::fleet::load::{self, Load};
use ampoule_tests::fleet::process::{cpu_of, peak_kib};
use ampoule_tests::fleet::{Mistake, Options, Release, Weather, run};

/// Half of a simulated device's life is small allocations; a server has the same allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
fleet-sim [--devices N] [--seed S] [--poll SECS] [--look SECS] [--calm]
          [--only good,sick,deadly,last] [--mistake NAME]
fleet-sim --load [--devices N] [--poll SECS] [--seconds SECS] [--threads N] [--seed S]

Takes a fleet in memory through four releases: a good one, one that makes half of the devices ill,
one that kills half without a word, and a good one again. The second and third must halt.
With --load, devices with identities of their own poll the real server over real TLS.";

/// What the command line asks for.
struct Asked {
    options: Options,
    is_load: bool,
    secs: u32,
    threads: u32,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(what) => {
            eprintln!("error: {what}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let is_right = if asked.is_load {
        put_load_on(&asked)
    } else {
        Ok(simulate(&asked.options))
    };
    match is_right {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("error: something was that must not be");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(options: &Options) -> bool {
    eprintln!("replay: {}", options.replay());
    let start = Instant::now();
    let outcome = run(options);
    print!("{outcome}");
    let took = start.elapsed();
    let wakings = u32::try_from(outcome.wakings).unwrap_or(u32::MAX).max(1);
    let own = std::process::id();
    let cpu = cpu_of(own).unwrap_or_default();
    println!(
        "{took:>8.0?} of real time, {cpu:.0?} of CPU, {:.0?} of it for a waking",
        cpu / wakings
    );
    if let Ok(kib) = peak_kib(own) {
        println!("{:>8} MiB of memory at most", kib / 1024);
    }
    outcome.is_right()
}

fn put_load_on(asked: &Asked) -> std::io::Result<bool> {
    let Options {
        devices,
        seed,
        poll_secs,
        ..
    } = asked.options;
    let load = Load {
        devices,
        poll_secs,
        secs: asked.secs,
        threads: asked.threads,
        seed,
    };
    let server = std::env::current_exe()?;
    let server: PathBuf = server.with_file_name("server-under-test");
    let loaded = load::run(&load, &server)?;
    print!("{loaded}");
    Ok(loaded.missing == 0)
}

/// Options by name; those that take nothing have an empty value.
fn named(words: impl Iterator<Item = String>) -> Result<BTreeMap<String, String>, String> {
    let mut words = words;
    let mut named = BTreeMap::new();
    while let Some(word) = words.next() {
        let value = match word.as_str() {
            "--calm" | "--load" => String::new(),
            "--devices" | "--seed" | "--poll" | "--look" | "--seconds" | "--threads" | "--only"
            | "--mistake" => words.next().ok_or(format!("{word} needs a value"))?,
            _ => return Err(format!("fleet-sim takes no \"{word}\"")),
        };
        named.insert(word, value);
    }
    Ok(named)
}

fn parse(words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let words = named(words)?;
    let number = |word: &str, default: u32| -> Result<u32, String> {
        let Some(value) = words.get(word) else {
            return Ok(default);
        };
        let parsed = value.parse();
        parsed.map_err(|_| format!("{word} needs a number, not \"{value}\""))
    };
    let is_load = words.contains_key("--load");
    let mut options = Options::new(number("--devices", 300)?, number("--seed", 1)?.into());
    let look_secs = u32::try_from(options.look_secs).unwrap_or(60);
    options.look_secs = number("--look", look_secs)?.into();
    let poll_secs = if is_load { 10 } else { options.poll_secs };
    options.poll_secs = number("--poll", poll_secs)?;
    if words.contains_key("--calm") {
        options.weather = Weather::CALM;
    }
    if let Some(name) = words.get("--mistake") {
        let known = Mistake::ALL.iter().find(|(known, _)| known == name);
        let all = Mistake::ALL.map(|(name, _)| name).join(", ");
        let known = known.ok_or_else(|| format!("mistakes are {all}, not \"{name}\""))?;
        options.mistake = Some(known.1);
    }
    if let Some(names) = words.get("--only") {
        let all = Release::ALL.map(Release::as_str).join(",");
        let named = |name| {
            Release::ALL
                .into_iter()
                .find(|known| known.as_str() == name)
        };
        let only: Option<Vec<Release>> = names.split(',').map(named).collect();
        options.campaigns = only.ok_or_else(|| format!("releases are {all}, not \"{names}\""))?;
    }
    let asked = Asked {
        is_load,
        secs: number("--seconds", 30)?,
        threads: number("--threads", 16)?,
        options,
    };
    let is_good = (1..1_000_000).contains(&asked.options.devices)
        && asked.options.look_secs > 0
        && asked.options.poll_secs > 0
        && (1..=64).contains(&asked.threads);
    if is_good {
        Ok(asked)
    } else {
        Err("expected 1 to 999,999 devices, 1 to 64 threads, and times above 0".to_owned())
    }
}
