//! `signer.toml`: what a workspace knows beyond its metadata.
//!
//! ```toml
//! format = 1
//!
//! [expiry_days]
//! root = 365
//! targets = 365
//! snapshot = 90
//! timestamp = 7
//!
//! [[product]]
//! name = "infusion-pump"
//! hardware = ["pump-mk3"]
//! ```
//!
//! Keys and thresholds are not here: root and targets say them, signed, and nothing else may.
//! Names of holders come from `holders/NAME.pub` and are for people alone.

use std::path::Path;

use ampoule_protocol::limits::RELEASE_LIST_MAX;
use ampoule_protocol::name::{HardwareId, ProductName};

use crate::durable;
use crate::error::SignerError;
use crate::toml_doc::{Document, Section, TOML_LEN_MAX};

/// The format that this program writes.
const FORMAT: u64 = 1;
/// Products of one workspace.
pub const PRODUCTS_MAX: usize = 256;
/// Ten years: longer, and an expiry expires nothing.
const EXPIRY_DAYS: std::ops::RangeInclusive<u64> = 1..=3650;
const SECS_PER_DAY: i64 = 86_400;

/// A workspace's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long a newly drafted file holds.
    pub expiry: Expiries,
    /// In the order of the file.
    pub products: Vec<Product>,
}

/// A product and what it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Also the name of its role.
    pub name: ProductName,
    /// Hardware ids that its releases may name.
    pub hardware: Vec<HardwareId>,
}

/// Days until a newly drafted file of each kind expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiries {
    /// Root.
    pub root: u32,
    /// Targets and product roles.
    pub targets: u32,
    /// Snapshot.
    pub snapshot: u32,
    /// Timestamp; the server signs its own, shorter.
    pub timestamp: u32,
}

impl Default for Expiries {
    fn default() -> Self {
        Self {
            root: 365,
            targets: 365,
            snapshot: 90,
            timestamp: 7,
        }
    }
}

impl Expiries {
    /// Days as seconds.
    pub fn secs(days: u32) -> i64 {
        i64::from(days) * SECS_PER_DAY
    }

    /// Reads `[expiry_days]`; what is absent keeps its default.
    pub fn read(section: Option<Section<'_, '_>>) -> Self {
        let mut expiries = Self::default();
        let Some(section) = section else {
            return expiries;
        };
        let fields = [
            ("root", &mut expiries.root),
            ("targets", &mut expiries.targets),
            ("snapshot", &mut expiries.snapshot),
            ("timestamp", &mut expiries.timestamp),
        ];
        for (name, days) in fields {
            if let Some(found) = section.integer_opt(name, EXPIRY_DAYS) {
                *days = u32::try_from(found.value).unwrap_or(*days);
            }
        }
        section.finish();
        expiries
    }
}

impl Settings {
    /// Reads and checks `signer.toml`, telling all faults at once.
    pub fn load(path: &Path) -> Result<Self, SignerError> {
        let bytes = durable::read(path, TOML_LEN_MAX)?;
        let name = path.display().to_string();
        let document = Document::parse(&name, Document::text(&name, &bytes)?)?;
        let root = document.root();
        root.integer("format", FORMAT..=FORMAT);
        let expiry = Expiries::read(root.section("expiry_days"));
        let products = root
            .sections("product", 1..=PRODUCTS_MAX)
            .into_iter()
            .filter_map(|section| {
                let product = Product::read(&section);
                section.finish();
                product
            })
            .collect();
        root.finish();
        document.check()?;
        Ok(Self { expiry, products })
    }

    /// The text of `signer.toml`.
    pub fn to_toml(&self) -> String {
        use std::fmt::Write;
        let Expiries {
            root,
            targets,
            snapshot,
            timestamp,
        } = self.expiry;
        let mut text = format!(
            "# Settings of an ampoule-signer workspace. Keys and thresholds are in the signed\n\
             # metadata, not here.\nformat = {FORMAT}\n\n[expiry_days]\nroot = {root}\n\
             targets = {targets}\nsnapshot = {snapshot}\ntimestamp = {timestamp}\n"
        );
        for product in &self.products {
            let hardware: Vec<_> = product
                .hardware
                .iter()
                .map(|h| format!("\"{h}\""))
                .collect();
            // Names hold letters, digits, '-', '_' and '.': nothing that TOML would escape.
            let _ = write!(
                text,
                "\n[[product]]\nname = \"{}\"\nhardware = [{}]\n",
                product.name,
                hardware.join(", ")
            );
        }
        text
    }

    /// The product of that name.
    pub fn product(&self, name: &str) -> Option<&Product> {
        self.products
            .iter()
            .find(|product| product.name.as_str() == name)
    }
}

impl Product {
    /// Reads the name and hardware of a `[[product]]`; `None` after noting faults.
    pub fn read(section: &Section<'_, '_>) -> Option<Self> {
        let name = section.parsed("name", 128, ProductName::parse);
        let mut hardware = Vec::new();
        for text in section.texts("hardware", 1..=RELEASE_LIST_MAX, 128) {
            match HardwareId::parse(&text) {
                Ok(id) => hardware.push(id),
                Err(e) => section.fault_at(text.line, e.to_string()),
            }
        }
        Some(Self {
            name: name?.value,
            hardware,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let settings = Settings {
            expiry: Expiries {
                root: 100,
                ..Expiries::default()
            },
            products: vec![Product {
                name: ProductName::parse("infusion-pump").unwrap(),
                hardware: vec![HardwareId::parse("pump-mk3").unwrap()],
            }],
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signer.toml");
        std::fs::write(&path, settings.to_toml()).unwrap();
        assert_eq!(Settings::load(&path).unwrap(), settings);
    }
}
