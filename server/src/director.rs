//! Serves each device its own director repository: which release this one device gets.
//!
//! What is signed is a pure function of the device, its assignment and the time in coarse steps
//! ([`ampoule_protocol::director::Issue`]). So nothing about it is stored: after a restart, or on
//! another replica, the same bytes are made again. Signing happens when a device asks for the
//! first time after its assignment changed or a step of time began, not at every poll; what was
//! signed is kept in memory for as many devices as the configuration says.
//!
//! Invariants:
//! - A device is served its own metadata and nobody else's: the id comes from its certificate.
//! - What is signed was durable before ([`crate::rollouts`] publishes after the store's writer).
//! - Versions are times, and the times handed in never fall.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ampoule_protocol::director::{Issue, Issued, Terms};
use ampoule_protocol::metadata::{Envelope, Payload, RoleType, Root};
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::paths::{self, METADATA_DIR, TIMESTAMP_FILE};
use ampoule_protocol::release::FileRef;
use ampoule_protocol::sign::Sign;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::KeyRing;

use crate::config;
use crate::error::ServerError;
use crate::online;
use crate::published::Document;

/// Bytes of a root that are read at most.
const ROOT_LEN_MAX: u64 = 1 << 20;

/// What a device is assigned, as it is published.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assigned {
    /// Unix time of the last change.
    pub changed_at: i64,
    /// The offer, if there is one.
    pub offer: Option<Arc<(FileRef, Terms)>>,
}

/// The online key and what it signed lately.
pub struct Director {
    key: Box<dyn Sign + Send + Sync>,
    roots: PathBuf,
    fresh_secs: i64,
    content_secs: i64,
    kept_max: usize,
    kept: Mutex<HashMap<DeviceId, Kept>>,
}

struct Kept {
    content_at: UtcTime,
    fresh_at: UtcTime,
    issued: Arc<Issued>,
    /// Served to a device that is between two requests of one refresh.
    previous: Option<Arc<Issued>>,
}

/// What was found under a name.
pub struct Found {
    /// The file.
    pub document: Document,
    /// Whether the name says what it holds.
    pub immutable: bool,
    /// Whether the device has its newest assignment when it has this.
    pub tells: bool,
}

