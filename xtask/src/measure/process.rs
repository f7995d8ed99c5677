//! What the kernel counts of another process and its children.

use std::fs;
use std::io;
use std::time::Duration;

/// The CPU time of a process and its children so far, all their threads.
pub(crate) fn cpu_time(process: u32) -> io::Result<Duration> {
    let mut nanos = 0_u64;
    for id in with_children(process)? {
        // A child may end while we look.
        let Ok(threads) = fs::read_dir(format!("/proc/{id}/task")) else {
            continue;
        };
        for thread in threads.flatten() {
            let told = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            let first = told
                .split_whitespace()
                .next()
                .and_then(|word| word.parse::<u64>().ok());
            nanos += first.unwrap_or(0);
        }
    }
    Ok(Duration::from_nanos(nanos))
}

/// The CPU time of this process so far, threads that have ended included, to a hundredth of a second.
pub(crate) fn own_cpu_time() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // After the name in parentheses: the 14th and 15th word of all, in hundredths of a second.
    let words = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = words.split_whitespace().skip(11).take(2);
    let ticks = ticks
        .filter_map(|word| word.parse::<u64>().ok())
        .sum::<u64>();
    Ok(Duration::from_millis(ticks * 10))
}

fn with_children(process: u32) -> io::Result<Vec<u32>> {
    let mut found = vec![process];
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // After the name in parentheses: state, then the parent.
        let parent = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if parent.and_then(|word| word.parse::<u32>().ok()) == Some(process) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The memory of a process and its children that is theirs alone, in bytes.
pub(crate) fn private_memory(process: u32) -> io::Result<u64> {
    let mut kib = 0_u64;
    for id in with_children(process)? {
        let told = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
        for name in ["Private_Clean:", "Private_Dirty:"] {
            let line = told.lines().find_map(|line| line.strip_prefix(name));
            let found = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kib += found.ok_or_else(|| io::Error::other(format!("no {name} of process {id}")))?;
        }
    }
    Ok(kib << 10)
}

/// The most memory that this process has had, in bytes.
pub(crate) fn own_peak() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    let kib = kib.and_then(|kib| kib.trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("the system tells no memory"))? << 10)
}
