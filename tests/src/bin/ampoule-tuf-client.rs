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
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use ampoule_protocol::client::{Answer, Find, LocalName, Refresh, Search, Step, Trusted};
use ampoule_protocol::error;
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::name::TargetPath;
use ampoule_protocol::paths;
use ampoule_protocol::time::UtcTime;
use ampoule_protocol::trust::{TrustedTarget, UpdateStart};
use ampoule_tests::device::stored_name;
use ampoule_tests::fetch::{self, Fetched};

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
    let client = Client { arguments };
    match &arguments.command {
        Command::Init { root } => Ok(client.store_file("root.json", &fs::read(root)?)?),
        Command::Refresh => client.refresh().map(drop),
        Command::Download => {
            let mut trusted = client.refresh()?;
            arguments
                .targets
                .iter()
                .try_for_each(|name| client.download(&mut trusted, name))
        }
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
                    command = Some(Command::Init {
                        root: value()?.into(),
                    })
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
}

impl Client<'_> {
    fn refresh(&self) -> Result<Trusted, Failure> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
        let now = UtcTime::from_unix(i64::try_from(now.as_secs())?);
        let start = UpdateStart::new(Some(now), UtcTime::EPOCH);
        let root = fs::read(self.arguments.metadata_dir.join("root.json"))?;
        let mut refresh = Refresh::begin(&root, start, Lengths::DEFAULT)?;
        loop {
            let step = refresh.step()?;
            if step == Step::Done {
                return refresh
                    .finish()
                    .ok_or_else(|| "the refresh has no result".into());
            }
            self.act(step, |answer| Ok(refresh.answer(answer)?))?;
        }
    }

    fn find(&self, trusted: &mut Trusted, path: &TargetPath) -> Result<TrustedTarget, Failure> {
        let mut find = Find::new(path.clone());
        loop {
            let step = find.step(trusted)?;
            if step == Step::Done {
                let found = find.found().cloned();
                return found.ok_or_else(|| format!("no role describes \"{path}\"").into());
            }
            self.act(step, |answer| Ok(find.answer(trusted, answer)?))?;
        }
    }

    fn download(&self, trusted: &mut Trusted, name: &str) -> Result<(), Failure> {
        let path = TargetPath::parse(name)?;
        let target = self.find(trusted, &path)?;
        let encoded = ampoule_protocol::name::RoleName::parse(name)?.file_stem();
        let local = self.arguments.target_dir.join(encoded);
        if fs::read(&local).is_ok_and(|bytes| target.file().hashes.verify(&bytes)) {
            return Ok(());
        }
        let hashes = trusted
            .set()
            .root()
            .consistent_snapshot
            .then_some(&target.file().hashes);
        let file = fetch::encode(&paths::target_file(&path, hashes));
        let url = fetch::join(&self.arguments.target_url, &file);
        let Fetched::Bytes(bytes) = fetch::get(&url, target.file().length)? else {
            return Err(format!("the repository has no target \"{path}\"").into());
        };
        let fits = bytes.len() as u64 == target.file().length;
        if !fits || !target.file().hashes.verify(&bytes) {
            return Err(format!("target \"{path}\" is another file than described").into());
        }
        Ok(replace(&local, &bytes)?)
    }

    /// Does what the conversation asks for and hands the answer back.
    fn act(
        &self,
        step: Step,
        answer: impl FnOnce(Answer<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match step {
            Step::Load(name) => match fs::read(self.local(&stored_name(&name))) {
                Ok(bytes) => answer(Answer::Bytes(&bytes)),
                Err(_) => answer(Answer::NotFound),
            },
            Step::Fetch(wanted) => {
                let url = fetch::join(&self.arguments.metadata_url, &wanted.file);
                match fetch::get(&url, wanted.max_len)? {
                    Fetched::Bytes(bytes) => answer(Answer::Bytes(&bytes)),
                    Fetched::NotFound => answer(Answer::NotFound),
                }
            }
            Step::Store(name, bytes) => {
                if let LocalName::Root(version) = &name {
                    self.store_file(&format!("root_history/{version}.root.json"), &bytes)?;
                }
                self.store_file(&stored_name(&name), &bytes)?;
                answer(Answer::Stored)
            }
            Step::Done => Ok(()),
        }
    }

    fn local(&self, name: &str) -> PathBuf {
        self.arguments.metadata_dir.join(name)
    }

    fn store_file(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        replace(&self.local(name), bytes)
    }
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let file = tempfile::NamedTempFile::new_in(folder)?;
    fs::write(file.path(), bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    fs::File::open(folder)?.sync_all()
}
