//! What `info` shows of a patch: one JSON object for scripts, a table for people.

use std::fmt::Write as _;

use serde_json::json;

use crate::Info;

pub(super) fn json_of(info: &Info) -> String {
    let header = &info.header;
    let parts: serde_json::Map<_, _> = info
        .parts()
        .into_iter()
        .map(|(name, bytes)| (name.to_owned(), json!(bytes)))
        .collect();
    let value = json!({
        "version": header.version,
        "profile": header.profile.as_str(),
        "caps_needed": header.caps_needed.names().collect::<Vec<_>>(),
        "memory_needed": header.memory_needed(),
        "old_len": header.old_len,
        "new_len": header.new_len,
        "old_sha256": hex(&header.old_digest),
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
    format!("{value:#}\n")
}

pub(super) fn table_of(info: &Info) -> String {
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
        format!(
            "{} bytes, sha256 {}",
            header.old_len,
            hex(&header.old_digest)
        ),
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
    text
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
