//! `ceremony.toml`: who will hold which power, agreed on before any key exists.
//!
//! Public keys are named by file, relative to the ceremony's; the name of the file is the name of
//! the holder. What `[targets]` and `[director]` leave out is taken from `[root]`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ampoule_protocol::key::{Key, KeyId};
use ampoule_protocol::metadata::RoleKeys;

use crate::error::{OperatorError, SignerError};
use crate::settings::{Expiries, PRODUCTS_MAX, Product};
use crate::toml_doc::{Document, Section};

/// An example to begin with.
pub const EXAMPLE: &str = r#"# Who holds which power. Read it aloud at the ceremony, then run
#   ampoule-signer init ceremony.toml --workspace release
# Each name is a public key file, made by its holder with "ampoule-signer key generate".

[root]                       # names the keys of every role
threshold = 2
keys = ["alice.pub", "bob.pub", "carol.pub"]

[targets]                    # names products and their keys; left out: as root
threshold = 2
keys = ["alice.pub", "bob.pub", "carol.pub"]

[snapshot]                   # fixes which versions belong together; offline
keys = ["snapshot.pub"]

[timestamp]                  # says what is newest; its key goes to the server
keys = ["timestamp.pub"]

[[product]]
name = "infusion-pump"
hardware = ["pump-mk3"]
threshold = 2                # the engineer makes a release, the safety officer approves it
keys = ["engineer.pub", "safety.pub"]

[director]                   # says who gets what; keys and threshold left out: as root
online = ["director.pub"]    # its key goes to the server

[expiry_days]
root = 365
targets = 365
snapshot = 90
timestamp = 7
"#;

/// Keys of one role; nobody needs more holders.
const KEYS_MAX: usize = 64;
const PATH_LEN_MAX: usize = 4096;

/// A set of holders and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders {
    /// Public key files.
    pub files: Vec<PathBuf>,
    /// Signatures needed.
    pub threshold: u64,
}

/// What a ceremony file says.
#[derive(Debug, Clone)]
pub struct Ceremony {
    /// Root.
    pub root: Holders,
    /// The top-level targets.
    pub targets: Holders,
    /// Snapshot.
    pub snapshot: Holders,
    /// Timestamp.
    pub timestamp: Holders,
    /// Products and their holders.
    pub products: Vec<(Product, Holders)>,
    /// The director's root, and its online keys.
    pub director: Option<(Holders, Holders)>,
    /// For the settings of the workspace.
    pub expiry: Expiries,
}

impl Ceremony {
    /// Reads the file whose text this is; `folder` is where it lies.
    pub fn parse(name: &str, text: &str, folder: &Path) -> Result<Self, SignerError> {
        let document = Document::parse(name, text)?;
        let section = document.root();
        let holders = |name: &'static str, threshold: Option<u64>| {
            section
                .section(name)
                .and_then(|s| finish(s, |s| read(s, "keys", threshold, folder)))
        };
        let root = holders("root", None);
        let targets = if section.has("targets") {
            holders("targets", None)
        } else {
            root.clone()
        };
        let snapshot = holders("snapshot", Some(1));
        let timestamp = holders("timestamp", Some(1));
        for name in ["root", "snapshot", "timestamp"] {
            if !section.has(name) {
                section.fault(format!("[{name}] is missing"));
            }
        }
        let products = section.sections("product", 1..=PRODUCTS_MAX);
        let products: Vec<_> = products
            .into_iter()
            .map(|s| product(&document, s, folder))
            .collect();
        let director = section
            .section("director")
            .map(|s| finish(s, |s| director(s, root.as_ref(), folder)));
        let expiry = Expiries::read(section.section("expiry_days"));
        section.finish();
        let read = (|| {
            Some(Self {
                root: root?,
                targets: targets?,
                snapshot: snapshot?,
                timestamp: timestamp?,
                products: products.into_iter().collect::<Option<_>>()?,
                director: match director {
                    None => None,
                    Some(director) => Some(director?),
                },
                expiry,
            })
        })();
        document.check()?;
        read.ok_or_else(|| SignerError::Ourselves("a fault was found and not noted".to_owned()))
    }

    /// Every public key file that is named, once, with what its key is for.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<String>> {
        let mut files: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        for (what, holders) in self.parts() {
            for file in &holders.files {
                files.entry(file.clone()).or_default().push(what.clone());
            }
        }
        files
    }

    /// The keys that a server must read with nobody present.
    pub fn online_files(&self) -> Vec<&PathBuf> {
        let director = self.director.iter().flat_map(|(_, online)| &online.files);
        self.timestamp.files.iter().chain(director).collect()
    }

    /// Every set of holders with its name.
    pub fn parts(&self) -> Vec<(String, &Holders)> {
        let mut parts = vec![
            ("root".to_owned(), &self.root),
            ("targets".to_owned(), &self.targets),
            ("snapshot".to_owned(), &self.snapshot),
            ("timestamp".to_owned(), &self.timestamp),
        ];
        parts.extend(
            self.products
                .iter()
                .map(|(p, holders)| (p.name.to_string(), holders)),
        );
        if let Some((root, online)) = &self.director {
            parts.push(("director root".to_owned(), root));
            parts.push(("director online".to_owned(), online));
        }
        parts
    }
}

