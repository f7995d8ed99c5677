//! What a holder should doubt about a request that came from outside.
//!
//! The draft itself cannot lie about what it is: its bytes are what gets signed. But the words
//! that say what *changed* come from the last signed version that travels with it, and who must
//! sign comes from the chain that travels with it. Whoever can change the file on its way could
//! put other ones there, so that a bad release looks like old news. Hence: the last version must
//! be signed by those whom the chain names, the chain must hold together, and where the holder
//! brings their own root ([`against`]) the chain must begin there.

use ampoule_protocol::metadata::{Envelope, Payload, RoleType, Root, Targets};
use ampoule_protocol::name::ProductName;
use ampoule_protocol::trust::KeyRing;

use crate::error::SignerError;
use crate::layout::Repository;
use crate::releases;
use crate::request::{Request, payload};

/// Sentences of doubt; empty where everything in the request holds together.
pub fn doubts(request: &Request) -> Result<Vec<String>, SignerError> {
    let mut doubts = Vec::new();
    if let Some(root) = request.chain.first() {
        let keys: Root = payload(root)?;
        if !is_signed(&KeyRing::of_root(&keys, RoleType::Root), root) {
            doubts.push(format!(
                "root version {} is a draft that lacks signatures",
                keys.version()
            ));
        }
        if let Some(targets) = request.chain.get(1) {
            let version = payload::<Targets>(targets)?.version();
            if !is_signed(&KeyRing::of_root(&keys, RoleType::Targets), targets) {
                doubts.push(format!(
                    "targets version {version} is a draft that lacks signatures"
                ));
            }
        }
    }
    if let (RoleType::Targets, Ok(product)) =
        (request.kind(), ProductName::parse(request.role.as_str()))
    {
        let targets: Targets = payload(&request.envelope)?;
        for release in releases::of(&product, &targets)? {
            let wrong = releases::files(&release)
                .into_iter()
                .filter(|file| !releases::is_listed(&targets, file));
            doubts.extend(wrong.map(|file| {
                format!(
                    "\"{}\" is not what release {} says of it",
                    file.path, release.version
                )
            }));
        }
    }
    if let Some(previous) = &request.previous
        && !is_previous_signed(request, previous)?
    {
        doubts.push(
            "the last version in this file is not signed by those who must sign: do not rely on \
             what is said to change"
                .to_owned(),
        );
    }
    Ok(doubts)
}

/// One more doubt: whether the chain begins at the root that the holder brought along.
///
/// It does where the chain's root is that root, or a later one that a threshold of its keys
/// signed. (Over several rotations the roots between would have to be here as well; then the
/// holder brings a newer root.)
pub fn against(request: &Request, own: &Envelope) -> Result<Option<String>, SignerError> {
    let own_root: Root = payload(own)?;
    let root = match request.kind() {
        RoleType::Root => request.previous.as_ref().unwrap_or(&request.envelope),
        _ => match request.chain.first() {
            Some(root) => root,
            None => return Ok(Some("this file names no root".to_owned())),
        },
    };
    let theirs: Root = payload(root)?;
    let same = root.signed_bytes() == own.signed_bytes();
    let follows = theirs.version() > own_root.version()
        && is_signed(&KeyRing::of_root(&own_root, RoleType::Root), root);
    if same || follows {
        return Ok(None);
    }
    Ok(Some(format!(
        "root version {} in this file does not follow from your root version {}",
        theirs.version(),
        own_root.version()
    )))
}

fn is_signed(ring: &KeyRing<'_>, envelope: &Envelope) -> bool {
    ring.signers(envelope).len() as u64 >= ring.threshold()
}

fn is_previous_signed(request: &Request, previous: &Envelope) -> Result<bool, SignerError> {
    if request.repository == Repository::Director || request.kind() == RoleType::Root {
        let root: Root = payload(previous)?;
        return Ok(is_signed(
            &KeyRing::of_root(&root, RoleType::Root),
            previous,
        ));
    }
    // Under changed keys the last version may rightly be signed by the keys before: then nobody
    // can say so from this file alone, and the doubt is right.
    let mut as_if = request.clone();
    as_if.envelope = previous.clone();
    as_if.is_complete()
}
