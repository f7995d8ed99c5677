//! The command line: `ampoule-delta diff | apply | info`.
//!
//! Rules of the terminal:
//! - Exit 0 done; 1 refused or failed, with one `error:` line, its causes, and no output file;
//!   2 wrong usage.
//! - An output file appears whole or not at all: written beside its place, synced, renamed.
//! - Progress goes to stderr and only to a terminal; `--json` prints one object on stdout.

mod show;

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};

use crate::{
    Accept, Caps, DiffOptions, DiffStage, ImageError, NewImage, OldImage, PatchError, Patcher,
    Profile, diff, info,
};

const HELP: &str = "\
Patches between images.

usage: ampoule-delta diff [options] OLD NEW PATCH   make the patch that turns OLD into NEW
       ampoule-delta apply [options] OLD PATCH NEW  make NEW out of OLD and PATCH
       ampoule-delta info [--json] PATCH            tell what PATCH needs and where its bytes go

options of diff:
  --profile small|fast  small: fewer bytes (default); fast: quicker to apply
  --caps LIST           what the devices can re-encode and map, by comma; \"none\"; default: all
  --memory-max BYTES    memory the devices give to a patch (default 64 MiB); K, M, G may follow
  --threads N           threads to use (default 2); the patch is the same for any number
  --verify              apply the patch again and compare, before it is kept

options of apply:
  --memory-max BYTES    memory that may be used (default 256 MiB)

  -h, --help            this text
  -V, --version         the version

exit: 0 done; 1 refused or failed, and then there is no output file; 2 wrong usage
";

/// Memory that a patch may ask for on a device when nothing else is said.
const DIFF_MEMORY_MAX: u64 = 64 << 20;
/// Patch bytes are fed to the patcher in pieces of this size.
const PIECE: usize = 64 << 10;

/// Runs the tool on the process's own arguments.
pub fn main() -> ExitCode {
    let outcome = match Command::parse(std::env::args_os().skip(1)) {
        Ok(command) => command.run(),
        Err(usage) => {
            eprintln!("error: {usage}\nhint: see \"ampoule-delta --help\"");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, on which file.
#[derive(Debug)]
struct Failure {
    what: String,
    cause: Option<Box<dyn Error>>,
}

impl Failure {
    fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            cause: None,
        }
    }

    fn with(what: impl Into<String>, cause: impl Error + 'static) -> Self {
        Self {
            what: what.into(),
            cause: Some(Box::new(cause)),
        }
    }

    fn print(&self) {
        eprintln!("error: {}", self.what);
        let mut cause = self.cause.as_deref();
        while let Some(error) = cause {
            eprintln!("caused by: {error}");
            cause = error.source();
        }
    }
}

impl From<PatchError> for Failure {
    fn from(error: PatchError) -> Self {
        Self {
            what: error.to_string(),
            cause: error.source().map(|c| c.to_string().into()),
        }
    }
}

#[derive(Debug)]
enum Command {
    Diff {
        options: DiffOptions,
        verify: bool,
        old: PathBuf,
        new: PathBuf,
        patch: PathBuf,
    },
    Apply {
        memory_max: u64,
        old: PathBuf,
        patch: PathBuf,
        new: PathBuf,
    },
    Info {
        json: bool,
        patch: PathBuf,
    },
    Print(String),
}

impl Command {
    fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        use lexopt::Arg::{Long, Short, Value};
        let mut parser = lexopt::Parser::from_args(arguments);
        let (mut verb, mut paths) = (None::<String>, Vec::<PathBuf>::new());
        let mut options = DiffOptions {
            memory_max: DIFF_MEMORY_MAX,
            ..DiffOptions::default()
        };
        let (mut memory_max, mut json, mut verify) = (None, false, false);
        let mut used = Vec::new();
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Short('h') | Long("help") => return Ok(Self::Print(HELP.into())),
                Short('V') | Long("version") => {
                    let version = concat!("ampoule-delta ", env!("CARGO_PKG_VERSION"), "\n");
                    return Ok(Self::Print(version.into()));
                }
                Long("json") => {
                    used.push("json");
                    json = true;
                }
                Long("verify") => {
                    used.push("verify");
                    verify = true;
                }
                Long("profile") => {
                    used.push("profile");
                    options.profile = parse_profile(&text_of(&mut parser)?)?;
                }
                Long("caps") => {
                    used.push("caps");
                    options.caps = parse_caps(&text_of(&mut parser)?)?;
                }
                Long("threads") => {
                    used.push("threads");
                    options.threads =
                        parse_size("threads", &text_of(&mut parser)?)?.clamp(1, 256) as usize;
                }
                Long("memory-max") => {
                    used.push("memory-max");
                    memory_max = Some(parse_size("memory-max", &text_of(&mut parser)?)?);
                }
                Value(word) if verb.is_none() => verb = Some(word.to_string_lossy().into_owned()),
                Value(path) => paths.push(path.into()),
                other => return Err(other.unexpected().to_string()),
            }
        }
        if let Some(bytes) = memory_max {
            options.memory_max = bytes;
        }
        let verb = verb.ok_or("a command is missing: diff, apply or info")?;
        let allowed: &[&str] = match verb.as_str() {
            "diff" => &["profile", "caps", "threads", "memory-max", "verify"],
            "apply" => &["memory-max"],
            "info" => &["json"],
            _ => {
                return Err(format!(
                    "unknown command \"{verb}\"; expected diff, apply or info"
                ));
            }
        };
        if let Some(wrong) = used.iter().find(|name| !allowed.contains(name)) {
            return Err(format!("{verb} has no option --{wrong}"));
        }
        let names = match verb.as_str() {
            "diff" => "OLD NEW PATCH",
            "apply" => "OLD PATCH NEW",
            _ => "PATCH",
        };
        let usage = || format!("{verb} takes {names}, {} paths were given", paths.len());
        Ok(match (verb.as_str(), paths.as_slice()) {
            ("diff", [old, new, patch]) => Self::Diff {
                options,
                verify,
                old: old.clone(),
                new: new.clone(),
                patch: patch.clone(),
            },
            ("apply", [old, patch, new]) => Self::Apply {
                memory_max: memory_max.unwrap_or(Accept::default().memory_max),
                old: old.clone(),
                patch: patch.clone(),
                new: new.clone(),
            },
            ("info", [patch]) => Self::Info {
                json,
                patch: patch.clone(),
            },
            _ => return Err(usage()),
        })
    }

    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Print(text) => print(&text),
            Self::Diff {
                options,
                verify,
                old,
                new,
                patch,
            } => run_diff(&options, verify, &old, &new, &patch),
            Self::Apply {
                memory_max,
                old,
                patch,
                new,
            } => run_apply(memory_max, &old, &patch, &new),
            Self::Info { json, patch } => run_info(json, &patch),
        }
    }
}

