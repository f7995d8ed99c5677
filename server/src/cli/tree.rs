//! `tree push`: what the signer published goes to the bucket.

use std::path::PathBuf;

use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use crate::blob::push::push;
use crate::blob::{Folder, S3};
use crate::config::Config;
use crate::error::ServerError;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Publish a folder: targets first, the timestamp last. A push that was cut is done again.
    Push {
        /// The tree as the signer published it.
        folder: PathBuf,
        /// The configuration file, whose [blobs] names the bucket.
        #[arg(long)]
        config: PathBuf,
        /// Answer in JSON.
        #[arg(long)]
        json: bool,
    },
}

impl Command {
    pub(super) fn run(&self) -> Result<(), ServerError> {
        let Self::Push {
            folder,
            config,
            json,
        } = self;
        let config = Config::load(config)?;
        let none = || ServerError::Refused("there is no [blobs] in the configuration".into());
        let bucket = S3::new(&config.blobs.ok_or_else(none)?.bucket)?;
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build();
        let runtime = runtime.map_err(|source| ServerError::System {
            act: "start a runtime",
            source,
        })?;
        // Drawn on a terminal only.
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(std::time::Duration::from_millis(200));
        let folder = Folder::new(folder.clone());
        let told = |key: &crate::blob::Key, len: u64| {
            bar.set_message(format!("{} ({len} bytes)", key.as_str()));
        };
        let pushed = runtime.block_on(push(&folder, &bucket, told));
        bar.finish_and_clear();
        let pushed = pushed?;
        let (written, bytes, there) = (pushed.written, pushed.bytes, pushed.there);
        if *json {
            let words = serde_json::json!({"written": written, "bytes": bytes, "there": there});
            println!("{words}");
        } else {
            println!("{written} files ({bytes} bytes) were written, {there} were there");
        }
        Ok(())
    }
}
