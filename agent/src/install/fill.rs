//! Fills a slot from the network, full or by patch, block by checked block.

use std::io::{self, Read};
use std::path::Path;

use ampoule_delta::{Accept, Caps, ImageError, NewImage, OldImage, PatchError, Patcher};
use ampoule_protocol::digest::Hashes;
use ampoule_protocol::hex;
use ampoule_protocol::paths;
use ampoule_protocol::release::FileRef;
use ampoule_protocol::tree::{BlockTree, TreeShape};

use super::writer::BlockWriter;
use super::{InstallError, Place};
use crate::machine::{BootView, Mark, Method, Part};
use crate::net::NetError;
use crate::ports::{Access, Network, Storage, StoredFile};

/// Bytes of the leaf list that is held in memory: an image of 4 GiB in blocks of 64 KiB, or of
/// 64 GiB in blocks of 1 MiB. Stops an image from taking the device's memory.
pub const LEAVES_LEN_MAX: u64 = 2 << 20;

/// Bytes between checkpoints; a cut costs no more of the download than this.
const CHECKPOINT_LEN: u64 = 4 << 20;
/// The same where nothing is downloaded: each costs a wait for the medium, and a cut costs a second.
const AT_HAND_LEN: u64 = 64 << 20;

/// Bytes read from the network at once.
const PIECE_LEN: usize = 64 << 10;

/// What a fill is told as it goes on.
pub struct Fill<'a> {
    /// The part to fill.
    pub part: &'a Part,
    /// How.
    pub method: Method,
    /// From where.
    pub mark: &'a Mark,
    /// Where its component lives.
    pub place: &'a Place,
    /// What the boot loader says of it.
    pub view: BootView,
    /// Memory that a patch may take, in bytes.
    pub patch_memory_max: u64,
}

/// The world of a fill.
pub struct Source<'a> {
    /// Files and slots.
    pub storage: &'a dyn Storage,
    /// The server.
    pub network: &'a mut dyn Network,
    /// Told what is durable, to journal it: mark, and bytes that came over the wire since.
    pub checkpoint: &'a mut dyn FnMut(Mark, u64) -> io::Result<()>,
    /// Told how far it is, for people: bytes of the image.
    pub progress: &'a mut dyn FnMut(u64),
    /// Whether to end at the next checkpoint, which is then now.
    pub is_to_stop: &'a dyn Fn() -> bool,
}

/// A slot that is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    /// Bytes that came over the wire since the last checkpoint.
    pub fetched: u64,
    /// Bytes that were in the slot already, and were not written again.
    pub kept: u64,
}

impl Source<'_> {
    /// Bytes between checkpoints.
    fn checkpoint_len(&self) -> u64 {
        if self.network.is_at_hand() {
            AT_HAND_LEN
        } else {
            CHECKPOINT_LEN
        }
    }
}

/// Fills the part's slot.
///
/// # Errors
/// See [`InstallError`]. What was checkpointed stays good.
pub fn fill(fill: &Fill<'_>, source: &mut Source<'_>) -> Result<Filled, InstallError> {
    let slot = fill.part.slot;
    let is_armed = fill.view.armed.is_some_and(|(armed, _)| armed == slot);
    if fill.view.running == slot || fill.view.default == slot || is_armed {
        return Err(InstallError::InUse {
            component: fill.part.component.to_string(),
            slot,
        });
    }
    let tree = fetch_tree(fill.part, source.network)?;
    let path = fill.place.slot_path(slot);
    let mut writer = BlockWriter::open(source.storage, path, tree, fill.mark.done)?;
    let filled = match fill.method {
        Method::Full => full(fill, source, &mut writer),
        Method::Delta => delta(fill, source, &mut writer),
    }?;
    if fill.place.options.discard {
        writer.discard_rest()?;
    }
    Ok(filled)
}

fn fetch_tree(part: &Part, network: &mut dyn Network) -> Result<BlockTree, InstallError> {
    let leaves = &part.blocks.leaves;
    let tree_error = |source| InstallError::Tree {
        path: leaves.path.to_string(),
        source,
    };
    let shape = TreeShape::new(part.artifact.length, part.blocks.block_len).map_err(tree_error)?;
    if shape.leaves_len() > LEAVES_LEN_MAX {
        return Err(InstallError::LeavesTooLong {
            found: shape.leaves_len(),
            max: LEAVES_LEN_MAX,
        });
    }
    let mut bytes = Vec::new();
    if shape.leaves_len() > 0 {
        let body = network.target(&name_of(leaves), 0, shape.leaves_len());
        let read = body.and_then(|mut body| body.read_to_end(&mut bytes).map_err(NetError::from));
        read.map_err(|source| network_error(leaves, source))?;
    }
    BlockTree::from_leaves(shape, &part.blocks.root, &bytes).map_err(tree_error)
}

