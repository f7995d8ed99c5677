//! What real tools compressed is opened: unpacked for the difference, packed again to its very bytes.
//!
//! Method: each story packs an image and its successor with a tool of the field, makes a patch with
//! all caps and one with none, applies the first, and compares sizes. A stream that could not be
//! reproduced would cost what it costs plain, so the claim is that opening saves most of the patch,
//! and that the patch needs the re-encoder.
//!
//! Mistakes that these are meant to find: blocks of gzip ended by zlib's count; a window that slides
//! late; a hash of memLevel 9 at memLevel 8; an Adler-32 left out. One was found by them: a block's
//! header of `dpkg-deb`, which leaves more room than its sizes take.
#![cfg(target_os = "linux")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "the images of these tests are small"
)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};

use ampoule_delta::{Caps, DiffOptions, Profile, header};
use common::{PROGRAM, applied, noise, patch_of};

/// Words of different lengths in no order: like text, it compresses to about a third.
fn text(len: usize, seed: u64) -> Vec<u8> {
    let letters = noise(4096, 99);
    let mut out = Vec::with_capacity(len + 16);
    for pair in noise(len, seed).chunks_exact(2) {
        if out.len() >= len {
            break;
        }
        let word = usize::from(pair[0]) * usize::from(pair[0] >> 3) / 8;
        let size = 2 + usize::from(letters[word] % 9);
        out.extend(
            letters[word..word + size]
                .iter()
                .map(|byte| b'a' + byte % 26),
        );
        out.push(if pair[1] < 20 { b'\n' } else { b' ' });
    }
    out.truncate(len);
    out
}

/// An image and its successor, one with insertions, removals and changes here and there.
fn texts(len: usize) -> (Vec<u8>, Vec<u8>) {
    let old = text(len, 5);
    let mut new = old.clone();
    for at in (1000..len - 1000).step_by(len / 9) {
        new.splice(at..at, *b"something inserted");
        new.drain(at + 500..at + 507);
        new[at + 800] ^= 1;
    }
    (old, new)
}

/// Runs a tool in a folder with `input`; what it writes.
fn tool(folder: &Path, line: &str, input: &[u8]) -> Vec<u8> {
    std::fs::write(folder.join("input"), input).expect("a file");
    let ended = Command::new("sh")
        .args(["-ec", line])
        .current_dir(folder)
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .stdin(std::fs::File::open(folder.join("input")).expect("a file"))
        .stderr(Stdio::piped())
        .output()
        .expect("a shell");
    assert!(
        ended.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&ended.stderr)
    );
    ended.stdout
}

/// Whether parts that need tools are left out on purpose.
fn offline() -> bool {
    std::env::var_os("AMPOULE_TEST_OFFLINE").is_some()
}

fn options(caps: Caps) -> DiffOptions {
    DiffOptions {
        profile: Profile::Small,
        caps,
        memory_max: 256 << 20,
        ..DiffOptions::default()
    }
}

/// What the edits of [`texts`] cost at most when nothing but they travels: no corrections do.
const EXACT_MAX: usize = 1500;

/// Claims that a pair is opened: the patch needs `cap` and is smaller than half of a plain one.
/// What came out of a known program is reproduced without corrections.
fn opened(name: &str, (old, new): (&[u8], &[u8]), cap: Caps) {
    let patch = patch_of(old, new, &options(Caps::all()));
    let plain = patch_of(old, new, &options(Caps::NONE));
    let needed = header(&patch).expect("it reads").caps_needed;
    assert!(needed.contains(cap), "{name}: it needs {needed}");
    assert!(
        patch.len() * 2 < plain.len(),
        "{name}: {} bytes opened, {} plain",
        patch.len(),
        plain.len()
    );
    let has_corrections = name == "flate2" || name.contains("erofs");
    assert!(
        has_corrections || patch.len() < EXACT_MAX,
        "{name}: {} bytes",
        patch.len()
    );
    assert_eq!(applied(old, &patch).expect("it applies"), new, "{name}");
}

