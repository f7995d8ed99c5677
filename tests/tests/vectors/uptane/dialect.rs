//! Uptane's dialect of 2018, rewritten into TUF 1.0 so that the device's own rules judge it.
//!
//! The corpus signs payloads that TUF 1.0 cannot read: `_type` is capitalised, keys lack a scheme,
//! files lack `spec_version`. A rewritten payload needs new signatures, so each key of the corpus
//! gets a stand-in key, and a stand-in signs exactly where the original signature verifies. What
//! is wrong in the original is then wrong in the same way in the rewriting: too few signatures,
//! the same key id twice, a key listed under an id that is not its own, a digest that does not fit.

#[path = "director.rs"]
mod director;

use std::collections::BTreeMap;

use ampoule_protocol::digest::Digest;
use ampoule_protocol::hex;
use ampoule_protocol::json::{self, Map, Value};
use ampoule_protocol::key::PublicKey;
use ampoule_tests::sim::{TestKey, Tree, envelope, signature};

/// All vectors by name.
pub(crate) struct Corpus {
    pub(crate) vectors: BTreeMap<String, Vec<Step>>,
}

/// One step: what both repositories serve.
pub(crate) struct Step {
    pub(crate) image: Repository,
    pub(crate) director: Repository,
}

/// A repository of a step, rewritten.
pub(crate) struct Repository {
    pub(crate) tree: Tree,
    pub(crate) expected: Expected,
}

/// What the corpus expects of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// `ok`, or the error of the whole update.
    pub(crate) update: String,
    /// `ok` or an error for each target.
    pub(crate) targets: BTreeMap<String, String>,
}

impl Expected {
    fn read(value: &Value) -> Self {
        let targets = value
            .member("targets")
            .and_then(Value::as_object)
            .expect("targets");
        Self {
            update: text(value, "update"),
            targets: targets
                .iter()
                .map(|(name, verdict)| (name.clone(), verdict.as_str().expect("a word").to_owned()))
                .collect(),
        }
    }

    /// Whether nothing is wrong with this repository.
    pub(crate) fn is_sound(&self) -> bool {
        self.update == "ok" && self.targets.values().all(|verdict| verdict == "ok")
    }
}

impl Corpus {
    /// From the fixture.
    pub(crate) fn read() -> Self {
        let bytes = include_bytes!("../../../fixtures/uptane/vectors.json");
        let corpus = json::parse(bytes).expect("the fixture is JSON");
        let files = corpus.member("files").expect("files");
        let vectors = corpus
            .member("vectors")
            .and_then(Value::as_object)
            .expect("vectors");
        let stand_ins = stand_ins(files.as_object().expect("files"));
        let read = |(name, steps): (&String, &Value)| {
            let steps = steps.as_array().expect("steps").iter();
            (
                name.clone(),
                steps
                    .map(|step| read_step(step, files, &stand_ins))
                    .collect(),
            )
        };
        Self {
            vectors: vectors.iter().map(read).collect(),
        }
    }
}

fn read_step(step: &Value, files: &Value, stand_ins: &StandIns) -> Step {
    let read = |name: &str, kind: Kind| {
        let repository = step.member(name).expect("both repositories");
        let served = repository.member("files").and_then(Value::as_object);
        let served = served.expect("files").iter().map(|(path, id)| {
            let id = id.as_str().expect("an id");
            let file = files.member(id).expect("a file of this id");
            (path.clone(), content(file))
        });
        Repository {
            tree: rewrite(&served.collect(), stand_ins, kind),
            expected: Expected::read(repository.member("expect").expect("a verdict")),
        }
    };
    Step {
        image: read("image_repo", Kind::Image),
        director: read("director", Kind::Director),
    }
}

/// Which repository is rewritten: the corpus's director has no snapshot and no timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Image,
    Director,
}

