//! What `info` shows of a patch: one JSON object for scripts, a table for people.

use std::fmt::Write as _;

use serde_json::json;

use crate::{InPlaceHeader, Info, Spent};

pub(super) fn json_of(info: &Info, spent: Option<&[Spent]>) -> String {
    let header = &info.header;
    let parts: serde_json::Map<_, _> = info
        .parts()
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), json!(bytes)))
        .collect();
    let mut value = json!({
        "version": header.version,
        "profile": header.profile.as_str(),
        "caps_needed": header.caps_needed.names().collect::<Vec<_>>(),
        "memory_needed": header.memory_needed(),
        "old_len": header.old_len,
        "new_len": header.new_len,
        "old_xxh3": format!("{:016x}", header.old_check),
        "new_sha256": hex(&header.new_digest),
        "patch_len": info.patch_len,
        "regions": info.regions,
        "windows": info.windows,
        "covers": info.covers,
        "copied_exactly": info.copied_exactly,
        "copied_with_differences": info.copied_with_differences,
        "new_bytes": info.new_bytes,
        "bytes": parts,
    });
    if let Some(spent) = spent {
        let one = |spent: &Spent| {
            json!({
                "name": spent.name,
                "length": spent.len,
                "differences": spent.differences,
                "literals": spent.literals,
            })
        };
        value["files"] = spent.iter().map(one).collect();
    }
    format!("{value:#}\n")
}

pub(super) fn table_of(info: &Info, spent: Option<&[Spent]>) -> String {
    let header = &info.header;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<26} {value}");
    };
    line("format version", header.version.to_string());
    line("profile", header.profile.as_str().into());
    line("needs", header.caps_needed.to_string());
    line("memory on the device", header.memory_needed().to_string());
    line(
        "old image",
        format!("{} bytes, xxh3 {:016x}", header.old_len, header.old_check),
    );
    line(
        "new image",
        format!(
            "{} bytes, sha256 {}",
            header.new_len,
            hex(&header.new_digest)
        ),
    );
    line("  copied exactly", info.copied_exactly.to_string());
    line(
        "  copied with differences",
        info.copied_with_differences.to_string(),
    );
    line("  not in the old image", info.new_bytes.to_string());
    line(
        "regions, windows, covers",
        format!("{}, {}, {}", info.regions, info.windows, info.covers),
    );
    line("patch", format!("{} bytes", info.patch_len));
    for (name, bytes) in info.parts() {
        let share = bytes as f64 * 100.0 / info.patch_len as f64;
        line(&format!("  {name}"), format!("{bytes:>12}  {share:5.1} %"));
    }
    if let Some(spent) = spent {
        text.push_str(&files_of(spent));
    }
    text
}

/// What costs the most, by name.
fn files_of(spent: &[Spent]) -> String {
    const ROWS_MAX: usize = 25;
    let mut text = String::from("\n     bytes  differences   literals       of  where\n");
    for one in spent.iter().take(ROWS_MAX) {
        let _ = writeln!(
            text,
            "{:>10} {:>12} {:>10} {:>8}  {}",
            one.total(),
            one.differences,
            one.literals,
            one.len,
            one.name
        );
    }
    if let Some(rest) = spent.get(ROWS_MAX..).filter(|rest| !rest.is_empty()) {
        let bytes: u64 = rest.iter().map(Spent::total).sum();
        let _ = writeln!(
            text,
            "{bytes:>10} in {} more; --json has them all",
            rest.len()
        );
    }
    text
}

/// What a patch in place says of itself.
pub(super) fn in_place(header: &InPlaceHeader, patch_len: usize, as_json: bool) -> String {
    if as_json {
        let value = json!({
            "in_place": true,
            "old_sha256": hex(&header.old_digest),
            "scratch_len": header.scratch_len,
            "window_max": header.staged_max,
            "steps": header.steps,
            "plan_len": header.plan_len,
            "patch_len": patch_len,
        });
        return format!("{value:#}\n");
    }
    let old = hex(&header.old_digest);
    let mut text = format!("a patch in place\n{:<26} sha256 {old}\n", "old image");
    for (name, number) in [
        ("scratch on the device", header.scratch_len),
        ("  longest window", header.staged_max),
        (
            "  kept for later steps",
            header.scratch_len - header.staged_max,
        ),
        ("steps", header.steps),
        ("plan", header.plan_len),
        ("patch", patch_len as u64),
    ] {
        let _ = writeln!(text, "{name:<26} {number}");
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
