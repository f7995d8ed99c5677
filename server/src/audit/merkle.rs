//! The Merkle tree of RFC 6962, section 2.1: hashes, roots, and the two proofs.
//!
//! Pure: hashes come from whoever keeps them ([`Subtrees`]), proofs go to whoever checks them. A
//! proof is checked by the steps of RFC 9162, sections 2.1.3.2 and 2.1.4.2, which say the same for
//! the same tree.
//!
//! Invariants:
//! - A leaf and a node are never hashed alike: their first bytes differ.
//! - A proof that is longer or shorter than it must be proves nothing.

use ampoule_protocol::digest::Hasher;

/// A SHA-256 hash of the tree.
pub type Hash = [u8; 32];

/// Hashes in one proof: a tree has at most 2^63 leaves.
pub const PROOF_LEN_MAX: usize = 63;

/// The root of no entries: the hash of nothing.
pub fn empty() -> Hash {
    *Hasher::new().finish().as_bytes()
}

/// The hash of an entry.
pub fn leaf(entry: &[u8]) -> Hash {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher.update(entry);
    *hasher.finish().as_bytes()
}

/// The hash over two subtrees.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Hasher::new();
    hasher.update(&[1]);
    hasher.update(left);
    hasher.update(right);
    *hasher.finish().as_bytes()
}

