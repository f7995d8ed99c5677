//! A signing request: one file that travels to each holder and back (docs/guide/signing.md).
//!
//! It carries the draft with the signatures made so far, the last signed version, so that a
//! holder sees in words what changed, and the metadata that names who must sign. Holders work on
//! machines that never meet: any order, any copy, and [`Request::merge`] brings copies together.
//!
//! ```json
//! {"_type":"ampoule-signing-request","format":1,"repository":"image","role":"infusion-pump",
//!  "envelope":{"signatures":[],"signed":{…}},
//!  "previous":{…},
//!  "chain":[{…root…},{…targets…}],
//!  "former":{…root…},
//!  "holders":{"4f2a…":"alice"}}
//! ```
//!
//! Invariants:
//! - The signed bytes never change once a request has a signature.
//! - Names of holders are for people and decide nothing; keys and thresholds come from `chain`
//!   and `previous`, and publication checks them again against the tree.

use std::collections::BTreeMap;
use std::path::Path;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::json::{self, Map, Value};
use ampoule_protocol::key::{KeyId, PublicKey};
use ampoule_protocol::metadata::{Envelope, Payload, RoleType, Root, Signature, Targets};
use ampoule_protocol::name::RoleName;
use ampoule_protocol::repo::Draft;
use ampoule_protocol::trust::KeyRing;

use crate::durable::{self, Access, Disk};
use crate::error::{OperatorError, SignerError, TreeError};
use crate::layout::Repository;

/// Bytes of a request we read: two versions of targets and a chain.
pub const REQUEST_LEN_MAX: u64 = 64 << 20;
const TYPE: &str = "ampoule-signing-request";
const FORMAT: u64 = 1;

/// A draft on its way through the hands of its signers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Which repository it belongs to.
    pub repository: Repository,
    /// Which role: `root`, `targets`, `snapshot`, `timestamp`, or a product's.
    pub role: RoleName,
    /// The draft and its signatures.
    pub envelope: Envelope,
    /// The last signed version.
    pub previous: Option<Envelope>,
    /// Who names the signers: nothing for root, root for top-level roles, root and targets for
    /// products.
    pub chain: Vec<Envelope>,
    /// The published root, where it names other keys for this role than the one that is coming.
    /// Their signatures are welcome and none of them is needed: a device that has not seen the new
    /// root yet believes the file by them.
    pub former: Option<Envelope>,
    /// Names of holders by key id, for people.
    pub holders: BTreeMap<String, String>,
}

/// One set of keys whose threshold a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Who asks: `root version 2`, `the root before it`, ….
    pub by: String,
    /// All keys that count, by id.
    pub keys: Vec<(KeyId, PublicKey)>,
    /// Signatures needed.
    pub threshold: u64,
    /// Ids whose signatures verify, one per key material.
    pub signed: Vec<KeyId>,
}

impl Need {
    fn new(by: String, ring: &KeyRing<'_>, envelope: &Envelope) -> Self {
        Self {
            by,
            keys: ring
                .keys()
                .map(|(id, key)| (id.clone(), key.clone()))
                .collect(),
            threshold: ring.threshold(),
            signed: ring.signers(envelope),
        }
    }

    /// Whether enough have signed.
    pub fn is_met(&self) -> bool {
        self.signed.len() as u64 >= self.threshold
    }
}

impl Request {
    /// A draft without signatures.
    pub fn draft(repository: Repository, role: RoleName, signed: Value) -> Self {
        Self {
            repository,
            role,
            envelope: unsigned(signed),
            previous: None,
            chain: Vec::new(),
            former: None,
            holders: BTreeMap::new(),
        }
    }

    /// The kind of metadata that the role signs.
    pub fn kind(&self) -> RoleType {
        match self.role.as_str() {
            "root" => RoleType::Root,
            "snapshot" => RoleType::Snapshot,
            "timestamp" => RoleType::Timestamp,
            _ => RoleType::Targets,
        }
    }

    /// The drafted version; 0 where the draft has none.
    pub fn version(&self) -> u64 {
        self.envelope
            .unverified()
            .member("version")
            .and_then(Value::as_u64)
            .unwrap_or(0)
    }