/// The text of a file; the copies that the fixture leaves out are put back.
fn content(file: &Value) -> String {
    let kept = text(file, "text");
    let Some(copies) = file.member("copies").and_then(Value::as_u64) else {
        return kept;
    };
    let mut value = json::parse(kept.as_bytes()).expect("metadata");
    let targets = member_mut(member_mut(&mut value, "signed"), "targets");
    let Value::Object(targets) = targets else {
        panic!("targets are an object")
    };
    let (name, first) = targets
        .iter()
        .next()
        .map(|(n, v)| (n.clone(), v.clone()))
        .expect("one");
    targets.extend((1..=copies).map(|n| (format!("{name}{n}"), first.clone())));
    String::from_utf8(json::compact(&value)).expect("JSON is UTF-8")
}

/// A key of the corpus and the one that stands in for it.
struct StandIn {
    original: PublicKey,
    key: TestKey,
}

/// By the id that the corpus gives a key: the digest of its hex text, as JSON.
type StandIns = BTreeMap<String, StandIn>;

fn rewrite(files: &BTreeMap<String, String>, stand_ins: &StandIns, kind: Kind) -> Tree {
    let mut metadata = BTreeMap::new();
    let mut tree = Tree::new();
    for (path, text) in files {
        match path.strip_suffix(".json") {
            Some(_) => {
                let value = json::parse(text.as_bytes()).expect("metadata is JSON");
                metadata.insert(path.clone(), (text.clone(), value));
            }
            None => {
                tree.insert(format!("targets/{path}"), text.clone().into_bytes());
            }
        }
    }
    // What is described comes before what describes it: snapshot may name the digest of targets,
    // timestamp that of snapshot.
    let mut order: Vec<&String> = metadata.keys().collect();
    order.sort_by_key(|path| match path.as_str() {
        "timestamp.json" => 2,
        "snapshot.json" => 1,
        _ => 0,
    });
    for path in order {
        let described = match path.as_str() {
            "timestamp.json" => Some("snapshot.json"),
            "snapshot.json" => Some("targets.json"),
            _ => None,
        };
        let described = described.and_then(|name| Some((name, &metadata.get(name)?.0)));
        let file = rewrite_file(&metadata[path].1, stand_ins, |signed| {
            if let Some((name, original)) = described {
                describe(signed, name, original.as_bytes(), &tree[&place(name)]);
            }
            if kind == Kind::Director {
                director::translate(signed);
            }
        });
        tree.insert(place(path), file);
    }
    if kind == Kind::Director {
        director::complete(&mut tree);
    }
    tree
}

/// Where the device looks for a file of the corpus.
fn place(path: &str) -> String {
    format!(
        "metadata/{}",
        path.strip_prefix("delegations/").unwrap_or(path)
    )
}

/// For every key that any file of the corpus lists: old keys sign files that list only new ones.
fn stand_ins(files: &Map) -> StandIns {
    let mut stand_ins = StandIns::new();
    for file in files.values() {
        if let Ok(value) = json::parse(text(file, "text").as_bytes()) {
            collect_keys(value.member("signed").expect("signed"), &mut stand_ins);
        }
    }
    stand_ins
}

fn collect_keys(signed: &Value, stand_ins: &mut StandIns) {
    let delegated = signed.member("delegations").and_then(|d| d.member("keys"));
    for keys in [signed.member("keys"), delegated].into_iter().flatten() {
        for (_, key) in keys.as_object().expect("keys are an object") {
            let public = text(key.member("keyval").expect("a keyval"), "public");
            let id = Digest::of(format!("\"{public}\"").as_bytes()).to_string();
            let bytes = hex::decode(&public)
                .and_then(|b| b.try_into().ok())
                .expect("32 bytes");
            let original = PublicKey::ed25519(&bytes).expect("an Ed25519 key");
            let key = TestKey::ed25519(&format!("stand-in for {public}"));
            stand_ins.insert(id, StandIn { original, key });
        }
    }
}

