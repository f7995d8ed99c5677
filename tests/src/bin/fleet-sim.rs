//! `cargo xtask fleet-sim`: a whole fleet in one process, or over real sockets (see
//! `ampoule_tests::fleet`).

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use ampoule_tests::fleet::load::{self, Load};
use ampoule_tests::fleet::{Options, Weather, run};

const USAGE: &str = "\
fleet-sim [--devices N] [--seed S] [--poll SECS] [--look SECS] [--calm]
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
    println!(
        "{:>8.0?} of real time, {:.0?} for a waking",
        took,
        took / wakings
    );
    if let Some(kib) = peak_kib() {
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

fn parse(words: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked {
        options: Options::new(300, 1),
        is_load: false,
        secs: 30,
        threads: 16,
    };
    let mut has_poll = false;
    let mut words = words;
    while let Some(word) = words.next() {
        let mut number = || -> Result<u32, String> {
            let value = words.next().ok_or(format!("{word} needs a number"))?;
            let parsed = value.parse();
            parsed.map_err(|_| format!("{word} needs a number, not \"{value}\""))
        };
        let options = &mut asked.options;
        match word.as_str() {
            "--devices" => options.devices = number()?,
            "--seed" => options.seed = number()?.into(),
            "--look" => options.look_secs = number()?.into(),
            "--poll" => {
                options.poll_secs = number()?;
                has_poll = true;
            }
            "--calm" => options.weather = Weather::CALM,
            "--load" => asked.is_load = true,
            "--seconds" => asked.secs = number()?,
            "--threads" => asked.threads = number()?,
            _ => return Err(format!("fleet-sim takes no \"{word}\"")),
        }
    }
    let options = &mut asked.options;
    if asked.is_load && !has_poll {
        options.poll_secs = 10;
    }
    let is_good = (1..1_000_000).contains(&options.devices)
        && options.look_secs > 0
        && options.poll_secs > 0
        && (1..=64).contains(&asked.threads);
    if is_good {
        Ok(asked)
    } else {
        Err("expected 1 to 999,999 devices, 1 to 64 threads, and times above 0".to_owned())
    }
}

fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
