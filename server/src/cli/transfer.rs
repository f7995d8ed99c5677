//! `export` and `import`: a whole fleet to a file and back.

use std::path::{Path, PathBuf};

use super::Common;
use super::devices::{ask, print};
use crate::admin::{Ask, Told};
use crate::config::Config;
use crate::error::ServerError;
use crate::store::open::Opened;
use crate::store::transfer::{self, Moved};

#[derive(Debug, clap::Args)]
pub(super) struct Transfer {
    /// The file.
    file: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Transfer {
    /// Through the running server, or from the store itself.
    pub(super) fn export(&self) -> Result<(), ServerError> {
        let config = Config::load(&self.common.config)?;
        let file =
            std::path::absolute(&self.file).map_err(ServerError::file("name", &self.file))?;
        let Told::Exported(moved) = ask(&Ask::Export { file }, &config, "")? else {
            return Err(ServerError::Refused("an answer to something else".into()));
        };
        self.tell("exported", "to", moved);
        Ok(())
    }

    /// Into the store itself, which no server may use meanwhile.
    pub(super) fn import(&self) -> Result<(), ServerError> {
        let config = Config::load(&self.common.config)?;
        let file = open(&self.file)?;
        let store = Opened::open(&config.store, None)?;
        let moved = transfer::import(&store, file)?;
        store.close();
        self.tell("imported", "from", moved);
        Ok(())
    }

    fn tell(&self, done: &str, way: &str, moved: Moved) {
        print(self.common.json, &moved, || {
            format!(
                "{done} {} devices, {} receipts, {} rollouts and {} records {way} \"{}\"",
                moved.devices,
                moved.receipts,
                moved.rollouts,
                moved.records,
                self.file.display()
            )
        });
    }
}

fn open(path: &Path) -> Result<std::fs::File, ServerError> {
    std::fs::File::open(path).map_err(ServerError::file("open", path))
}