/// Packs both texts with one tool.
fn opened_as(line: &str, len: usize, cap: Caps) {
    if offline() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = texts(len);
    let pack = |plain: &[u8]| tool(folder.path(), line, plain);
    opened(line, (&pack(&old), &pack(&new)), cap);
}

#[test]
fn gzip_is_opened_at_each_level() {
    for level in 1..=9 {
        opened_as(&format!("gzip -n -{level}"), 300_000, Caps::ZLIB);
    }
}

#[test]
fn a_gzip_of_several_windows_is_opened() {
    opened_as("gzip -n -9", 1_500_000, Caps::ZLIB);
    opened_as("gzip -n -6", 1_500_000, Caps::ZLIB);
}

#[test]
fn zlib_is_opened_at_each_level_and_memory() {
    for level in 1..=9 {
        let line = format!(
            "python3 -c 'import sys,zlib; sys.stdout.buffer.write(zlib.compress(sys.stdin.buffer.read(),{level}))'"
        );
        opened_as(&line, 300_000, Caps::ZLIB);
    }
    let line = "python3 -c 'import sys,zlib; c=zlib.compressobj(9,8,15,9); d=sys.stdin.buffer.read(); sys.stdout.buffer.write(c.compress(d)+c.flush())'";
    opened_as(line, 300_000, Caps::ZLIB);
}

#[test]
fn zip_members_are_opened() {
    opened_as(
        "cat > a && rm -f z.zip && zip -q -X z.zip a && cat z.zip",
        300_000,
        Caps::ZLIB,
    );
    opened_as(
        "cat > a && python3 -c 'import zipfile; z=zipfile.ZipFile(\"w.whl\",\"w\",8); z.write(\"a\")' && cat w.whl",
        300_000,
        Caps::ZLIB,
    );
}

#[test]
fn zstd_is_opened() {
    for level in ["-1", "-3", "-15", "-19", "-3 --no-check"] {
        opened_as(&format!("zstd -q {level} -c input"), 120_000, Caps::ZSTD);
    }
    opened_as("zstd -q -19 -c", 400_000, Caps::ZSTD);
    opened_as("zstd -q --single-thread -3 -c input", 700_000, Caps::ZSTD);
}

/// The last copies of each block follow from bytes behind it, and are told: a patch is larger than
/// where nothing but edits travels.
#[test]
fn erofs_is_opened() {
    for how in ["-zlz4hc", "-zlz4", "-zlz4hc,12", "-zlz4hc -C65536"] {
        let line = format!(
            "rm -rf t o; mkdir t; cp input t/a; head -c 30000 input >t/b; \
             mkfs.erofs {how} -T0 -U 6b3ba9b0-7c2c-4a1c-8f6a-1f3a5d0f8a11 o t >&2; cat o"
        );
        opened_as(&line, 900_000, Caps::LZ4);
    }
}

/// Catches a patch that takes all that devices give where less is enough: with room, it would keep
/// more of the old image decoded.
#[test]
fn blocks_of_a_file_system_take_ten_mebibytes() {
    if offline() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let line = "xz -T1 --block-size=131072 --lzma2=preset=6,dict=384KiB -c";
    let (old, new) = texts(1_500_000);
    let old = tool(folder.path(), line, &old);
    let mut new = tool(folder.path(), line, &new);
    // A long frame with a large model takes room as well.
    new.extend(noise(2 << 20, 7));
    let patch = patch_of(&old, &new, &options(Caps::all()));
    let header = header(&patch).expect("it reads");
    assert!(header.caps_needed.contains(Caps::XZ), "it is opened");
    let needed = header.memory_needed();
    assert!(needed <= (10 << 20) - PROGRAM, "{needed} bytes");
    // Not at the cost of decoding the same extents again and again.
    assert!(header.limits.cache_max >= 3 << 20, "{:?}", header.limits);
    assert_eq!(applied(&old, &patch).expect("it applies"), new);
}

