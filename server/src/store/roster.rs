//! The roster: a plain append-only file beside the store that says who is enrolled.
//!
//! Enrolments are few and must outlive a damaged engine: a revoked device must not come back, and
//! an enrolled one must not be shut out. Each line is one JSON object, synced before the store is
//! told. A torn last line is what a power cut leaves and is dropped; any other bad line is a fault
//! that a person has to look at.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::DeviceId;
use serde::{Deserialize, Serialize};

use super::{DeviceRow, Standing, StoreError, Write};
use crate::file::sync_folder_of;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    device: DeviceId,
    standing: Standing,
    at: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    certificate: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    not_after: Option<i64>,
}

/// The open file.
#[derive(Debug)]
pub struct Roster {
    path: PathBuf,
    file: File,
}

impl Roster {
    /// Opens or begins the file, and cuts a torn last line off.
    ///
    /// # Errors
    /// It cannot be read or written, or a line before the last is bad.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |act| {
            move |source| StoreError::File {
                act,
                path: path.to_path_buf(),
                source,
            }
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(path)
            .map_err(failed("open"))?;
        sync_folder_of(path).map_err(failed("sync the folder of"))?;
        let text = std::fs::read(path).map_err(failed("read"))?;
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        if whole < text.len() {
            file.set_len(whole as u64).map_err(failed("mend"))?;
        }
        let roster = Self {
            path: path.to_path_buf(),
            file,
        };
        roster.writes()?;
        Ok(roster)
    }

    /// Adds `write`, if it is about enrolment, and returns when the disk has it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn add(&mut self, write: &Write) -> Result<(), StoreError> {
        let lines = match write {
            Write::Restore(whole) => Self::lines_of(&whole.row),
            Write::Enroll {
                device,
                certificate,
                not_after,
                at,
            } => vec![Line {
                device: device.clone(),
                standing: Standing::Enrolled,
                at: *at,
                certificate: Some(*certificate),
                not_after: Some(*not_after),
            }],
            Write::Revoke { device, at } => vec![Line {
                device: device.clone(),
                standing: Standing::Revoked,
                at: *at,
                certificate: None,
                not_after: None,
            }],
            Write::Inventory { .. }
            | Write::Receipt { .. }
            | Write::Tags { .. }
            | Write::Rollout { .. }
            | Write::Deployment { .. }
            | Write::Records(_) => return Ok(()),
        };
        self.append(&lines).map_err(|source| StoreError::File {
            act: "write",
            path: self.path.clone(),
            source,
        })
    }

    /// What a device's row says about its enrolment.
    fn lines_of(row: &DeviceRow) -> Vec<Line> {
        let enrolled = Line {
            device: row.device.clone(),
            standing: Standing::Enrolled,
            at: row.enrolled_at,
            certificate: Some(row.certificate),
            not_after: Some(row.not_after),
        };
        let revoked = row.revoked_at.map(|at| Line {
            device: row.device.clone(),
            standing: Standing::Revoked,
            at,
            certificate: None,
            not_after: None,
        });
        [enrolled].into_iter().chain(revoked).collect()
    }

    fn append(&mut self, lines: &[Line]) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        self.file.write_all(&text)?;
        self.file.sync_data()
    }

    fn damaged(&self, line: usize, fault: &str) -> StoreError {
        let path = self.path.display();
        StoreError::Damaged(format!("line {line} of \"{path}\": {fault}"))
    }

    /// The writes that bring an empty store to what the file says.
    ///
    /// # Errors
    /// The file cannot be read, or a line is bad.
    pub fn writes(&self) -> Result<Vec<Write>, StoreError> {
        let text = std::fs::read_to_string(&self.path).map_err(|source| StoreError::File {
            act: "read",
            path: self.path.clone(),
            source,
        })?;
        let mut last: BTreeMap<DeviceId, Vec<Write>> = BTreeMap::new();
        for (number, text) in (1..).zip(text.lines()) {
            let line: Line = serde_json::from_str(text)
                .map_err(|error| self.damaged(number, &error.to_string()))?;
            let writes = last.entry(line.device.clone()).or_default();
            match (line.standing, line.certificate, line.not_after) {
                (Standing::Enrolled, Some(certificate), Some(not_after)) => {
                    *writes = vec![Write::Enroll {
                        device: line.device,
                        certificate,
                        not_after,
                        at: line.at,
                    }];
                }
                (Standing::Revoked, ..) => {
                    writes.push(Write::Revoke {
                        device: line.device,
                        at: line.at,
                    });
                }
                (Standing::Enrolled, ..) => {
                    return Err(self.damaged(number, "names no certificate"));
                }
            }
        }
        Ok(last.into_values().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enroll(device: &str, at: i64) -> Write {
        Write::Enroll {
            device: DeviceId::parse(device).unwrap(),
            certificate: Digest::of(device.as_bytes()),
            not_after: 99,
            at,
        }
    }

    #[test]
    fn a_torn_line_is_dropped_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("roster");
        let mut roster = Roster::open(&path).unwrap();
        roster.add(&enroll("pump-1", 1)).unwrap();
        roster.add(&enroll("pump-2", 2)).unwrap();
        roster
            .add(&Write::Revoke {
                device: DeviceId::parse("pump-1").unwrap(),
                at: 3,
            })
            .unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in whole.len() - 5..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut roster = Roster::open(&path).unwrap();
            assert_eq!(
                roster.writes().unwrap().len(),
                2,
                "the torn revocation is not there"
            );
            roster.add(&enroll("pump-3", 4)).unwrap();
            assert_eq!(roster.writes().unwrap().len(), 3);
        }
        std::fs::write(&path, [b"nonsense\n", &whole[..]].concat()).unwrap();
        assert!(matches!(Roster::open(&path), Err(StoreError::Damaged(_))));
    }
}