fn full(
    fill: &Fill<'_>,
    source: &mut Source<'_>,
    writer: &mut BlockWriter,
) -> Result<Filled, InstallError> {
    let artifact = &fill.part.artifact;
    let checkpoint_len = source.checkpoint_len();
    let mut fetched = 0;
    if writer.written() < artifact.length {
        let body = source
            .network
            .target(&name_of(artifact), writer.written(), artifact.length);
        let mut body = body.map_err(|source| network_error(artifact, source))?;
        let mut piece = vec![0; PIECE_LEN];
        loop {
            let count = read_piece(&mut body, &mut piece)
                .map_err(|source| network_error(artifact, source))?;
            if count == 0 {
                break;
            }
            fetched += count as u64;
            writer.push(&piece[..count], artifact)?;
            (source.progress)(writer.written());
            let is_to_stop = (source.is_to_stop)();
            if writer.written() - writer.durable() >= checkpoint_len || is_to_stop {
                writer.sync()?;
                let mark = Mark {
                    done: writer.durable(),
                    patcher: None,
                };
                (source.checkpoint)(mark, std::mem::take(&mut fetched))
                    .map_err(|source| writer.io("journal the fill of", source))?;
            }
            if is_to_stop {
                return Err(InstallError::Stopped);
            }
        }
    }
    let kept = writer.finish(artifact)?;
    Ok(Filled { fetched, kept })
}

fn delta(
    fill: &Fill<'_>,
    source: &mut Source<'_>,
    writer: &mut BlockWriter,
) -> Result<Filled, InstallError> {
    let Some(delta) = &fill.part.delta else {
        return Err(InstallError::Mismatch(fill.part.component.to_string()));
    };
    let file = &delta.file;
    let patch_error = |source| patch_failed(file, source);
    let accept = Accept {
        memory_max: fill.patch_memory_max,
        caps: Caps::all(),
        block_len: fill.part.blocks.block_len,
    };
    let mut patcher = match fill.mark.patcher.as_deref().and_then(hex::decode) {
        Some(bytes) => Patcher::resume(accept, &bytes).map_err(patch_error)?,
        None => Patcher::new(accept),
    };
    let running = fill.place.slot_path(fill.view.running);
    let mut old = OldSlot::open(source.storage, running, delta.base.length)?;
    let mut new = Sink {
        writer: &mut *writer,
        artifact: &fill.part.artifact,
        failed: None,
    };
    let checkpoint_len = source.checkpoint_len();
    let mut fetched = 0;
    let mut piece = vec![0; PIECE_LEN];
    // A resumed patcher leaps once: two readers at most, and one for a patch that ends early.
    for _ in 0..3 {
        let start = patcher.progress().wanted_at;
        if patcher.progress().done || start >= file.length {
            break;
        }
        let body = source.network.target(&name_of(file), start, file.length);
        let mut body = body.map_err(|source| network_error(file, source))?;
        let mut at = start;
        loop {
            let count =
                read_piece(&mut body, &mut piece).map_err(|source| network_error(file, source))?;
            if count == 0 {
                break;
            }
            fetched += count as u64;
            at += count as u64;
            let pushed = patcher.push(&piece[..count], &mut old, &mut new);
            let progress = match (pushed, new.failed.take()) {
                (_, Some(error)) => return Err(error),
                (Err(error), None) => return Err(patch_error(error)),
                (Ok(progress), None) => progress,
            };
            (source.progress)(progress.written);
            let safe = patcher
                .checkpoint()
                .map_or(0, ampoule_delta::Checkpoint::output_offset);
            let is_to_stop = (source.is_to_stop)();
            if safe >= new.writer.durable() + checkpoint_len
                || (is_to_stop && safe > new.writer.durable())
            {
                new.writer.sync()?;
                let patcher = patcher
                    .checkpoint()
                    .map(|checkpoint| hex::encode(&checkpoint.to_bytes()));
                let mark = Mark {
                    done: safe,
                    patcher,
                };
                (source.checkpoint)(mark, std::mem::take(&mut fetched))
                    .map_err(|source| new.writer.io("journal the fill of", source))?;
            }
            if is_to_stop {
                return Err(InstallError::Stopped);
            }
            if progress.done || progress.wanted_at != at {
                break;
            }
        }
    }
    patcher.finish().map_err(patch_error)?;
    let kept = writer.finish(&fill.part.artifact)?;
    Ok(Filled { fetched, kept })
}

/// The writer as the patcher sees it; keeps our own error, which tells more.
struct Sink<'a> {
    writer: &'a mut BlockWriter,
    artifact: &'a FileRef,
    failed: Option<InstallError>,
}

impl NewImage for Sink<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.writer.push(bytes, self.artifact).map_err(|error| {
            let text = error.to_string();
            self.failed = Some(error);
            ImageError::new(text)
        })
    }
}

/// The running slot, read at random; only the bytes of the base.
struct OldSlot {
    file: Box<dyn StoredFile>,
    length: u64,
}

impl OldSlot {
    fn open(storage: &dyn Storage, path: &Path, length: u64) -> Result<Self, InstallError> {
        let file = storage
            .open(path, Access::Read)
            .map_err(|source| InstallError::Io {
                act: "open the running slot",
                path: path.to_owned(),
                source,
            })?;
        Ok(Self { file, length })
    }
}

impl OldImage for OldSlot {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.length) {
            return Err(ImageError::new("a read beyond the end of the base"));
        }
        self.file
            .read_exact_at(buf, offset)
            .map_err(ImageError::new)
    }
}

fn read_piece(body: &mut dyn Read, piece: &mut [u8]) -> Result<usize, NetError> {
    loop {
        match body.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(NetError::from),
        }
    }
}

fn name_of(file: &FileRef) -> String {
    paths::target_file(&file.path, Some(&Hashes::sha256(file.sha256)))
}

pub(super) fn network_error(file: &FileRef, source: NetError) -> InstallError {
    InstallError::Network {
        path: file.path.to_string(),
        source,
    }
}

fn patch_failed(file: &FileRef, source: PatchError) -> InstallError {
    InstallError::Patch {
        path: file.path.to_string(),
        source,
    }
}
