//! The device's trust core behind the command line of theupdateframework/tuf-conformance
//! (`CLIENT-CLI.md`):
//!
//! ```text
//! ampoule-tuf-client --metadata-dir DIR init TRUSTED_ROOT
//! ampoule-tuf-client --metadata-dir DIR --metadata-url URL refresh
//! ampoule-tuf-client --metadata-dir DIR --metadata-url URL --target-name NAME…
//!                    --target-dir DIR --target-base-url URL download
//! ```
//!
//! Exit 0 done, 1 refused or failed, 2 wrong usage. Plain HTTP, since that is what the suite
//! serves; a device speaks mutual TLS and nothing else.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::SystemTime;

use ampoule_agent::disk::Disk;
use ampoule_agent::net::NetError;
use ampoule_agent::ports::{Fetch, replace};
use ampoule_agent::trust::{MetadataStore, Updater};
use ampoule_protocol::client::Trusted;
use ampoule_protocol::error;
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::name::{RoleName, TargetPath};
use ampoule_protocol::paths;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::{TrustedSet, UpdateStart};

mod http;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("error: {what}\nhint: see CLIENT-CLI.md of tuf-conformance");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{}", error::chain(&*failure, None));
            ExitCode::from(1)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let client = Client::open(arguments)?;
    let mut fetch = PlainHttp {
        url: arguments.metadata_url.clone(),
    };
    let mut updater = Updater::new(&client.store, &mut fetch, Lengths::DEFAULT);
    match &arguments.command {
        Command::Init { root } => {
            let root = fs::read(root)?;
            TrustedSet::begin(&root)?;
            Ok(client.store.init(&root)?)
        }
        Command::Refresh => client.refresh(&mut updater).map(drop),
        Command::Download => {
            let mut trusted = client.refresh(&mut updater)?;
            let mut names = arguments.targets.iter();
            names.try_for_each(|name| client.download(&mut updater, &mut trusted, name))
        }
    }
}

/// Metadata over plain HTTP, for the agent's updater.
struct PlainHttp {
    url: String,
}

impl Fetch for PlainHttp {
    fn fetch(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        http::get(&self.url, name, max_len)
    }
}

#[derive(Default)]
struct Arguments {
    metadata_dir: PathBuf,
    metadata_url: String,
    target_dir: PathBuf,
    target_url: String,
    targets: Vec<String>,
    command: Command,
}

#[derive(Default)]
enum Command {
    Init {
        root: PathBuf,
    },
    #[default]
    Refresh,
    Download,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = Self::default();
        let mut command = None;
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--metadata-dir" => arguments.metadata_dir = value()?.into(),
                "--metadata-url" => arguments.metadata_url = value()?,
                "--target-dir" => arguments.target_dir = value()?.into(),
                "--target-base-url" => arguments.target_url = value()?,
                "--target-name" => arguments.targets.push(value()?),
                "init" => {
                    let root = value()?.into();
                    command = Some(Command::Init { root });
                }
                "refresh" => command = Some(Command::Refresh),
                "download" => command = Some(Command::Download),
                other => return Err(format!("\"{other}\" is neither an option nor a command")),
            }
        }
        arguments.command = command.ok_or("there is no command")?;
        Ok(arguments)
    }
}

struct Client<'a> {
    arguments: &'a Arguments,
    store: MetadataStore,
}

impl<'a> Client<'a> {
    fn open(arguments: &'a Arguments) -> Result<Self, Failure> {
        let store = MetadataStore::open(Rc::new(Disk), &arguments.metadata_dir)?;
        Ok(Self { arguments, store })
    }

    fn refresh(&self, updater: &mut Updater<'_>) -> Result<Trusted, Failure> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let now = UtcTime::from_unix(i64::try_from(now.as_secs())?);
        let signed_at = self.store.signed_at().unwrap_or(UtcTime::EPOCH);
        Ok(updater.refresh(UpdateStart::new(Some(now), signed_at))?)
    }

    fn download(
        &self,
        updater: &mut Updater<'_>,
        trusted: &mut Trusted,
        name: &str,
    ) -> Result<(), Failure> {
        let path = TargetPath::parse(name)?;
        let target = updater.find(trusted, path.clone())?;
        let target = target.ok_or_else(|| format!("no role describes \"{path}\""))?;
        let encoded = RoleName::parse(name)?.file_stem();
        let local = self.arguments.target_dir.join(encoded);
        if fs::read(&local).is_ok_and(|bytes| target.file().hashes.verify(&bytes)) {
            return Ok(());
        }
        let hashes = trusted
            .set()
            .root()
            .consistent_snapshot
            .then_some(&target.file().hashes);
        let file = http::encode(&paths::target_file(&path, hashes));
        let bytes = http::get(&self.arguments.target_url, &file, target.file().length)?;
        let bytes = bytes.ok_or_else(|| format!("the repository has no target \"{path}\""))?;
        let fits = bytes.len() as u64 == target.file().length;
        if !fits || !target.file().hashes.verify(&bytes) {
            return Err(format!("target \"{path}\" is another file than described").into());
        }
        Ok(replace(&Disk, &local, &bytes)?)
    }
}
