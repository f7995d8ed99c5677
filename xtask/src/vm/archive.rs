//! An initramfs: files in the kernel's own archive form (newc, `driver-api/early-userspace`).

/// What a file is, and how it may be used.
const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const PROGRAM: u32 = 0o100_755;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    count: u32,
}

impl Archive {
    /// A folder; its parents come first.
    pub(super) fn folder(&mut self, name: &str) {
        self.add(name, FOLDER, b"");
    }

    /// A file that may be run.
    pub(super) fn file(&mut self, name: &str, data: &[u8]) {
        self.add(name, PROGRAM, data);
    }

    /// A symbolic link.
    pub(super) fn link(&mut self, name: &str, target: &str) {
        self.add(name, LINK, target.as_bytes());
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }

    fn add(&mut self, name: &str, mode: u32, data: &[u8]) {
        self.count += 1;
        let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        // inode, mode, user, group, links, time, length, four device numbers, name length, check
        let fields = [
            self.count,
            mode,
            0,
            0,
            1,
            0,
            number(data.len()),
            0,
            0,
            0,
            0,
            number(name.len() + 1),
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_head_of_110_bytes_a_name_and_data_each_on_four_bytes() {
        let mut archive = Archive::default();
        archive.file("init", b"12345");
        let bytes = archive.finish();
        assert!(bytes.starts_with(b"07070100000001000081ed"));
        assert_eq!(&bytes[110..115], b"init\0");
        assert_eq!(&bytes[116..121], b"12345");
        assert_eq!(&bytes[124..130], b"070701");
        assert!(bytes.windows(10).any(|name| name == b"TRAILER!!!"));
    }
}