    /// SHA-256 of the bytes that signatures cover: what two holders compare over the telephone.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.envelope.signed_bytes())
    }

    /// `root version 2`, with the repository where it is the director's.
    pub fn title(&self) -> String {
        match self.repository {
            Repository::Image => format!("{} version {}", self.role, self.version()),
            Repository::Director => format!("director {} version {}", self.role, self.version()),
        }
    }

    /// Whose signatures it needs, and who has signed.
    ///
    /// Root is signed by a threshold of its own keys and of the keys before (TUF 1.0.34 section
    /// 6.1), every other role by the keys that its delegator names.
    pub fn needs(&self) -> Result<Vec<Need>, SignerError> {
        if self.kind() == RoleType::Root {
            let new = payload::<Root>(&self.envelope)?;
            let ring = KeyRing::of_root(&new, RoleType::Root);
            let mut needs = vec![Need::new(self.title(), &ring, &self.envelope)];
            if let Some(previous) = &self.previous {
                let old = payload::<Root>(previous)?;
                let ring = KeyRing::of_root(&old, RoleType::Root);
                let by = format!("root version {}, the one before", old.common.version);
                needs.push(Need::new(by, &ring, &self.envelope));
            }
            return Ok(needs);
        }
        let [root, above @ ..] = self.chain.as_slice() else {
            return Err(bug("a request without a chain"));
        };
        let root = payload::<Root>(root)?;
        let Some(targets) = above.first() else {
            let ring = KeyRing::of_root(&root, self.kind());
            let by = format!("root version {}", root.common.version);
            return Ok(vec![Need::new(by, &ring, &self.envelope)]);
        };
        let targets = payload::<Targets>(targets)?;
        let by = format!("targets version {}", targets.common.version);
        let delegations = targets.delegations.as_ref();
        let ring = delegations
            .and_then(|delegations| KeyRing::of_delegated(delegations, &self.role))
            .ok_or_else(|| OperatorError::UnknownRole {
                name: self.role.to_string(),
                known: Vec::new(),
            })?;
        Ok(vec![Need::new(by, &ring, &self.envelope)])
    }

    /// The keys of the published root whose signatures are welcome; see [`Request::former`].
    pub fn welcome(&self) -> Result<Option<Need>, SignerError> {
        let Some(former) = &self.former else {
            return Ok(None);
        };
        let root = payload::<Root>(former)?;
        let ring = KeyRing::of_root(&root, self.kind());
        let by = format!("root version {}, the one before", root.common.version);
        Ok(Some(Need::new(by, &ring, &self.envelope)))
    }

    /// Everybody whose signature this request takes.
    fn askers(&self) -> Result<Vec<Need>, SignerError> {
        let mut all = self.needs()?;
        all.extend(self.welcome()?);
        Ok(all)
    }

    /// The ids of all signatures that count, needed or welcome.
    pub fn counted(&self) -> Result<Vec<KeyId>, SignerError> {
        let askers = self.askers()?;
        Ok(askers.into_iter().flat_map(|need| need.signed).collect())
    }

    /// Whether every threshold is met.
    pub fn is_complete(&self) -> Result<bool, SignerError> {
        Ok(self.needs()?.iter().all(Need::is_met))
    }

    /// The error that says what is missing; `Ok` where nothing is.
    pub fn require_complete(&self) -> Result<(), SignerError> {
        for (at, need) in self.needs()?.iter().enumerate() {
            if need.is_met() {
                continue;
            }
            let (role, version) = (self.role.to_string(), self.version());
            let (have, need) = (need.signed.len(), need.threshold);
            return Err(match at {
                0 => OperatorError::Threshold {
                    role,
                    version,
                    have,
                    need,
                },
                _ => OperatorError::OldThreshold {
                    role,
                    version,
                    have,
                    need,
                },
            }
            .into());
        }
        Ok(())
    }

    /// The ids under which this request asks for `key`; empty where it does not.
    pub fn ids_of(&self, key: &PublicKey) -> Result<Vec<KeyId>, SignerError> {
        let mut ids: Vec<KeyId> = Vec::new();
        for need in self.askers()? {
            ids.extend(
                need.keys
                    .into_iter()
                    .filter(|(_, k)| k == key)
                    .map(|(id, _)| id),
            );
        }
        ids.sort();
        ids.dedup();
        Ok(ids)
    }

    /// Puts a signature in, replacing what that id had.
    ///
    /// # Errors
    /// A signature that does not verify with the key asked for under that id.
    pub fn attach(&mut self, id: &KeyId, signature: &[u8]) -> Result<(), SignerError> {
        let askers = self.askers()?;
        let key = askers
            .iter()
            .flat_map(|need| &need.keys)
            .find(|(known, _)| known == id);
        let Some((_, key)) = key else {
            let (key, role) = (id.short(), self.title());
            return Err(OperatorError::KeyNotAsked { key, role }.into());
        };
        if !key.verify(&self.envelope.signed_bytes(), signature) {
            let (role, version) = (self.role.to_string(), self.version());
            return Err(OperatorError::BadSignature {
                key: id.short(),
                role,
                version,
            }
            .into());
        }
        self.envelope = with_signature(&self.envelope, Signature::new(id.clone(), signature));
        Ok(())
    }

    /// Takes over the verified signatures of a copy; how many were new.
    ///
    /// # Errors
    /// A copy of something else: another role, or other signed bytes.
    pub fn merge(
        &mut self,
        own_path: &Path,
        copy: &Self,
        copy_path: &Path,
    ) -> Result<usize, SignerError> {
        let differ = |why: String| OperatorError::NotTheSame {
            left: own_path.to_owned(),
            right: copy_path.to_owned(),
            why,
        };
        if (self.repository, &self.role) != (copy.repository, &copy.role) {
            return Err(differ(format!("{} and {}", self.title(), copy.title())).into());
        }
        if self.digest() != copy.digest() {
            let why = format!(
                "signed bytes {} and {}",
                self.digest().short(),
                copy.digest().short()
            );
            return Err(differ(why).into());
        }
        let before: usize = self.envelope.signatures().len();
        for signature in copy.envelope.signatures() {
            let Some(bytes) = signature.bytes().filter(|bytes| !bytes.is_empty()) else {
                continue;
            };
            if !self
                .envelope
                .signatures()
                .iter()
                .any(|own| own.keyid == signature.keyid)
            {
                self.attach(&signature.keyid, &bytes)?;
            }
        }
        Ok(self.envelope.signatures().len() - before)
    }

    /// What people call the holder of a key.
    pub fn holder(&self, id: &KeyId) -> String {
        match self.holders.get(id.as_str()) {
            Some(name) => format!("{name} ({})", id.short()),
            None => id.short(),
        }
    }
}

