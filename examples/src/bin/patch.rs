//! Makes a delta between two images and applies it as a device does: every block that comes out
//! is checked against the hash tree of the new image before it would be written.

use std::error::Error;

use ampoule_delta::{Accept, DiffOptions, ImageError, NewImage, apply, diff};
use ampoule_protocol::tree::{BLOCK_LEN_DEFAULT, BlockTree};

/// Collects a block, checks it, and only then keeps it.
struct CheckedSlot<'a> {
    tree: &'a BlockTree,
    pending: Vec<u8>,
    written: Vec<u8>,
    blocks: u64,
}

impl CheckedSlot<'_> {
    fn write_block(&mut self, block: &[u8]) -> Result<(), ImageError> {
        self.tree
            .check(self.blocks, block)
            .map_err(ImageError::new)?;
        self.written.extend_from_slice(block);
        self.blocks += 1;
        Ok(())
    }

    /// The last block is shorter: it is what remains.
    fn finish(mut self) -> Result<Vec<u8>, ImageError> {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.write_block(&rest)?;
        }
        Ok(self.written)
    }
}

impl NewImage for CheckedSlot<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.pending.extend_from_slice(bytes);
        let block_len = BLOCK_LEN_DEFAULT as usize;
        while self.pending.len() >= block_len {
            let rest = self.pending.split_off(block_len);
            let block = std::mem::replace(&mut self.pending, rest);
            self.write_block(&block)?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let old = image(300_000, "2.4.0");
    let new = image(310_000, "2.4.1");
    let patch = diff(&old, &new, &DiffOptions::default(), &mut |_| {})?;
    println!(
        "old {} bytes, new {} bytes, delta {} bytes",
        old.len(),
        new.len(),
        patch.len()
    );

    let mut builder = BlockTree::builder(BLOCK_LEN_DEFAULT)?;
    builder.push(&new);
    let tree = builder.finish()?;
    println!("root {}", tree.root());

    let slot = || CheckedSlot {
        tree: &tree,
        pending: vec![],
        written: vec![],
        blocks: 0,
    };
    let mut good = slot();
    apply(&mut &old[..], &patch, &mut good, &Accept::default())?;
    assert_eq!(good.finish()?, new);
    println!("applied: every block is what was signed");

    // The same delta against another base is stopped, and nothing wrong is kept.
    let mut other = old.clone();
    other[1000] ^= 1;
    let mut refused = slot();
    let outcome = apply(&mut &other[..], &patch, &mut refused, &Accept::default());
    match outcome.map_err(|error| error.to_string()) {
        Ok(_) => return Err("a delta on the wrong base went through".into()),
        Err(error) => println!("refused on another base: {error}"),
    }
    assert!(new.starts_with(&refused.written));
    Ok(())
}

/// Bytes that look a little like a program: repeated, and stamped with a version here and there.
fn image(len: usize, version: &str) -> Vec<u8> {
    let mut state = 7_u32;
    let mut image = Vec::with_capacity(len);
    while image.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image.extend_from_slice(&state.to_le_bytes());
        if state.is_multiple_of(997) {
            image.extend_from_slice(version.as_bytes());
        }
    }
    image.truncate(len);
    image
}
