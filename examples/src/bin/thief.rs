//! What someone can forge who stole the one key that is on the server.
//!
//! ```text
//! thief TREE KEY PRODUCT IMAGE OUT
//! ```
//!
//! Copies the metadata of the published TREE to OUT and adds to it, all signed with KEY (PKCS#8,
//! PEM): a next version of PRODUCT's role whose every artifact is IMAGE, a next snapshot that
//! names it and a next timestamp that names that. The timestamp is well signed: that is what the
//! key is for. `cargo xtask demo` serves the result to a device and shows what it says.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::metadata::{
    Envelope, MetaFile, Payload, Snapshot, TargetFile, Targets, Timestamp,
};
use ampoule_protocol::name::RoleName;
use ampoule_protocol::paths;
use ampoule_protocol::repo::Draft;
use ampoule_protocol::sign::Ed25519Key;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [tree, key, product, image, out] = arguments.as_slice() else {
        eprintln!("error: usage: thief TREE KEY PRODUCT IMAGE OUT");
        return ExitCode::from(2);
    };
    let paths = [tree, key, image, out].map(Path::new);
    match forge(paths, product) {
        Ok(forged) => {
            println!("{forged}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn forge([tree, key, image, out]: [&Path; 4], product: &str) -> Result<String, Box<dyn Error>> {
    let key = Ed25519Key::from_pkcs8_pem(&fs::read_to_string(key)?)?;
    let product = RoleName::parse(product)?;
    let from = tree.join(paths::METADATA_DIR);
    let to = out.join(paths::METADATA_DIR);
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }

    let mut timestamp: Timestamp = read(&from.join(paths::TIMESTAMP_FILE))?;
    let snapshot_file = paths::snapshot_file(Some(timestamp.snapshot.version));
    let mut snapshot: Snapshot = read(&from.join(snapshot_file))?;
    let listed = snapshot
        .role(&product)
        .ok_or("the snapshot names no such product")?;
    let mut role: Targets = read(&from.join(paths::role_file(&product, Some(listed.version))))?;

    let evil = fs::read(image)?;
    for (path, target) in &mut role.targets {
        if target.custom.is_none() || path.base_name().starts_with("release-") {
            continue;
        }
        *target = TargetFile {
            custom: target.custom.take(),
            ..TargetFile::new(evil.len() as u64, Digest::of(&evil))
        };
        let blob = out
            .join(paths::TARGETS_DIR)
            .join(paths::target_file(path, Some(&target.hashes)));
        fs::create_dir_all(blob.parent().ok_or("a blob has a folder")?)?;
        fs::write(blob, &evil)?;
    }

    role.common.bump(timestamp.common.expires)?;
    let bytes = signed(&role, &key)?;
    fs::write(
        to.join(paths::role_file(&product, Some(role.version()))),
        &bytes,
    )?;
    snapshot.meta.insert(
        Snapshot::meta_name(&product),
        MetaFile::of(role.version(), &bytes),
    );
    snapshot.common.bump(timestamp.common.expires)?;
    let bytes = signed(&snapshot, &key)?;
    fs::write(
        to.join(paths::snapshot_file(Some(snapshot.version()))),
        &bytes,
    )?;
    timestamp.snapshot = MetaFile::of(snapshot.version(), &bytes);
    timestamp.common.bump(timestamp.common.expires)?;
    fs::write(to.join(paths::TIMESTAMP_FILE), signed(&timestamp, &key)?)?;
    Ok(format!(
        "forged {product} {}, snapshot {} and timestamp {}",
        role.version(),
        snapshot.version(),
        timestamp.version()
    ))
}

fn read<T: Payload>(file: &Path) -> Result<T, Box<dyn Error>> {
    let bytes = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(T::from_signed(Envelope::parse(&bytes)?.unverified())?)
}

fn signed(payload: &impl Payload, key: &Ed25519Key) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut draft = Draft::new(payload);
    draft.sign(key)?;
    Ok(draft.to_bytes())
}