impl Holders {
    /// As metadata names them; `keys` are those of the files.
    ///
    /// # Errors
    /// One key in two files: it counts once, and the ceremony would promise more holders than there
    /// are.
    pub fn role_keys(
        &self,
        role: &str,
        keys: &BTreeMap<PathBuf, Key>,
    ) -> Result<RoleKeys, SignerError> {
        let mut found: Vec<(&PathBuf, &Key)> = Vec::new();
        for file in &self.files {
            let Some(key) = keys.get(file) else { continue };
            let same = |(_, other): &&(&PathBuf, &Key)| other.public() == key.public();
            if let Some((first, _)) = found.iter().find(same) {
                return Err(OperatorError::OneKeyTwice {
                    role: role.to_owned(),
                    first: first.display().to_string(),
                    second: file.display().to_string(),
                }
                .into());
            }
            found.push((file, key));
        }
        let keys: Vec<&Key> = found.into_iter().map(|(_, key)| key).collect();
        role_keys(&keys, self.threshold)
    }
}

/// Keys and a threshold as metadata names them.
///
/// # Errors
/// A threshold that different keys cannot meet. One key under two ids is one key.
pub fn role_keys(keys: &[&Key], threshold: u64) -> Result<RoleKeys, SignerError> {
    let mut materials: Vec<_> = keys
        .iter()
        .filter_map(|k| Some(k.public()?.material()))
        .collect();
    materials.sort();
    materials.dedup();
    if threshold == 0 || threshold > materials.len() as u64 {
        return Err(OperatorError::ImpossibleThreshold {
            threshold,
            keys: materials.len(),
        }
        .into());
    }
    let mut ids: Vec<KeyId> = keys.iter().map(|key| key.id()).collect();
    ids.sort();
    ids.dedup();
    Ok(RoleKeys::new(ids, threshold))
}

fn finish<'d, 'i, T>(
    section: Section<'d, 'i>,
    read: impl FnOnce(&Section<'d, 'i>) -> Option<T>,
) -> Option<T> {
    let value = read(&section);
    section.finish();
    value
}

fn read(
    section: &Section<'_, '_>,
    field: &'static str,
    threshold: Option<u64>,
    folder: &Path,
) -> Option<Holders> {
    let names = section.texts(field, 1..=KEYS_MAX, PATH_LEN_MAX);
    let bounds = 1..=(names.len().max(1) as u64);
    let threshold = match threshold {
        Some(default) => Some(
            section
                .integer_opt("threshold", bounds)
                .map_or(default, |t| t.value),
        ),
        None => section.integer("threshold", bounds).map(|t| t.value),
    };
    let files = names
        .into_iter()
        .map(|name| folder.join(name.value))
        .collect();
    Some(Holders {
        files,
        threshold: threshold?,
    })
}

fn product(
    document: &Document<'_>,
    section: Section<'_, '_>,
    folder: &Path,
) -> Option<(Product, Holders)> {
    let line = section.line();
    let product = Product::read(&section);
    let holders = read(&section, "keys", None, folder);
    section.finish();
    if let Some(product) = &product
        && product.hardware.is_empty()
        && document.is_clean()
    {
        document.fault(
            line,
            format!("product \"{}\" runs on no hardware", product.name),
        );
    }
    Some((product?, holders?))
}

fn director(
    section: &Section<'_, '_>,
    root: Option<&Holders>,
    folder: &Path,
) -> Option<(Holders, Holders)> {
    let online_files = section.texts("online", 1..=KEYS_MAX, PATH_LEN_MAX);
    let online = Holders {
        files: online_files
            .into_iter()
            .map(|name| folder.join(name.value))
            .collect(),
        threshold: 1,
    };
    let own = if section.has("keys") || section.has("threshold") {
        read(section, "keys", None, folder)
    } else {
        root.cloned()
    };
    Some((own?, online))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_reads() {
        let ceremony = Ceremony::parse("ceremony.toml", EXAMPLE, Path::new("c")).unwrap();
        assert_eq!(ceremony.root.threshold, 2);
        assert_eq!(ceremony.files().len(), 8);
        assert_eq!(ceremony.online_files().len(), 2);
        assert_eq!(ceremony.director.unwrap().0, ceremony.root);
    }

    #[test]
    fn a_threshold_above_the_number_of_keys_is_a_fault() {
        let text = EXAMPLE.replacen("threshold = 2", "threshold = 4", 1);
        let error = Ceremony::parse("ceremony.toml", &text, Path::new("c")).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(source, "line 6: threshold of [root] is 4, expected 1 to 3");
    }
}