impl Director {
    /// Reads the key.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn load(config: &config::Director) -> Result<Self, ServerError> {
        let secs = |time: std::time::Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Ok(Self {
            key: online::load_key("director key", &config.key)?,
            roots: config.roots.clone(),
            fresh_secs: secs(config.expiry),
            content_secs: secs(config.content_expiry),
            kept_max: config.signed_for_max,
            kept: Mutex::default(),
        })
    }

    /// Whether the newest root that devices can find names the key.
    ///
    /// # Errors
    /// It does not, or there is no root: devices would refuse all that is signed.
    pub fn try_out(config: &config::Director) -> Result<(), ServerError> {
        let director = Self::load(config)?;
        let mut newest = None;
        for version in 1.. {
            let name = format!("{version}.root.json");
            match read(&director.roots.join(&name))? {
                Some(bytes) => newest = Some((name, bytes)),
                None => break,
            }
        }
        let bad = |fault: String| ServerError::Pki {
            what: "director key",
            path: config.key.clone(),
            fault,
        };
        let Some((name, bytes)) = newest else {
            let roots = director.roots.display();
            return Err(bad(format!(
                "has no root: there is no 1.root.json in \"{roots}\""
            )));
        };
        let root = Envelope::parse(&bytes)
            .ok()
            .and_then(|envelope| Root::from_signed(envelope.unverified()).ok());
        let root = root.ok_or_else(|| bad(format!("has no root: {name} is not one")))?;
        let key = director.key.public_key();
        let names = |role| {
            KeyRing::of_root(&root, role)
                .keys()
                .any(|(_, known)| known == key)
        };
        let online = [RoleType::Targets, RoleType::Snapshot, RoleType::Timestamp];
        if online.into_iter().all(names) {
            return Ok(());
        }
        Err(bad(format!("is not the one that {name} names")))
    }

    /// What `path`, below `/tuf/director/`, leads to for this device.
    ///
    /// # Errors
    /// The disk or the key failed.
    pub fn find(
        &self,
        device: &DeviceId,
        assigned: &Assigned,
        path: &str,
        now: UtcTime,
    ) -> Result<Option<Found>, ServerError> {
        let Some((METADATA_DIR, name)) = path.split_once('/') else {
            return Ok(None);
        };
        if let Some(version) = name.strip_suffix(".root.json") {
            return self.root(version);
        }
        let (issued, previous) = self.issued(device, assigned, now)?;
        let document = |bytes: &[u8], immutable, tells| Found {
            document: Document::plain(bytes.to_vec()),
            immutable,
            tells,
        };
        if name == TIMESTAMP_FILE {
            return Ok(Some(document(&issued.timestamp, false, false)));
        }
        for (at, issued) in [Some(issued), previous].into_iter().flatten().enumerate() {
            let version = Some(issued.content_version);
            if name == paths::snapshot_file(version) {
                return Ok(Some(document(&issued.snapshot, true, false)));
            }
            if name == paths::role_file(&ampoule_protocol::name::RoleName::targets(), version) {
                return Ok(Some(document(&issued.targets, true, at == 0)));
            }
        }
        Ok(None)
    }

    /// A root of the chain, made offline and copied here.
    fn root(&self, version: &str) -> Result<Option<Found>, ServerError> {
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(None);
        }
        let path = self.roots.join(format!("{version}.root.json"));
        let bytes = read(&path)?;
        Ok(bytes.map(|bytes| Found {
            document: Document::plain(bytes),
            immutable: true,
            tells: false,
        }))
    }

    fn issued(
        &self,
        device: &DeviceId,
        assigned: &Assigned,
        now: UtcTime,
    ) -> Result<(Arc<Issued>, Option<Arc<Issued>>), ServerError> {
        let changed_at = UtcTime::from_unix(assigned.changed_at);
        let content_at = changed_at.max(step(now, self.content_secs / 2));
        let fresh_at = content_at.max(step(now, self.fresh_secs / 2));
        if let Some(known) = self.kept().get(device)
            && (known.content_at, known.fresh_at) == (content_at, fresh_at)
        {
            return Ok((known.issued.clone(), known.previous.clone()));
        }
        let issue = Issue {
            device,
            offer: assigned
                .offer
                .as_ref()
                .map(|offer| (&offer.0, offer.1.clone())),
            content_at,
            content_secs: self.content_secs,
            fresh_at,
            fresh_secs: self.fresh_secs,
        };
        let fault = |error: ampoule_protocol::repo::RepoError| {
            ServerError::Director(ampoule_protocol::error::chain(&error, None))
        };
        // Others are answered meanwhile: a key in a token takes its time.
        let issued = Arc::new(issue.sign(self.key.as_ref()).map_err(fault)?);
        let mut kept = self.kept();
        if let Some(known) = kept.get(device)
            && (known.content_at, known.fresh_at) >= (content_at, fresh_at)
        {
            // Another request of the device was quicker.
            return Ok((known.issued.clone(), known.previous.clone()));
        }
        if kept.len() >= self.kept_max && !kept.contains_key(device) {
            // Whoever asks next is signed for again; that costs a signature, not correctness.
            kept.clear();
        }
        let previous = kept.remove(device).map(|known| known.issued);
        let entry = Kept {
            content_at,
            fresh_at,
            issued: issued.clone(),
            previous: previous.clone(),
        };
        kept.insert(device.clone(), entry);
        Ok((issued, previous))
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<DeviceId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last whole step of time.
fn step(now: UtcTime, secs: i64) -> UtcTime {
    let secs = secs.max(1);
    UtcTime::from_unix(now.unix().div_euclid(secs) * secs)
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, ServerError> {
    let len = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(ServerError::file("read", path)(error)),
    };
    if len > ROOT_LEN_MAX {
        let what = format!(
            "{} has {len} bytes, {ROOT_LEN_MAX} are allowed",
            path.display()
        );
        return Err(ServerError::Director(what));
    }
    std::fs::read(path)
        .map(Some)
        .map_err(ServerError::file("read", path))
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use ampoule_protocol::key::PublicKey;
    use ampoule_protocol::sign::{Ed25519Key, SignError};

    fn key() -> Ed25519Key {
        Ed25519Key::from_seed(&[7; 32]).unwrap()
    }

    fn director() -> Director {
        signing_by(Box::new(key()))
    }

    fn signing_by(key: Box<dyn Sign + Send + Sync>) -> Director {
        Director {
            key,
            roots: PathBuf::from("/nowhere"),
            fresh_secs: 86_400,
            content_secs: 14 * 86_400,
            kept_max: 2,
            kept: Mutex::default(),
        }
    }

    fn timestamp(director: &Director, device: &DeviceId, assigned: &Assigned, now: i64) -> Vec<u8> {
        let found = director.find(
            device,
            assigned,
            "metadata/timestamp.json",
            UtcTime::from_unix(now),
        );
        found.unwrap().unwrap().document.plain.bytes.to_vec()
    }

    #[test]
    fn the_same_is_signed_again_after_a_restart_and_nothing_is_signed_twice() {
        let device = DeviceId::parse("pump-1").unwrap();
        let assigned = Assigned {
            changed_at: 1_900_000_000,
            offer: None,
        };
        let (one, two) = (director(), director());
        let first = timestamp(&one, &device, &assigned, 1_900_000_010);
        assert_eq!(first, timestamp(&one, &device, &assigned, 1_900_000_020));
        assert_eq!(first, timestamp(&two, &device, &assigned, 1_900_000_030));
        let later = timestamp(&one, &device, &assigned, 1_900_000_010 + 43_200);
        assert_ne!(first, later, "it is signed again before it lapses");
        assert_eq!(one.kept.lock().unwrap().len(), 1);
    }

    /// Catches files that are kept for every device that ever asked.
    #[test]
    fn no_more_is_kept_than_the_configuration_says() {
        let director = director();
        for number in 0..10 {
            let device = DeviceId::parse(&format!("pump-{number}")).unwrap();
            timestamp(&director, &device, &Assigned::default(), 1_900_000_010);
            assert!(director.kept().len() <= director.kept_max, "{number}");
        }
    }

    type Meanwhile = Arc<OnceLock<Box<dyn Fn() + Send + Sync>>>;

    /// While it signs for the first time, something else happens.
    struct Slow {
        key: Ed25519Key,
        meanwhile: Meanwhile,
        begun: OnceLock<()>,
    }

    impl Sign for Slow {
        fn public_key(&self) -> &PublicKey {
            self.key.public_key()
        }

        fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
            if self.begun.set(()).is_ok() {
                self.meanwhile.get().expect("it was set")();
            }
            self.key.sign(message)
        }
    }

    /// A token signs slowly, and for some keys never the same bytes twice. Catches a request that was
    /// overtaken and replaces what a later one was told, whose snapshot nobody finds then.
    #[test]
    fn what_was_told_last_stays() {
        let meanwhile = Meanwhile::default();
        let director = Arc::new(signing_by(Box::new(Slow {
            key: key(),
            meanwhile: meanwhile.clone(),
            begun: OnceLock::new(),
        })));
        let device = DeviceId::parse("pump-1").unwrap();
        let at = |changed_at| Assigned {
            changed_at,
            offer: None,
        };
        let newer = {
            let (director, device) = (director.clone(), device.clone());
            move || timestamp(&director, &device, &at(1_900_000_005), 1_900_000_010)
        };
        let told = Arc::new(OnceLock::new());
        let tell = told.clone();
        let ask = newer.clone();
        let overtake = Box::new(move || tell.set(ask()).expect("once"));
        assert!(meanwhile.set(overtake).is_ok());
        let older = timestamp(&director, &device, &at(1_900_000_000), 1_900_000_010);
        assert_eq!(
            Some(&older),
            told.get(),
            "it was overtaken, and says the newer"
        );
        let kept = director.kept()[&device].content_at;
        assert_eq!(kept, UtcTime::from_unix(1_900_000_005));
    }
}
