//! A tar that is read from its members as it goes, so that no image lies in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::path::PathBuf;

use ampoule_protocol::time::UtcTime;

/// Bytes of a tar block.
const BLOCK_LEN: u64 = 512;

/// One file of the archive.
#[derive(Debug)]
pub(super) struct Member {
    name: String,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Bytes(Vec<u8>),
    File { path: PathBuf, len: u64 },
}

impl Member {
    pub(super) fn bytes(name: &str, bytes: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            content: Content::Bytes(bytes),
        }
    }

    pub(super) fn file(name: &str, path: PathBuf, len: u64) -> Self {
        Self {
            name: name.to_owned(),
            content: Content::File { path, len },
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::File { len, .. } => *len,
        }
    }

    /// The header's bytes; a long name takes an entry of its own before it.
    fn header(&self, time: u64) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_size(self.len());
        header.set_mode(0o644);
        header.set_mtime(time);
        let mut builder = tar::Builder::new(Vec::new());
        builder
            .append_data(&mut header, &self.name, io::empty())
            .expect("a relative name without \"..\", written to memory");
        builder.get_ref().clone()
    }

    fn reader(self) -> io::Result<Box<dyn Read>> {
        Ok(match self.content {
            Content::Bytes(bytes) => Box::new(Cursor::new(bytes)),
            // A file that grew meanwhile must not push the others away.
            Content::File { path, len } => Box::new(File::open(path)?.take(len)),
        })
    }
}

/// The archive, as a reader.
pub(super) struct Archive {
    members: VecDeque<Member>,
    current: Box<dyn Read>,
    time: u64,
    has_ended: bool,
}

impl Archive {
    pub(super) fn new(members: Vec<Member>, time: UtcTime) -> Self {
        Self {
            members: members.into(),
            current: Box::new(io::empty()),
            time: u64::try_from(time.unix()).unwrap_or(0),
            has_ended: false,
        }
    }

    /// Its bytes, before the first is read.
    pub(super) fn len(&self) -> u64 {
        let member = |one: &Member| {
            one.header(self.time).len() as u64 + one.len().next_multiple_of(BLOCK_LEN)
        };
        self.members.iter().map(member).sum::<u64>() + 2 * BLOCK_LEN
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Box<dyn Read>>> {
        if let Some(member) = self.members.pop_front() {
            let (header, len) = (member.header(self.time), member.len());
            let padding = len.next_multiple_of(BLOCK_LEN) - len;
            let piece = Cursor::new(header)
                .chain(member.reader()?)
                .chain(io::repeat(0).take(padding));
            return Ok(Some(Box::new(piece)));
        }
        if self.has_ended {
            return Ok(None);
        }
        self.has_ended = true;
        Ok(Some(Box::new(io::repeat(0).take(2 * BLOCK_LEN))))
    }
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.next()? {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tar_of_the_usual_kind_comes_out_with_long_names_too() {
        let long = format!("targets/pump/{}.rootfs-1.0.0.img", "a".repeat(200));
        let members = || {
            vec![
                Member::bytes("bundle.json", b"{}".to_vec()),
                Member::bytes(&long, vec![7; 1000]),
                Member::bytes("metadata/empty.json", Vec::new()),
            ]
        };
        let mut archive = Archive::new(members(), UtcTime::from_unix(1_800_000_000));
        let expected = archive.len();
        let mut bytes = Vec::new();
        archive.read_to_end(&mut bytes).expect("memory");
        assert_eq!(bytes.len() as u64, expected);
        let mut read = tar::Archive::new(bytes.as_slice());
        let mut found = Vec::new();
        for entry in read.entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let mut content = Vec::new();
            entry.read_to_end(&mut content).expect("content");
            found.push((entry.path().expect("a path").display().to_string(), content));
        }
        let expected = [("bundle.json", b"{}".to_vec()), (&long, vec![7; 1000])];
        for ((name, content), (expected_name, expected_content)) in found.iter().zip(expected) {
            assert_eq!((name.as_str(), content), (expected_name, &expected_content));
        }
        assert_eq!(found.len(), 3);
    }
}
