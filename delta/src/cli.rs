//! The command line: `ampoule-delta diff | apply | pairs | info`.
//!
//! Rules of the terminal:
//! - Exit 0 done; 1 refused or failed, with one `error:` line, its causes, and no output file;
//!   2 wrong usage.
//! - An output file appears whole or not at all: written beside its place, synced, renamed.
//! - Progress goes to stderr and only to a terminal; `--json` prints one object on stdout.

mod args;
mod files;
mod in_place;
mod pairs;
mod show;

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::{
    Accept, DiffOptions, DiffStage, ImageError, NewImage, PatchError, Patcher, Source, SourceFile,
    diff_sources, info, spent,
};
use args::Command;
use files::{NewFile, OldFile, failed_to_write, read, write_whole};
use indicatif::{ProgressBar, ProgressStyle};

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

impl Command {
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
            Self::DiffInPlace {
                options,
                scratch_kib,
                old,
                new,
                patch,
            } => in_place::diff(&options, scratch_kib, &old, &new, &patch),
            Self::ApplyInPlace {
                memory_max,
                image,
                patch,
                journal,
            } => in_place::apply(memory_max, &image, &patch, &journal),
            Self::Pairs {
                options,
                scratch_kib,
                payload,
                new,
                olds,
            } => pairs::make(&options, scratch_kib, &payload, &new, &olds),
            Self::Info {
                json,
                images,
                patch,
            } => run_info(json, images, &patch),
        }
    }
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

fn run_diff(
    options: &DiffOptions,
    verify: bool,
    old: &Path,
    new: &Path,
    patch: &Path,
) -> Result<(), Failure> {
    let open = |path: &Path| {
        SourceFile::open(path)
            .map_err(|error| Failure::with(format!("failed to open \"{}\"", path.display()), error))
    };
    let (old, new) = (open(old)?, open(new)?);
    let mut bars = Bars::new();
    let bytes = diff_sources(&old, &new, options, &mut |progress| {
        bars.show(progress.stage, progress.done, progress.total);
    })
    .map_err(|error| Failure::new(error.to_string()))?;
    bars.clear();
    if verify {
        let mut compare = Compare {
            new: &new,
            at: 0,
            piece: Vec::new(),
        };
        let accept = Accept {
            memory_max: options.memory_max,
            caps: options.caps,
            ..Accept::default()
        };
        crate::apply(&mut &old, &bytes, &mut compare, &accept)?;
    }
    write_whole(patch, |file| {
        file.write_all(&bytes)
            .map_err(|error| failed_to_write(patch, error))
    })
}

/// A new image that must come out as it is known to be.
struct Compare<'a> {
    new: &'a SourceFile,
    at: u64,
    piece: Vec<u8>,
}

impl NewImage for Compare<'_> {
    fn append(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        self.piece.resize(bytes.len(), 0);
        Source::read_at(self.new, self.at, &mut self.piece)?;
        self.at += bytes.len() as u64;
        if self.piece == bytes {
            Ok(())
        } else {
            Err(ImageError::new(
                "it differs from what the patch was made of",
            ))
        }
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
        let mut image = NewFile::new(file, PIECE * 4);
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
        let digest = image
            .finish()
            .map_err(|error| failed_to_write(new, error))?;
        if digest != header.new_digest {
            return Err(PatchError::WrongOutput.into());
        }
        Ok(())
    })
}

fn run_info(
    as_json: bool,
    images: Option<(std::path::PathBuf, std::path::PathBuf)>,
    path: &Path,
) -> Result<(), Failure> {
    let bytes = read(path)?;
    if let Some(header) = crate::in_place_header(&bytes)? {
        return print(&show::in_place(&header, bytes.len(), as_json));
    }
    let info = info(&bytes)?;
    let spent = match images {
        None => None,
        Some((old, new)) => Some(spent(&mut &read(&old)?[..], &read(&new)?, &bytes)?),
    };
    print(&if as_json {
        show::json_of(&info, spent.as_deref())
    } else {
        show::table_of(&info, spent.as_deref())
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
