//! `[secrets]`: where the key that seals is.

use std::path::{Path, PathBuf};

use super::Secrets;
use super::reader::Section;

impl Secrets {
    /// `key_file = "PATH"`, or `credential = "NAME"` of those that systemd hands to the unit.
    pub(super) fn read(from: &mut Section<'_, '_>, kept: &[&Path]) -> Self {
        let key_file = if from.has("credential") {
            let folder = std::env::var_os("CREDENTIALS_DIRECTORY");
            let name = from.string("credential").unwrap_or_default();
            if name.is_empty() || name.contains('/') {
                from.fault("credential", "is not the name of a credential");
            }
            if folder.is_none() {
                let what = "needs systemd's LoadCredential: CREDENTIALS_DIRECTORY is not set";
                from.fault("credential", what);
            }
            PathBuf::from(folder.unwrap_or_default()).join(name)
        } else {
            from.existing_file("key_file")
        };
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if kept
            .iter()
            .any(|kept| real(&key_file).starts_with(real(kept)))
        {
            let what = "lies in a folder that is backed up with what it seals";
            from.fault("key_file", what);
        }
        Self { key_file }
    }
}
