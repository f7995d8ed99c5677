//! The hash tree over the blocks of an image, so that each block is checked before it is written.
//!
//! Blocks have a fixed length, the last one is what remains. A leaf is
//! `SHA-256(0x00 || block)`, a node `SHA-256(0x01 || left || right)`, an odd node rises as it is:
//! the tree of RFC 6962 section 2.1. The root of an empty image is SHA-256 of nothing.
//!
//! The signed description holds the root; the leaves travel as a target of their own, 32 bytes
//! each, and are believed only when they fold to that root ([`BlockTree::from_leaves`]).

use alloc::vec::Vec;

use crate::digest::{Digest, Hasher};
use crate::error::{Coded, Guilty};
use crate::limits::{BLOCK_LEN_MAX, BLOCK_LEN_MIN, BLOCKS_MAX};

/// The block length that we choose: 64 KiB.
pub const BLOCK_LEN_DEFAULT: u32 = 1 << 16;

/// Why leaves, a block or a length do not make a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A block length that is no power of two between 4 KiB and 1 MiB.
    #[error("block length {0} is not a power of two from 4096 to 1048576")]
    BlockLen(u32),
    /// More blocks than [`BLOCKS_MAX`].
    #[error("an image of {0} bytes has too many blocks")]
    TooLong(u64),
    /// A leaf list of the wrong length, in bytes.
    #[error("the leaf list has {found} bytes, an image of this length needs {expected}")]
    LeafCount {
        /// Bytes found.
        found: u64,
        /// Bytes expected.
        expected: u64,
    },
    /// Leaves that do not fold to the signed root.
    #[error("the leaf list does not fold to the signed root {0}")]
    Root(Digest),
    /// A block whose hash is not its leaf, or one beyond the end.
    #[error("block {0} is not what was signed")]
    Block(u64),
}

impl Coded for TreeError {
    fn code(&self) -> &'static str {
        match self {
            Self::BlockLen(_) => "block-len",
            Self::TooLong(_) => "too-many-blocks",
            Self::LeafCount { .. } => "leaf-count",
            Self::Root(_) => "leaves-root",
            Self::Block(_) => "block-mismatch",
        }
    }

    fn guilty(&self) -> Guilty {
        Guilty::Repository
    }
}

/// What the signed description says of an image's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeShape {
    image_len: u64,
    block_len: u32,
}

impl TreeShape {
    /// Of an image of `image_len` bytes in blocks of `block_len`.
    ///
    /// # Errors
    /// Lengths beyond the limits.
    pub fn new(image_len: u64, block_len: u32) -> Result<Self, TreeError> {
        if !block_len.is_power_of_two() || !(BLOCK_LEN_MIN..=BLOCK_LEN_MAX).contains(&block_len) {
            return Err(TreeError::BlockLen(block_len));
        }
        let shape = Self {
            image_len,
            block_len,
        };
        if shape.block_count() > BLOCKS_MAX {
            return Err(TreeError::TooLong(image_len));
        }
        Ok(shape)
    }

    /// Bytes of the image.
    pub const fn image_len(self) -> u64 {
        self.image_len
    }

    /// Bytes of every block but the last.
    pub const fn block_len(self) -> u32 {
        self.block_len
    }

    /// How many blocks, the short last one included.
    pub const fn block_count(self) -> u64 {
        self.image_len.div_ceil(self.block_len as u64)
    }

    /// Bytes of the leaf list.
    pub const fn leaves_len(self) -> u64 {
        self.block_count() * 32
    }

    /// Bytes of block `index`; `None` beyond the end.
    pub fn len_of(self, index: u64) -> Option<u32> {
        let start = index.checked_mul(self.block_len.into())?;
        let rest = self.image_len.checked_sub(start).filter(|rest| *rest > 0)?;
        Some(u32::try_from(rest).unwrap_or(u32::MAX).min(self.block_len))
    }
}

/// The leaves of an image, folded to their root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockTree {
    shape: TreeShape,
    leaves: Vec<Digest>,
    root: Digest,
}

impl BlockTree {
    /// Starts a tree over bytes that come in pieces.
    pub fn builder(block_len: u32) -> Result<TreeBuilder, TreeError> {
        TreeShape::new(0, block_len)?;
        Ok(TreeBuilder {
            block_len,
            filled: 0,
            image_len: 0,
            hasher: leaf_hasher(),
            leaves: Vec::new(),
        })
    }

    /// Believes a leaf list that folds to the signed `root`.
    ///
    /// # Errors
    /// A list of another length or root. Bound: `bytes` has [`TreeShape::leaves_len`], which the
    /// caller must check while reading.
    pub fn from_leaves(shape: TreeShape, root: &Digest, bytes: &[u8]) -> Result<Self, TreeError> {
        let (chunks, rest) = bytes.as_chunks::<32>();
        if bytes.len() as u64 != shape.leaves_len() || !rest.is_empty() {
            let (found, expected) = (bytes.len() as u64, shape.leaves_len());
            return Err(TreeError::LeafCount { found, expected });
        }
        let leaves: Vec<Digest> = chunks
            .iter()
            .map(|chunk| Digest::from_bytes(*chunk))
            .collect();
        if fold(&leaves) != *root {
            return Err(TreeError::Root(*root));
        }
        Ok(Self {
            shape,
            leaves,
            root: *root,
        })
    }

    /// The root, as the signed description holds it.
    pub const fn root(&self) -> Digest {
        self.root
    }

    /// Length and block length.
    pub const fn shape(&self) -> TreeShape {
        self.shape
    }