/// The value of the option that was just read.
fn text_of(parser: &mut lexopt::Parser) -> Result<String, String> {
    let value = parser.value().map_err(|error| error.to_string())?;
    value
        .into_string()
        .map_err(|value| format!("\"{}\" is not UTF-8", value.display()))
}

fn parse_profile(word: &str) -> Result<Profile, String> {
    match word {
        "small" => Ok(Profile::Small),
        "fast" => Ok(Profile::Fast),
        _ => Err(format!(
            "profile \"{word}\" is unknown; expected small or fast"
        )),
    }
}

fn parse_caps(list: &str) -> Result<Caps, String> {
    if list == "none" {
        return Ok(Caps::NONE);
    }
    list.split(',').try_fold(Caps::NONE, |caps, name| {
        let cap = Caps::from_name(name).ok_or_else(|| format!("cap \"{name}\" is unknown"))?;
        Ok(caps.with(cap))
    })
}

fn parse_size(option: &str, word: &str) -> Result<u64, String> {
    let (digits, shift) = match word.chars().last() {
        Some('K' | 'k') => (&word[..word.len() - 1], 10),
        Some('M' | 'm') => (&word[..word.len() - 1], 20),
        Some('G' | 'g') => (&word[..word.len() - 1], 30),
        _ => (word, 0),
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| format!("--{option} \"{word}\" is not a number"))
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads us may stop early: that is no failure.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::with("failed to write to stdout", error))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path)
        .map_err(|error| Failure::with(format!("failed to read \"{}\"", path.display()), error))
}

fn run_diff(
    options: &DiffOptions,
    verify: bool,
    old: &Path,
    new: &Path,
    patch: &Path,
) -> Result<(), Failure> {
    let (old, new) = (read(old)?, read(new)?);
    let mut bars = Bars::new();
    let bytes = diff(&old, &new, options, &mut |progress| {
        bars.show(progress.stage, progress.done, progress.total);
    })
    .map_err(|error| Failure::new(error.to_string()))?;
    bars.clear();
    if verify {
        let mut compare = Compare { left: &new };
        let accept = Accept {
            memory_max: options.memory_max,
            caps: options.caps,
            ..Accept::default()
        };
        crate::apply(&mut &old[..], &bytes, &mut compare, &accept)?;
    }
    write_whole(patch, |file| {
        file.write_all(&bytes)
            .map_err(|error| failed_to_write(patch, error))
    })
}