#[test]
fn xz_is_opened_with_filters_and_in_blocks() {
    opened_as("xz -1 -c", 200_000, Caps::XZ);
    opened_as("xz -2 --check=sha256 -c", 200_000, Caps::XZ);
    opened_as("xz -T2 -1 --block-size=100000 -c", 300_000, Caps::XZ);
    for filter in ["x86", "arm", "armthumb", "powerpc", "arm64"] {
        opened_as(
            &format!("xz --{filter} --lzma2=preset=1 -c"),
            100_000,
            Caps::XZ,
        );
    }
}

#[test]
fn lz4_frames_are_opened() {
    opened_as("lz4 -q -9 -l -c input", 300_000, Caps::LZ4);
    opened_as("lz4 -q -9 -c input", 300_000, Caps::LZ4);
    opened_as("lz4 -q -1 -c input", 300_000, Caps::LZ4);
}

#[test]
fn an_initramfs_of_several_members_is_opened() {
    let members = "cat > a && head -c 50000 a > early && (echo early | cpio -o -H newc --reproducible && echo a | cpio -o -H newc --reproducible | PACK) 2>/dev/null";
    for (pack, cap) in [
        ("gzip -n -9", Caps::ZLIB),
        ("xz --check=crc32 -1", Caps::XZ),
        ("zstd -q -19", Caps::ZSTD),
        ("lz4 -q -l -9", Caps::LZ4),
    ] {
        opened_as(&members.replace("PACK", pack), 200_000, cap);
    }
}

#[test]
fn a_debian_package_is_opened() {
    for pack in ["xz", "gzip", "zstd"] {
        let line = format!(
            "rm -rf p && mkdir -p p/DEBIAN && cat > p/a && printf 'Package: a\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b.c>\\nDescription: a\\n' > p/DEBIAN/control && touch -d @1700000000 p/a p/DEBIAN/control p/DEBIAN p && dpkg-deb --root-owner-group -Z{pack} -z3 -b p o.deb >&2 && cat o.deb"
        );
        let cap = match pack {
            "xz" => Caps::XZ,
            "gzip" => Caps::ZLIB,
            _ => Caps::ZSTD,
        };
        opened_as(&line, 200_000, cap);
    }
}

#[test]
fn squashfs_blocks_are_opened() {
    for (pack, cap) in [
        ("gzip", Caps::ZLIB),
        ("xz", Caps::XZ),
        ("xz -Xbcj x86", Caps::XZ),
        ("zstd", Caps::ZSTD),
    ] {
        let line = format!(
            "rm -rf t o.sq && mkdir t && cat > t/a && mksquashfs t o.sq -comp {pack} -b 65536 -quiet -no-progress -all-root -no-xattrs >/dev/null && cat o.sq"
        );
        opened_as(&line, 400_000, cap);
    }
}

/// What no known program wrote is corrected where the prediction fails.
#[test]
fn deflate_of_others_is_opened_with_corrections() {
    use std::io::Write as _;
    let pack = |plain: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        writer.write_all(plain).expect("it packs");
        writer.finish().expect("it ends")
    };
    let (old, new) = texts(300_000);
    opened("flate2", (&pack(&old), &pack(&new)), Caps::ZLIB);
}

/// A stream that ends early, or whose bytes were changed, is copied as it is.
#[test]
fn damaged_streams_stay_closed() {
    use std::io::Write as _;
    let (old, new) = texts(60_000);
    let pack = |plain: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        writer.write_all(plain).expect("it packs");
        writer.finish().expect("it ends")
    };
    let (old, whole) = (pack(&old), pack(&new));
    for cut in (1..whole.len()).step_by(whole.len() / 40) {
        let mut bad = whole.clone();
        bad[cut] ^= 0x40;
        for new in [&whole[..cut], &bad[..]] {
            let patch = patch_of(&old, new, &options(Caps::all()));
            assert_eq!(applied(&old, &patch).expect("it applies"), new, "at {cut}");
        }
    }
}