/// Reading and writing.
impl Request {
    /// Reads a request.
    pub fn load(path: &Path) -> Result<Self, SignerError> {
        Self::from_bytes(path, &durable::read(path, REQUEST_LEN_MAX)?)
    }

    /// From the bytes of a file.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, SignerError> {
        let value = json::parse(bytes).map_err(TreeError::malformed(path))?;
        let not_metadata = || TreeError::NotMetadata {
            path: path.to_owned(),
        };
        let text = |name: &str| value.member(name).and_then(Value::as_str);
        let known = text("_type") == Some(TYPE)
            && value.member("format").and_then(Value::as_u64) == Some(FORMAT);
        let repository = match text("repository") {
            Some("image") => Repository::Image,
            Some("director") => Repository::Director,
            _ => return Err(not_metadata().into()),
        };
        let role = text("role").filter(|_| known).ok_or_else(not_metadata)?;
        let envelope = |value: &Value| {
            Envelope::parse(&json::compact(value)).map_err(TreeError::malformed(path))
        };
        let chain = value
            .member("chain")
            .and_then(Value::as_array)
            .unwrap_or_default();
        let role = RoleName::parse(role).map_err(TreeError::malformed(path))?;
        expect_chain(path, repository, &role, chain.len())?;
        let holders = value.member("holders").and_then(Value::as_object);
        let holders = holders
            .into_iter()
            .flatten()
            .filter_map(|(id, name)| Some((id.clone(), crate::terminal::plain(name.as_str()?))));
        Ok(Self {
            repository,
            role,
            envelope: envelope(value.member("envelope").ok_or_else(not_metadata)?)?,
            previous: value.member("previous").map(envelope).transpose()?,
            former: value.member("former").map(envelope).transpose()?,
            chain: chain.iter().map(envelope).collect::<Result<_, _>>()?,
            holders: holders.collect(),
        })
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let repository = match self.repository {
            Repository::Image => "image",
            Repository::Director => "director",
        };
        let holders: Map = self
            .holders
            .iter()
            .map(|(id, name)| (id.clone(), name.as_str().into()))
            .collect();
        let mut members = Map::from([
            ("_type".to_owned(), TYPE.into()),
            ("format".to_owned(), FORMAT.into()),
            ("repository".to_owned(), repository.into()),
            ("role".to_owned(), self.role.as_str().into()),
            ("envelope".to_owned(), value_of(&self.envelope)),
            (
                "chain".to_owned(),
                Value::Array(self.chain.iter().map(value_of).collect()),
            ),
            ("holders".to_owned(), Value::Object(holders)),
        ]);
        if let Some(previous) = &self.previous {
            members.insert("previous".to_owned(), value_of(previous));
        }
        if let Some(former) = &self.former {
            members.insert("former".to_owned(), value_of(former));
        }
        let mut bytes = json::compact(&Value::Object(members));
        bytes.push(b'\n');
        bytes
    }

    /// Writes the file, durably.
    pub fn store(&self, disk: &dyn Disk, path: &Path) -> Result<(), SignerError> {
        Ok(durable::put(disk, path, &self.to_bytes(), Access::Shared)?)
    }
}

