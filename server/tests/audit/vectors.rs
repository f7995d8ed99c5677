//! Proofs of another implementation: the good ones hold, and of the bad ones none.
//!
//! Catches: a proof that may be too long or too short, a leaf that may be outside of its tree, a
//! node hashed the wrong way round.

use ampoule_server::audit::merkle::{Hash, is_consistent, is_included};
use data_encoding::BASE64;
use serde_json::Value;

/// Some bad vectors have hashes of another length; those are refused before any rule is asked.
fn hash(value: &Value) -> Option<Hash> {
    let bytes = BASE64.decode(value.as_str().unwrap().as_bytes()).unwrap();
    Hash::try_from(bytes).ok()
}

fn proof(vector: &Value) -> Option<Vec<Hash>> {
    vector["proof"]
        .as_array()
        .unwrap()
        .iter()
        .map(hash)
        .collect()
}

fn vectors(text: &str) -> Vec<Value> {
    let vectors = text.lines().map(|line| serde_json::from_str(line).unwrap());
    vectors.collect()
}

#[test]
fn consistency_proofs_of_others_are_judged_alike() {
    let vectors = vectors(include_str!("vectors/consistency.jsonl"));
    assert_eq!(vectors.len(), 98);
    let mut good = 0;
    for vector in &vectors {
        let size = |name| vector[name].as_u64().unwrap();
        // One good vector has roots of 12 bytes, since it only compares them.
        let padded = |name| {
            let bytes = BASE64
                .decode(vector[name].as_str().unwrap().as_bytes())
                .unwrap();
            let mut root = [0; 32];
            root[..bytes.len()].copy_from_slice(&bytes);
            root
        };
        let (old, new) = (padded("root1"), padded("root2"));
        let holds = proof(vector).is_some_and(|proof| {
            is_consistent((size("size1"), &old), (size("size2"), &new), &proof)
        });
        assert_eq!(holds, !vector["wantErr"].as_bool().unwrap(), "{vector}");
        good += u32::from(holds);
    }
    assert!(good >= 6);
}

#[test]
fn inclusion_proofs_of_others_are_judged_alike() {
    let vectors = vectors(include_str!("vectors/inclusion.jsonl"));
    assert_eq!(vectors.len(), 98);
    let mut good = 0;
    for vector in &vectors {
        let parts = (
            proof(vector),
            hash(&vector["leafHash"]),
            hash(&vector["root"]),
        );
        let holds = match parts {
            (Some(proof), Some(leaf), Some(root)) => {
                let (index, size) = (vector["leafIdx"].as_u64(), vector["treeSize"].as_u64());
                is_included(index.unwrap(), size.unwrap(), &leaf, &proof, &root)
            }
            _ => false,
        };
        assert_eq!(holds, !vector["wantErr"].as_bool().unwrap(), "{vector}");
        good += u32::from(holds);
    }
    assert!(good >= 6);
}