/// The root over hashes of equal subtrees, a power of two of them or what a tree ends with.
pub fn over(hashes: &[Hash]) -> Hash {
    match hashes {
        [] => empty(),
        [one] => *one,
        more => {
            let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
            node(&over(left), &over(right))
        }
    }
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// What is needed to go on hashing: the roots of the whole subtrees, from the largest on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// Of a tree whose whole subtrees have these roots, as [`peaks`] names them.
    ///
    /// # Errors
    /// `None` where there are not as many as a tree of that size has.
    pub fn of(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Leaves so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf's hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each trailing one is a whole subtree of the size that has just been made.
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak for each bit of the size");
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return empty();
        };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// The whole subtrees that make a tree of `size`: the height of each and its place among those of
/// that height, from the largest on.
pub fn peaks(size: u64) -> impl Iterator<Item = (u32, u64)> {
    let heights = (0..64).rev().filter(move |height| size >> height & 1 == 1);
    heights.map(move |height| (height, (size >> height) - 1))
}

/// Whoever keeps the hashes of a tree.
pub trait Subtrees {
    /// Why a hash is not there.
    type Error;

    /// The root of the whole subtree of 2^`height` leaves that is the `index`th of its kind.
    ///
    /// # Errors
    /// It cannot be had.
    fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// The root over the leaves `from..to`; `from` is a multiple of the largest power of two that is
/// not above their number.
fn range<S: Subtrees>(tree: &mut S, from: u64, to: u64) -> Result<Hash, S::Error> {
    let size = to - from;
    if size.is_power_of_two() {
        let height = size.trailing_zeros();
        return tree.subtree(height, from >> height);
    }
    let middle = from + split(size);
    Ok(node(&range(tree, from, middle)?, &range(tree, middle, to)?))
}

/// The root of the first `size` leaves.
///
/// # Errors
/// A hash cannot be had.
pub fn root<S: Subtrees>(tree: &mut S, size: u64) -> Result<Hash, S::Error> {
    if size == 0 {
        return Ok(empty());
    }
    range(tree, 0, size)
}

/// The proof that the leaf `index` is in the tree of `size` (RFC 6962, section 2.1.1).
///
/// # Errors
/// A hash cannot be had.
///
/// # Panics
/// Where `index` is not below `size`.
pub fn prove_inclusion<S: Subtrees>(
    tree: &mut S,
    index: u64,
    size: u64,
) -> Result<Vec<Hash>, S::Error> {
    assert!(index < size, "a leaf outside of its tree");
    let (mut from, mut to) = (0, size);
    let mut others = Vec::new();
    while to - from > 1 {
        let middle = from + split(to - from);
        if index < middle {
            others.push((middle, to));
            to = middle;
        } else {
            others.push((from, middle));
            from = middle;
        }
    }
    others.reverse();
    others
        .into_iter()
        .map(|(from, to)| range(tree, from, to))
        .collect()
}

/// The proof that the tree of `old` leaves is the beginning of the one of `new` (RFC 6962, section
/// 2.1.2); empty where one of them is trivial.
///
/// # Errors
/// A hash cannot be had.
///
/// # Panics
/// Where `old` is above `new`.
pub fn prove_consistency<S: Subtrees>(
    tree: &mut S,
    old: u64,
    new: u64,
) -> Result<Vec<Hash>, S::Error> {
    assert!(old <= new, "a tree that shrank");
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut from, mut to) = (0, new);
    let mut others = Vec::new();
    // The old tree's own root is known to whoever checks; a part of it has to be given.
    while to != old {
        let middle = from + split(to - from);
        if old <= middle {
            others.push((middle, to));
            to = middle;
        } else {
            others.push((from, middle));
            from = middle;
        }
    }
    if from != 0 {
        others.push((from, to));
    }
    others.reverse();
    others
        .into_iter()
        .map(|(from, to)| range(tree, from, to))
        .collect()
}

/// Whether `proof` shows that the leaf is the `index`th of the tree with this root.
pub fn is_included(index: u64, size: u64, leaf: &Hash, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut place, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for other in proof {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            hash = node(other, &hash);
            if place & 1 == 0 {
                let skipped = place.trailing_zeros();
                place = place.checked_shr(skipped).unwrap_or(0);
                last = last.checked_shr(skipped).unwrap_or(0);
            }
        } else {
            hash = node(&hash, other);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `old` leaves is the beginning of the one of `new`. From
/// no leaves nothing can be shown.
pub fn is_consistent(
    (old, old_root): (u64, &Hash),
    (new, new_root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if old == 0 || old > new {
        return false;
    }
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    let mut hashes = proof.iter();
    let first = if old.is_power_of_two() {
        Some(old_root)
    } else {
        hashes.next()
    };
    let Some(first) = first else { return false };
    let (mut old_hash, mut new_hash) = (*first, *first);
    let mut place = old - 1;
    let mut last = new - 1;
    let whole = place.trailing_ones();
    place >>= whole;
    last >>= whole;
    for other in hashes {
        if last == 0 {
            return false;
        }
        if place & 1 == 1 || place == last {
            old_hash = node(other, &old_hash);
            new_hash = node(other, &new_hash);
            if place & 1 == 0 {
                let skipped = place.trailing_zeros();
                place = place.checked_shr(skipped).unwrap_or(0);
                last = last.checked_shr(skipped).unwrap_or(0);
            }
        } else {
            new_hash = node(&new_hash, other);
        }
        place >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree in memory, hashed the slow way, as the specification writes it down.
    struct Slow(Vec<Hash>);

    impl Subtrees for Slow {
        type Error = std::convert::Infallible;
        fn subtree(&mut self, height: u32, index: u64) -> Result<Hash, Self::Error> {
            let from = usize::try_from(index << height).unwrap();
            Ok(over(&self.0[from..from + (1 << height)]))
        }
    }

    #[test]
    fn every_proof_of_every_small_tree_holds_and_no_other_does() {
        let leaves: Vec<Hash> = (0..40u8).map(|n| leaf(&[n])).collect();
        let mut tree = Slow(leaves.clone());
        let mut frontier = Frontier::default();
        let mut roots = vec![frontier.root()];
        for (size, leaf) in (1..).zip(&leaves) {
            frontier.push(*leaf);
            assert_eq!(frontier.root(), over(&leaves[..size]));
            assert_eq!(frontier.root(), root(&mut tree, size as u64).unwrap());
            let known: Vec<Hash> = peaks(size as u64)
                .map(|(height, index)| tree.subtree(height, index).unwrap())
                .collect();
            assert_eq!(Frontier::of(size as u64, known).as_ref(), Some(&frontier));
            roots.push(frontier.root());
        }
        for size in 1..=40u64 {
            let root = roots[usize::try_from(size).unwrap()];
            for index in 0..size {
                let proof = prove_inclusion(&mut tree, index, size).unwrap();
                let leaf = leaves[usize::try_from(index).unwrap()];
                assert!(is_included(index, size, &leaf, &proof, &root));
                for other in (0..41).filter(|other| *other != index) {
                    assert!(!is_included(other, size, &leaf, &proof, &root));
                }
            }
            for old in 1..=size {
                let old_root = roots[usize::try_from(old).unwrap()];
                let mut proof = prove_consistency(&mut tree, old, size).unwrap();
                assert!(is_consistent((old, &old_root), (size, &root), &proof));
                proof.push(root);
                assert!(!is_consistent((old, &old_root), (size, &root), &proof));
            }
        }
    }
}
