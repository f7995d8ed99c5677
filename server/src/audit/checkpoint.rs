//! Checkpoints (C2SP `tlog-checkpoint`): which log, how many entries, which root.

use data_encoding::BASE64;

use super::AuditError;
use super::merkle::{self, Hash};
use super::note::{Note, Signer, Verifier};

/// Entries that a log can have; beyond, sizes would not fit numbers of other people's tools.
pub const SIZE_MAX: u64 = 1 << 62;

/// What a log says of itself at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// Of a log without entries.
    pub fn empty(origin: &str) -> Self {
        Self {
            origin: origin.to_owned(),
            size: 0,
            root: merkle::empty(),
        }
    }

    /// The text that is signed.
    pub fn text(&self) -> String {
        let root = BASE64.encode(&self.root);
        format!("{}\n{}\n{root}\n", self.origin, self.size)
    }

    /// The signed note.
    ///
    /// # Errors
    /// The key failed.
    pub fn sign(&self, signer: &Signer) -> Result<String, AuditError> {
        let text = self.text();
        Ok(format!("{text}\n{}", signer.sign(&text, 0)?))
    }

    /// What a note says that was signed by `log`.
    ///
    /// # Errors
    /// It is no checkpoint, is of another log, or is not signed by it.
    pub fn verify(note: &[u8], log: &Verifier) -> Result<Self, AuditError> {
        let note = Note::parse(note)?;
        if note.signed_by(log)?.is_none() {
            return Err(AuditError::Unsigned(log.to_string()));
        }
        let checkpoint = Self::parse(note.text())?;
        if checkpoint.origin != log.name() {
            return Err(AuditError::OtherLog {
                found: checkpoint.origin,
                expected: log.name().to_owned(),
            });
        }
        Ok(checkpoint)
    }

    fn parse(text: &str) -> Result<Self, AuditError> {
        let bad = |what: &str| AuditError::Note(what.to_owned());
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next())
        else {
            return Err(bad("is no checkpoint: it has fewer than three lines"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(bad("is no checkpoint: it has an empty line"));
        }
        let number = size.parse::<u64>().ok();
        let number = number.filter(|number| *number <= SIZE_MAX && number.to_string() == size);
        let size = number.ok_or_else(|| bad("is no checkpoint: its second line is no size"))?;
        let root = BASE64.decode(root.as_bytes()).ok();
        let root = root.and_then(|root| Hash::try_from(root).ok());
        let root = root.ok_or_else(|| bad("is no checkpoint: its third line is no root"))?;
        if size == 0 && root != merkle::empty() {
            return Err(bad("is no checkpoint: no entries have another root"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            size,
            root,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::note::Kind;
    use super::*;
    use ampoule_protocol::sign::Ed25519Key;

    /// The example of C2SP `signed-note`, by another implementation.
    #[test]
    fn the_example_of_the_specification_verifies() {
        let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let note = "This is an example message.\n\n\u{2014} example.com/foo \
                    Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1\
                    Yu72IneyaQM=\n";
        let verifier = Verifier::parse(key).unwrap();
        assert_eq!(verifier.to_string(), key);
        let parsed = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(parsed.signed_by(&verifier).unwrap(), Some(0));
        let edited = Note::parse(note.replace("message", "massage").as_bytes()).unwrap();
        assert!(matches!(
            edited.signed_by(&verifier),
            Err(AuditError::Signature(_))
        ));
    }

    #[test]
    fn a_cosignature_is_of_text_and_time_and_of_no_other_kind() {
        let key = || Ed25519Key::from_seed(&[7; 32]).unwrap();
        let log = Signer::new("example.com/log", Kind::Note, key()).unwrap();
        let witness = Signer::new("example.com/w", Kind::Cosignature, key()).unwrap();
        let checkpoint = Checkpoint::empty("example.com/log");
        let mut note = checkpoint.sign(&log).unwrap();
        note += &witness.sign(&checkpoint.text(), 1_679_315_147).unwrap();
        let parsed = Note::parse(note.as_bytes()).unwrap();
        let known = Verifier::parse(&witness.verifier().to_string()).unwrap();
        assert_eq!(parsed.signed_by(&known).unwrap(), Some(1_679_315_147));
        assert_eq!(
            Checkpoint::verify(note.as_bytes(), log.verifier()).unwrap(),
            checkpoint
        );
        let again = Signer::parse(&witness.to_text()).unwrap();
        assert_eq!(again.verifier().to_string(), known.to_string());
        // A stranger proves nothing, and does no harm.
        let other = Signer::new("example.com/x", Kind::Cosignature, key()).unwrap();
        assert_eq!(parsed.signed_by(other.verifier()).unwrap(), None);
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        let key = Ed25519Key::from_seed(&[7; 32]).unwrap();
        let log = Signer::new("o", Kind::Note, key).unwrap();
        let empty = BASE64.encode(&merkle::empty());
        let other = BASE64.encode(&[1; 32]);
        for text in [
            "o\n".to_owned(),
            format!("o\n01\n{other}\n"),
            format!("o\n-1\n{other}\n"),
            format!("o\n+1\n{other}\n"),
            format!("o\n9223372036854775808\n{other}\n"),
            format!("o\n1\n{}\n", &other[..40]),
            format!("o\n0\n{other}\n"),
            format!("p\n0\n{empty}\n"),
            format!("\n0\n{empty}\n"),
        ] {
            let note = format!("{text}\n{}", log.sign(&text, 0).unwrap());
            assert!(
                Checkpoint::verify(note.as_bytes(), log.verifier()).is_err(),
                "{text:?}"
            );
        }
        for note in ["", "\n\n", "a\n", "a\n\nb\n", "a\n\n\u{2014} o AAAA\n"] {
            assert!(Note::parse(note.as_bytes()).is_err(), "{note:?}");
        }
    }
}