/// A request from outside must carry exactly those who name its signers: with fewer it would ask
/// other keys, or none.
fn expect_chain(
    path: &Path,
    repository: Repository,
    role: &RoleName,
    found: usize,
) -> Result<(), SignerError> {
    let expected = match (repository, role.as_str()) {
        (_, "root") => 0,
        (Repository::Image, "targets" | "snapshot" | "timestamp") => 1,
        (Repository::Image, _) => 2,
        // The server signs the rest of the director.
        (Repository::Director, _) => {
            let path = path.to_owned();
            return Err(TreeError::NotMetadata { path }.into());
        }
    };
    if found == expected {
        return Ok(());
    }
    let path = path.to_owned();
    Err(TreeError::BadChain {
        path,
        found,
        expected,
    }
    .into())
}

/// Reads a payload that need not be signed yet: a draft, or the chain of one.
pub fn payload<T: Payload>(envelope: &Envelope) -> Result<T, SignerError> {
    T::from_signed(envelope.unverified()).map_err(|source| {
        let path = Path::new(T::TYPE.as_str()).to_owned();
        TreeError::Malformed {
            path,
            source: Box::new(source),
        }
        .into()
    })
}

/// An envelope with no signature yet.
pub fn unsigned(signed: Value) -> Envelope {
    Draft::of_value(signed).envelope()
}

fn with_signature(envelope: &Envelope, signature: Signature) -> Envelope {
    let mut signatures: Vec<_> = envelope
        .signatures()
        .iter()
        .filter(|one| one.keyid != signature.keyid)
        .cloned()
        .collect();
    signatures.push(signature);
    // One order, whoever signed first: merged copies are equal files.
    signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
    with_signatures(signatures, envelope.unverified().clone())
}

/// An envelope of these signatures, none of them verified here.
pub fn with_signatures(signatures: Vec<Signature>, signed: Value) -> Envelope {
    let signatures = signatures.into_iter().map(|signature| {
        let mut members = signature.extra;
        members.insert("keyid".to_owned(), signature.keyid.as_str().into());
        members.insert("sig".to_owned(), signature.sig.into());
        Value::Object(members)
    });
    let file = Map::from([
        ("signatures".to_owned(), Value::Array(signatures.collect())),
        ("signed".to_owned(), signed),
    ]);
    Envelope::parse(&json::compact(&Value::Object(file)))
        .expect("signatures of distinct ids, and a payload that was read or written before")
}

fn value_of(envelope: &Envelope) -> Value {
    json::parse(&envelope.to_bytes()).expect("an envelope writes what it was read from")
}

fn bug(what: &str) -> SignerError {
    SignerError::Ourselves(what.to_owned())
}