    /// The leaf list as it is published.
    pub fn leaves_bytes(&self) -> Vec<u8> {
        self.leaves
            .iter()
            .flat_map(|leaf| *leaf.as_bytes())
            .collect()
    }

    /// Checks one whole block before it is written.
    ///
    /// # Errors
    /// A block of another length or content, or beyond the end.
    pub fn check(&self, index: u64, block: &[u8]) -> Result<(), TreeError> {
        let leaf = usize::try_from(index)
            .ok()
            .and_then(|index| self.leaves.get(index));
        let len = self.shape.len_of(index).map(|len| len as usize);
        if len != Some(block.len()) || leaf != Some(&leaf_of(block)) {
            return Err(TreeError::Block(index));
        }
        Ok(())
    }
}

/// Makes a [`BlockTree`] from bytes in pieces of any length.
pub struct TreeBuilder {
    block_len: u32,
    filled: u32,
    image_len: u64,
    hasher: Hasher,
    leaves: Vec<Digest>,
}

impl TreeBuilder {
    /// Takes the next piece.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.image_len += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = (self.block_len - self.filled) as usize;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.hasher.update(now);
            self.filled += u32::try_from(now.len()).expect("a piece of one block");
            if self.filled == self.block_len {
                self.close_block();
            }
            bytes = later;
        }
    }

    /// The tree over all pieces.
    ///
    /// # Errors
    /// An image of too many blocks.
    pub fn finish(mut self) -> Result<BlockTree, TreeError> {
        if self.filled > 0 {
            self.close_block();
        }
        let shape = TreeShape::new(self.image_len, self.block_len)?;
        let root = fold(&self.leaves);
        Ok(BlockTree {
            shape,
            leaves: self.leaves,
            root,
        })
    }

    fn close_block(&mut self) {
        let hasher = core::mem::replace(&mut self.hasher, leaf_hasher());
        self.leaves.push(hasher.finish());
        self.filled = 0;
    }
}

fn leaf_hasher() -> Hasher {
    let mut hasher = Hasher::new();
    hasher.update(&[0]);
    hasher
}

fn leaf_of(block: &[u8]) -> Digest {
    let mut hasher = leaf_hasher();
    hasher.update(block);
    hasher.finish()
}

fn fold(leaves: &[Digest]) -> Digest {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => {
                    let mut hasher = Hasher::new();
                    hasher.update(&[1]);
                    hasher.update(left.as_bytes());
                    hasher.update(right.as_bytes());
                    hasher.finish()
                }
                rest => rest[0],
            })
            .collect();
    }
    level.first().copied().unwrap_or_else(|| Digest::of(b""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn tree_of(image: &[u8]) -> BlockTree {
        let mut builder = BlockTree::builder(4096).expect("a block length");
        builder.push(image);
        builder.finish().expect("a short image")
    }

    #[test]
    fn roots_of_the_rfc_6962_shape() {
        assert_eq!(tree_of(b"").root(), Digest::of(b""));
        assert_eq!(tree_of(b"x").root(), Digest::of(b"\0x"));
        let image = [vec![1; 4096], vec![2; 4096], vec![3; 10]].concat();
        let leaf = |block: &[u8]| Digest::of(&[&[0], block].concat());
        let node =
            |l: Digest, r: Digest| Digest::of(&[&[1][..], l.as_bytes(), r.as_bytes()].concat());
        let (a, b, c) = (
            leaf(&image[..4096]),
            leaf(&image[4096..8192]),
            leaf(&image[8192..]),
        );
        assert_eq!(tree_of(&image).root(), node(node(a, b), c));
    }

    #[test]
    fn a_wrong_block_or_leaf_list_is_found() {
        let image = vec![5; 10_000];
        let tree = tree_of(&image);
        assert_eq!(tree.check(0, &image[..4096]), Ok(()));
        assert_eq!(tree.check(2, &image[8192..]), Ok(()));
        assert_eq!(tree.check(2, &image[..4096]), Err(TreeError::Block(2)));
        assert_eq!(tree.check(3, b""), Err(TreeError::Block(3)));
        assert_eq!(tree.check(u64::MAX, b""), Err(TreeError::Block(u64::MAX)));
        let mut leaves = tree.leaves_bytes();
        assert_eq!(
            BlockTree::from_leaves(tree.shape(), &tree.root(), &leaves),
            Ok(tree.clone())
        );
        leaves[40] ^= 1;
        let refused = BlockTree::from_leaves(tree.shape(), &tree.root(), &leaves);
        assert_eq!(refused, Err(TreeError::Root(tree.root())));
        let refused = BlockTree::from_leaves(tree.shape(), &tree.root(), &leaves[..64]);
        assert_eq!(
            refused,
            Err(TreeError::LeafCount {
                found: 64,
                expected: 96
            })
        );
    }

    #[test]
    fn lengths_are_bounded() {
        assert!(TreeShape::new(1, 4095).is_err());
        assert!(TreeShape::new(1, 1 << 21).is_err());
        assert!(TreeShape::new(u64::MAX, 1 << 20).is_err());
        let shape = TreeShape::new(8192, 4096).expect("a shape");
        assert_eq!((shape.len_of(1), shape.len_of(2)), (Some(4096), None));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(image in prop::collection::vec(any::<u8>(), 0..20_000), cut in 0usize..20_000) {
            let cut = cut.min(image.len());
            let mut builder = BlockTree::builder(4096).expect("a block length");
            builder.push(&image[..cut]);
            builder.push(&image[cut..]);
            prop_assert_eq!(builder.finish(), Ok(tree_of(&image)));
        }
    }
}
