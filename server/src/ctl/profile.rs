//! Which server, and as whom: from the command line, and remembered by `login`.
//!
//! The file is this user's own, and whoever can read it has the session. It lies in
//! `$AMPOULE_CTL_DIR`, or where the system keeps a user's settings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{CtlError, files};

/// Bytes of the file.
const FILE_LEN_MAX: u64 = 64 << 10;
const FILE: &str = "ctl.json";

/// What is known of the server.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Profile {
    /// `https://host:port`.
    #[serde(default)]
    pub(super) server: String,
    /// The authority of the server's certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca: Option<PathBuf>,
    /// The session of a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) session: Option<String>,
    /// The certificate of a program, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) certificate: Option<PathBuf>,
    /// Its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<PathBuf>,
}

/// How the command line names the server.
#[derive(Debug, clap::Args)]
pub(super) struct Server {
    /// The server, "https://host:port"; by default the one of the last login.
    #[arg(long = "server", env = "AMPOULE_SERVER", global = true)]
    address: Option<String>,
    /// The authority that issued the server's certificate, PEM.
    #[arg(long, env = "AMPOULE_CA", global = true)]
    ca: Option<PathBuf>,
    /// A program's client certificate, PEM; then no session is used.
    #[arg(long, env = "AMPOULE_CERT", global = true, requires = "cert_key")]
    cert: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long, env = "AMPOULE_CERT_KEY", global = true, requires = "cert")]
    cert_key: Option<PathBuf>,
}

impl Server {
    /// What is said, and for the rest what is remembered.
    pub(super) fn profile(&self) -> Result<Profile, CtlError> {
        let mut profile = Profile::load()?;
        if let Some(server) = &self.address {
            // A session is for the server that gave it, and for no other.
            if *server != profile.server {
                profile.session = None;
            }
            profile.server.clone_from(server);
        }
        if self.ca.is_some() {
            profile.ca.clone_from(&self.ca);
        }
        if self.cert.is_some() {
            profile.certificate.clone_from(&self.cert);
            profile.key.clone_from(&self.cert_key);
            profile.session = None;
        }
        if profile.server.is_empty() {
            let what = "no server is known: say --server, or log in";
            return Err(CtlError::Usage(what.into()));
        }
        Ok(profile)
    }
}

fn folder() -> Result<PathBuf, CtlError> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = of("AMPOULE_CTL_DIR") {
        return Ok(folder.into());
    }
    let settings = of("XDG_CONFIG_HOME")
        .or_else(|| of("APPDATA"))
        .map(PathBuf::from);
    let settings = settings.or_else(|| Some(PathBuf::from(of("HOME")?).join(".config")));
    let absent =
        || CtlError::Usage("neither HOME nor AMPOULE_CTL_DIR says where to remember".into());
    Ok(settings.ok_or_else(absent)?.join("ampoule"))
}

impl Profile {
    fn load() -> Result<Self, CtlError> {
        let path = folder()?.join(FILE);
        let Some(bytes) = files::read(&path, FILE_LEN_MAX)? else {
            return Ok(Self::default());
        };
        serde_json::from_slice(&bytes).map_err(|error| {
            CtlError::Usage(format!(
                "\"{}\" is not what was written: {error}",
                path.display()
            ))
        })
    }

    /// Remembers it for the next command.
    pub(super) fn store(&self) -> Result<(), CtlError> {
        let folder = folder()?;
        std::fs::create_dir_all(&folder).map_err(CtlError::file("create", &folder))?;
        let text = serde_json::to_vec_pretty(self).expect("a profile is plain data");
        files::replace(&folder.join(FILE), &text)
    }
}
