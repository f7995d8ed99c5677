//! Files as the tool reads and writes them.

use std::fs::File;
#[cfg(not(unix))]
use std::io::Read as _;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::Failure;
use crate::{ImageError, NewImage, OldImage, Store};

/// The bytes of a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::with(format!("failed to read \"{}\"", path.display()), error))
}

/// Writes a file beside its place, syncs it, and renames it: it appears whole or not at all.
pub(super) fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".ampoule-delta-")
        .tempfile_in(folder)
        .map_err(|error| failed_to_write(path, error))?;
    fill(temporary.as_file_mut())?;
    let keep = |file: &File| {
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.sync_all()
    };
    keep(temporary.as_file()).map_err(|error| failed_to_write(path, error))?;
    temporary
        .persist(path)
        .map_err(|error| failed_to_write(path, error.error))?;
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed_to_write(path, error))?;
    Ok(())
}

/// The failure to write `path`.
pub(super) fn failed_to_write(path: &Path, error: io::Error) -> Failure {
    Failure::with(format!("failed to write \"{}\"", path.display()), error)
}

/// The old image, or a patch in place, as a file.
pub(super) struct OldFile(pub(super) File);

impl OldImage for OldFile {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        read_exact_at(&self.0, offset, buf)
    }
}

/// The new image on its way into a file.
pub(super) struct NewFile<'a>(BufWriter<Hashed<'a>>);

/// Shorter runs of zeros are written.
const HOLE_MIN: usize = 64 << 10;

fn is_zero(bytes: &[u8]) -> bool {
    let some = |bytes: &[u8]| bytes.iter().fold(0, |some, byte| some | byte);
    bytes.chunks(64).all(|bytes| some(bytes) == 0)
}

/// A file and the digest of what was written to it.
struct Hashed<'a> {
    file: &'a mut File,
    hash: Sha256,
}

impl io::Write for Hashed<'_> {
    /// Zeros are left as a hole: an image has many, and the disk need not take them.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let is_hole = bytes.len() >= HOLE_MIN && is_zero(bytes);
        let len = if is_hole {
            let ahead = i64::try_from(bytes.len()).map_err(io::Error::other)?;
            self.file.seek(SeekFrom::Current(ahead))?;
            bytes.len()
        } else {
            self.file.write(bytes)?
        };
        self.hash.update(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl<'a> NewFile<'a> {
    /// An image that is written and hashed in pieces of `piece` bytes, however it comes.
    pub(super) fn new(file: &'a mut File, piece: usize) -> Self {
        let hash = Sha256::new();
        Self(BufWriter::with_capacity(piece, Hashed { file, hash }))
    }

    /// Writes what is left; the digest of the whole.
    pub(super) fn finish(self) -> io::Result<[u8; 32]> {
        let hashed = self
            .0
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        // The file ends with a hole where the image ends with zeros.
        let len = hashed.file.stream_position()?;
        hashed.file.set_len(len)?;
        Ok(hashed.hash.finalize().into())
    }
}

impl NewImage for NewFile<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.0.write_all(bytes).map_err(ImageError::new)
    }
}

/// A file, or a part of one, that is rewritten.
pub(super) struct StoreFile<'a> {
    pub(super) file: &'a File,
    /// Where this store begins in the file.
    pub(super) from: u64,
    /// Bytes that it may hold.
    pub(super) capacity: u64,
}

impl Store for StoreFile<'_> {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        read_exact_at(self.file, self.from + offset, buf)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.from + offset))
            .map_err(ImageError::new)?;
        file.write_all(bytes).map_err(ImageError::new)
    }

    fn sync(&mut self) -> Result<(), ImageError> {
        self.file.sync_data().map_err(ImageError::new)
    }

    fn capacity(&mut self) -> Result<u64, ImageError> {
        Ok(self.capacity)
    }
}

fn read_exact_at(file: &File, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
    #[cfg(unix)]
    let read = std::os::unix::fs::FileExt::read_exact_at(file, buf, offset);
    #[cfg(not(unix))]
    let read = {
        let mut file = file;
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(buf))
    };
    read.map_err(ImageError::new)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    /// Meant to catch a hole that is not hashed and a file that ends before its last hole.
    #[test]
    fn zeros_are_there_though_nobody_wrote_them() {
        let mut file = tempfile::tempfile().expect("a file");
        let mut wanted = vec![7; 1000];
        wanted.resize(300_000, 0);
        wanted.resize(400_000, 9);
        wanted.resize(800_000, 0);
        let mut new = NewFile::new(&mut file, 64 << 10);
        for piece in wanted.chunks(30_000) {
            new.append(piece).expect("it is written");
        }
        let digest = new.finish().expect("it ends");
        assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&wanted)));
        let mut found = Vec::new();
        file.rewind().expect("a place");
        file.read_to_end(&mut found).expect("it is read");
        assert!(found == wanted);
    }
}
