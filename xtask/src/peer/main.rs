//! The `bsdiff` crate with zstd as a program, so that `cargo xtask bench delta` can measure it
//! beside the others: time and memory of a process of its own.
//!
//! ```text
//! bsdiff-zstd diff OLD NEW PATCH
//! bsdiff-zstd apply OLD PATCH NEW
//! ```

use std::fs;
use std::io;
use std::process::ExitCode;

/// The level that the crates' users take where size matters.
const ZSTD_LEVEL: i32 = 19;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = match words.as_slice() {
        ["diff", old, new, patch] => diff(old, new, patch),
        ["apply", old, patch, new] => apply(old, patch, new),
        _ => Err(io::Error::other(
            "usage: bsdiff-zstd diff OLD NEW PATCH | apply OLD PATCH NEW",
        )),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn diff(old: &str, new: &str, patch: &str) -> io::Result<()> {
    let (old, new) = (fs::read(old)?, fs::read(new)?);
    let mut plain = Vec::new();
    bsdiff::diff(&old, &new, &mut plain)?;
    fs::write(patch, zstd::encode_all(plain.as_slice(), ZSTD_LEVEL)?)
}

fn apply(old: &str, patch: &str, new: &str) -> io::Result<()> {
    let old = fs::read(old)?;
    let packed = fs::File::open(patch)?;
    let mut plain = zstd::Decoder::new(packed)?;
    let mut made = Vec::new();
    bsdiff::patch(&old, &mut plain, &mut made)?;
    fs::write(new, made)
}