/// A new image that must come out as it is known to be.
struct Compare<'a> {
    left: &'a [u8],
}

impl NewImage for Compare<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.left = self
            .left
            .strip_prefix(bytes)
            .ok_or_else(|| ImageError::new("it differs from what the patch was made of"))?;
        Ok(())
    }
}

fn run_apply(memory_max: u64, old: &Path, patch: &Path, new: &Path) -> Result<(), Failure> {
    let open = |path: &Path| {
        File::open(path)
            .map_err(|error| Failure::with(format!("failed to open \"{}\"", path.display()), error))
    };
    let mut old_image = OldFile(open(old)?);
    let mut patch_file = open(patch)?;
    write_whole(new, |file| {
        let mut image = NewFile {
            file: BufWriter::with_capacity(PIECE * 4, file),
            hash: Sha256::new(),
        };
        let mut patcher = Patcher::new(Accept {
            memory_max,
            ..Accept::default()
        });
        let mut bars = Bars::new();
        let mut piece = vec![0; PIECE];
        loop {
            let len = patch_file.read(&mut piece).map_err(|error| {
                Failure::with(format!("failed to read \"{}\"", patch.display()), error)
            })?;
            if len == 0 {
                break;
            }
            let progress = patcher.push(&piece[..len], &mut old_image, &mut image)?;
            let total = patcher.header().map_or(0, |header| header.new_len);
            bars.show_line("applying", progress.written, total);
        }
        bars.clear();
        let header = patcher.finish()?;
        image
            .file
            .flush()
            .map_err(|error| failed_to_write(new, error))?;
        if image.hash.finalize()[..] != header.new_digest {
            return Err(PatchError::WrongOutput.into());
        }
        Ok(())
    })
}

/// Writes a file beside its place, syncs it, and renames it: it appears whole or not at all.
fn write_whole(
    path: &Path,
    fill: impl FnOnce(&mut File) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let folder = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".ampoule-delta-")
        .tempfile_in(folder)
        .map_err(|error| failed_to_write(path, error))?;
    fill(temporary.as_file_mut())?;
    let keep = |file: &File| {
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
        file.sync_all()
    };
    keep(temporary.as_file()).map_err(|error| failed_to_write(path, error))?;
    temporary
        .persist(path)
        .map_err(|error| failed_to_write(path, error.error))?;
    #[cfg(unix)]
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| failed_to_write(path, error))?;
    Ok(())
}

fn failed_to_write(path: &Path, error: io::Error) -> Failure {
    Failure::with(format!("failed to write \"{}\"", path.display()), error)
}

struct OldFile(File);

impl OldImage for OldFile {
    #[cfg(unix)]
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, buf, offset).map_err(ImageError::new)
    }

    #[cfg(not(unix))]
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<(), ImageError> {
        use std::io::{Seek as _, SeekFrom};
        self.0
            .seek(SeekFrom::Start(offset))
            .map_err(ImageError::new)?;
        self.0.read_exact(buf).map_err(ImageError::new)
    }
}

struct NewFile<'a> {
    file: BufWriter<&'a mut File>,
    hash: Sha256,
}

impl NewImage for NewFile<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(ImageError::new)
    }
}

fn run_info(as_json: bool, path: &Path) -> Result<(), Failure> {
    let info = info(&read(path)?)?;
    print(&if as_json {
        show::json_of(&info)
    } else {
        show::table_of(&info)
    })
}

/// One progress bar on a terminal, nothing elsewhere.
struct Bars {
    bar: ProgressBar,
    name: &'static str,
}

impl Bars {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:9} {wide_bar} {bytes}/{total_bytes} {eta}")
            .expect("a template that is a constant");
        // Hidden by itself where stderr is no terminal.
        Self {
            bar: ProgressBar::new(0).with_style(style),
            name: "",
        }
    }

    fn show(&mut self, stage: DiffStage, done: u64, total: u64) {
        self.show_line(stage.as_str(), done, total);
    }

    fn show_line(&mut self, name: &'static str, done: u64, total: u64) {
        if self.name != name {
            self.name = name;
            self.bar.set_message(name);
        }
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
