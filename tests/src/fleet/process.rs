//! What the kernel counts of a process.

use std::io;
use std::time::Duration;

/// The CPU time of a process so far, threads that have ended included, to a hundredth of a second.
///
/// # Errors
/// There is no such process, or the kernel tells of it in another way than it does.
pub fn cpu_of(process: u32) -> io::Result<Duration> {
    let told = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // After the name in parentheses: the 14th and 15th word of all, in ticks of a hundredth.
    let words = told.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = words.split_whitespace().skip(11).take(2);
    let ticks: Vec<u64> = ticks.filter_map(|word| word.parse().ok()).collect();
    match ticks.as_slice() {
        [user, kernel] => Ok(Duration::from_millis((user + kernel) * 10)),
        _ => Err(unclear(process)),
    }
}

/// The most memory that a process has had, in KiB.
///
/// # Errors
/// As [`cpu_of`].
pub fn peak_kib(process: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.ok_or_else(|| unclear(process))
}

fn unclear(process: u32) -> io::Error {
    io::Error::other(format!(
        "what the kernel says of process {process} is not understood"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches: a figure that forgets threads which have ended, as those that poll have when it is
    /// asked for.
    #[test]
    fn the_cpu_of_threads_that_have_ended_counts() {
        let process = std::process::id();
        let before = cpu_of(process).expect("ours");
        let least = before + Duration::from_millis(300);
        let burn = move || {
            let mut bytes = Vec::new();
            while cpu_of(process).expect("ours") < least {
                bytes = std::hint::black_box(bytes.len().to_be_bytes().repeat(1000));
            }
        };
        std::thread::spawn(burn).join().expect("it ends");
        assert!(cpu_of(process).expect("ours") >= least);
    }
}