fn rewrite_file(file: &Value, stand_ins: &StandIns, more: impl FnOnce(&mut Value)) -> Vec<u8> {
    let original = file.member("signed").expect("signed");
    let mut signed = rewrite_signed(original, stand_ins);
    more(&mut signed);
    let (before, after) = (json::canonical(original), json::canonical(&signed));
    let signatures = file
        .member("signatures")
        .and_then(Value::as_array)
        .expect("signatures");
    let signatures = signatures.iter().map(|one| {
        let (id, sig) = (text(one, "keyid"), text(one, "sig"));
        let Some(stand_in) = stand_ins.get(&id) else {
            return signature(&id, &[0; 64]);
        };
        let genuine = hex::decode(&sig).is_some_and(|sig| stand_in.original.verify(&before, &sig));
        let sig = if genuine {
            stand_in.key.sign(&after)
        } else {
            vec![0; 64]
        };
        signature(stand_in.key.id.as_str(), &sig)
    });
    envelope(signatures.collect(), signed)
}

fn rewrite_signed(original: &Value, stand_ins: &StandIns) -> Value {
    let mut signed = original.clone();
    let Value::Object(members) = &mut signed else {
        panic!("signed is an object")
    };
    members.insert("spec_version".into(), "1.0.34".into());
    let kind = members
        .get("_type")
        .and_then(Value::as_str)
        .expect("a type")
        .to_lowercase();
    members.insert("_type".into(), kind.as_str().into());
    if let Some(keys) = members.get_mut("keys") {
        rewrite_keys(keys, stand_ins);
    }
    if let Some(Value::Object(roles)) = members.get_mut("roles") {
        roles
            .values_mut()
            .for_each(|role| rewrite_ids(role, stand_ins));
    }
    if let Some(delegations) = members.get_mut("delegations") {
        rewrite_keys(member_mut(delegations, "keys"), stand_ins);
        let Value::Array(roles) = member_mut(delegations, "roles") else {
            panic!("roles")
        };
        for role in roles {
            rewrite_ids(role, stand_ins);
        }
    }
    signed
}

/// Each key becomes its stand-in, under the stand-in's id where the original stood under its own,
/// and under the same wrong id where it did not.
fn rewrite_keys(keys: &mut Value, stand_ins: &StandIns) {
    let Value::Object(listed) = keys else {
        panic!("keys are an object")
    };
    let mut rewritten = Map::new();
    for (id, key) in listed.iter() {
        let public = text(key.member("keyval").expect("a keyval"), "public");
        let own = Digest::of(format!("\"{public}\"").as_bytes()).to_string();
        let stand_in = &stand_ins[&own].key;
        let id = if *id == own {
            stand_in.id.as_str().to_owned()
        } else {
            id.clone()
        };
        rewritten.insert(id, Value::Object(stand_in.object.object().clone()));
    }
    *listed = rewritten;
}

fn rewrite_ids(role: &mut Value, stand_ins: &StandIns) {
    let Value::Array(ids) = member_mut(role, "keyids") else {
        panic!("keyids are an array")
    };
    for id in ids {
        if let Some(stand_in) = id.as_str().and_then(|id| stand_ins.get(id)) {
            *id = stand_in.key.id.as_str().into();
        }
    }
}

/// Length and digest of `name` in the metadata that names it: those of the rewritten file where
/// the original's were right, and no digest or length where there was none.
fn describe(signed: &mut Value, name: &str, original: &[u8], rewritten: &[u8]) {
    let Value::Object(meta) = member_mut(member_mut(signed, "meta"), name) else {
        panic!("meta is an object")
    };
    let digest = |file: &[u8]| Digest::of(file).to_string();
    let hash = meta
        .get("hashes")
        .and_then(|hashes| hashes.member("sha256")?.as_str());
    let length = meta.get("length").and_then(Value::as_u64);
    if hash == Some(&digest(original)) && length == Some(original.len() as u64) {
        let hashes = Map::from([("sha256".into(), digest(rewritten).as_str().into())]);
        meta.insert("hashes".into(), hashes.into());
        meta.insert("length".into(), (rewritten.len() as u64).into());
    }
}

fn text(value: &Value, name: &str) -> String {
    value
        .member(name)
        .and_then(Value::as_str)
        .expect("a text")
        .to_owned()
}

fn member_mut<'a>(value: &'a mut Value, name: &str) -> &'a mut Value {
    let Value::Object(members) = value else {
        panic!("not an object")
    };
    members.get_mut(name).expect("a member of this name")
}
