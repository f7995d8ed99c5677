//! What can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::{Accept, Caps, DiffOptions, Profile};

pub(super) const HELP: &str = "\
Patches between images.

usage: ampoule-delta diff [options] OLD NEW PATCH   make the patch that turns OLD into NEW
       ampoule-delta apply [options] OLD PATCH NEW  make NEW out of OLD and PATCH
       ampoule-delta apply --in-place IMAGE PATCH --journal FILE
                                                    rewrite IMAGE; call it again after a cut
       ampoule-delta pairs [options] PAYLOAD.tar NEW OLD...
                                                    the payload of ampoule-in-place: patches in
                                                    place from each OLD to NEW, and back
       ampoule-delta info [options] PATCH           tell what PATCH needs and where its bytes go

options of diff:
  --profile small|fast  small: fewer bytes (default); fast: quicker to apply
  --caps LIST           what the devices can re-encode and map, by comma; \"none\"; default: all
  --memory-max BYTES    memory the devices give to a patch (default 16 MiB), which takes less where
                        less is enough; K, M, G may follow
  --threads N           threads to use (default 2); the patch is the same for any number
  --verify              apply the patch again and compare, before it is kept
  --in-place            a patch that rewrites the image in its place, for devices with one slot
  --scratch-kib N       room beside the image that the devices give to that (default 1024)

options of pairs: --profile, --caps, --memory-max (default 16 MiB), --threads, --scratch-kib; each
way is applied and compared before PAYLOAD.tar is kept

options of apply:
  --memory-max BYTES    memory that may be used (default 512 MiB)
  --in-place            rewrite the image; FILE holds the journal and the scratch, made if absent
  --journal FILE        remove it when the update is done

options of info:
  --json                one JSON object
  --old OLD --new NEW   say for each file (tar, cpio) or section (ELF) of NEW what it costs

  -h, --help            this text
  -V, --version         the version

exit: 0 done; 1 refused or failed, and then there is no output file; 2 wrong usage
";

/// Memory that a patch may ask for on a device when nothing else is said.
const DIFF_MEMORY_MAX: u64 = 16 << 20;
/// Scratch of devices with one slot, when nothing else is said.
const SCRATCH_KIB: u64 = 1024;
/// Memory of devices with one slot, when nothing else is said.
const PAIRS_MEMORY_MAX: u64 = 16 << 20;

/// One thing to do.
#[derive(Debug)]
pub(super) enum Command {
    Diff {
        options: DiffOptions,
        verify: bool,
        old: PathBuf,
        new: PathBuf,
        patch: PathBuf,
    },
    DiffInPlace {
        options: DiffOptions,
        scratch_kib: u64,
        old: PathBuf,
        new: PathBuf,
        patch: PathBuf,
    },
    ApplyInPlace {
        memory_max: u64,
        image: PathBuf,
        patch: PathBuf,
        journal: PathBuf,
    },
    Pairs {
        options: DiffOptions,
        scratch_kib: u64,
        payload: PathBuf,
        new: PathBuf,
        olds: Vec<PathBuf>,
    },
    Apply {
        memory_max: u64,
        old: PathBuf,
        patch: PathBuf,
        new: PathBuf,
    },
    Info {
        json: bool,
        /// The old and the new image.
        images: Option<(PathBuf, PathBuf)>,
        patch: PathBuf,
    },
    Print(String),
}

impl Command {
    /// Reads the arguments; the error is a sentence about them.
    pub(super) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        use lexopt::Arg::{Long, Short, Value};
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut given = Given::default();
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            match argument {
                Short('h') | Long("help") => return Ok(Self::Print(HELP.into())),
                Short('V') | Long("version") => {
                    let version = concat!("ampoule-delta ", env!("CARGO_PKG_VERSION"), "\n");
                    return Ok(Self::Print(version.into()));
                }
                Long(name) => {
                    let name = name.to_owned();
                    given.option(&name, &mut parser)?;
                }
                Value(word) if given.verb.is_none() => {
                    given.verb = Some(word.to_string_lossy().into_owned());
                }
                Value(path) => given.paths.push(path.into()),
                other @ Short(_) => return Err(other.unexpected().to_string()),
            }
        }
        given.command()
    }
}

/// What was typed.
#[derive(Debug)]
struct Given {
    verb: Option<String>,
    paths: Vec<PathBuf>,
    used: Vec<&'static str>,
    options: DiffOptions,
    memory_max: Option<u64>,
    scratch_kib: u64,
    journal: Option<PathBuf>,
    old: Option<PathBuf>,
    new: Option<PathBuf>,
}

impl Default for Given {
    fn default() -> Self {
        Self {
            verb: None,
            paths: Vec::new(),
            used: Vec::new(),
            options: DiffOptions {
                memory_max: DIFF_MEMORY_MAX,
                ..DiffOptions::default()
            },
            memory_max: None,
            scratch_kib: SCRATCH_KIB,
            journal: None,
            old: None,
            new: None,
        }
    }
}

/// Every option.
const OPTIONS: [&str; 11] = [
    "json",
    "verify",
    "in-place",
    "profile",
    "caps",
    "threads",
    "memory-max",
    "scratch-kib",
    "journal",
    "old",
    "new",
];

impl Given {
    /// Takes the option `name`, with its value where it has one.
    fn option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), String> {
        let Some(known) = OPTIONS.into_iter().find(|known| *known == name) else {
            return Err(format!("invalid option '--{name}'"));
        };
        self.used.push(known);
        match known {
            "json" | "verify" | "in-place" => return Ok(()),
            "journal" | "old" | "new" => {
                let path = parser.value().map_err(|error| error.to_string())?.into();
                *match known {
                    "journal" => &mut self.journal,
                    "old" => &mut self.old,
                    _ => &mut self.new,
                } = Some(path);
                return Ok(());
            }
            _ => {}
        }
        let word = text_of(parser)?;
        match known {
            "profile" => self.options.profile = parse_profile(&word)?,
            "caps" => self.options.caps = parse_caps(&word)?,
            "threads" => {
                self.options.threads = parse_size(known, &word)?.clamp(1, 256) as usize;
            }
            "scratch-kib" => self.scratch_kib = parse_size(known, &word)?.min(1 << 32),
            _ => self.memory_max = Some(parse_size(known, &word)?),
        }
        Ok(())
    }

    fn has(&self, name: &str) -> bool {
        self.used.contains(&name)
    }

    fn command(mut self) -> Result<Command, String> {
        let verb = self
            .verb
            .take()
            .ok_or("a command is missing: diff, apply, pairs or info")?;
        if verb == "pairs" {
            return self.pairs();
        }
        let in_place = self.has("in-place");
        let (allowed, names): (&[&str], _) = match (verb.as_str(), in_place) {
            ("diff", false) => (
                &["profile", "caps", "threads", "memory-max", "verify"],
                "OLD NEW PATCH",
            ),
            ("diff", true) => (
                &[
                    "profile",
                    "caps",
                    "threads",
                    "memory-max",
                    "in-place",
                    "scratch-kib",
                ],
                "OLD NEW PATCH",
            ),
            ("apply", false) => (&["memory-max"], "OLD PATCH NEW"),
            ("apply", true) => (&["memory-max", "in-place", "journal"], "IMAGE PATCH"),
            ("info", false) => (&["json", "old", "new"], "PATCH"),
            ("info", true) => return Err("info has no option --in-place".into()),
            _ => {
                return Err(format!(
                    "unknown command \"{verb}\"; expected diff, apply, pairs or info"
                ));
            }
        };
        if let Some(wrong) = self.used.iter().find(|name| !allowed.contains(name)) {
            return Err(format!("{verb} has no option --{wrong}"));
        }
        let count = self.paths.len();
        let usage = || format!("{verb} takes {names}, {count} paths were given");
        if let Some(bytes) = self.memory_max {
            self.options.memory_max = bytes;
        }
        let verify = self.has("verify");
        let json = self.has("json");
        let memory_max = self.memory_max.unwrap_or(Accept::default().memory_max);
        let (options, scratch_kib) = (self.options, self.scratch_kib);
        let mut paths = self.paths.into_iter();
        let (first, second, third) = (paths.next(), paths.next(), paths.next());
        if paths.next().is_some() {
            return Err(usage());
        }
        Ok(match (verb.as_str(), in_place, first, second, third) {
            ("diff", false, Some(old), Some(new), Some(patch)) => Command::Diff {
                options,
                verify,
                old,
                new,
                patch,
            },
            ("diff", true, Some(old), Some(new), Some(patch)) => Command::DiffInPlace {
                options,
                scratch_kib,
                old,
                new,
                patch,
            },
            ("apply", false, Some(old), Some(patch), Some(new)) => Command::Apply {
                memory_max,
                old,
                patch,
                new,
            },
            ("apply", true, Some(image), Some(patch), None) => {
                let journal = self
                    .journal
                    .ok_or("apply --in-place needs --journal FILE")?;
                Command::ApplyInPlace {
                    memory_max,
                    image,
                    patch,
                    journal,
                }
            }
            ("info", _, Some(patch), None, None) => {
                let images = match (self.old, self.new) {
                    (None, None) => None,
                    (Some(old), Some(new)) => Some((old, new)),
                    _ => return Err("--old and --new go together".into()),
                };
                Command::Info {
                    json,
                    images,
                    patch,
                }
            }
            _ => return Err(usage()),
        })
    }
}

impl Given {
    fn pairs(mut self) -> Result<Command, String> {
        let allowed = ["profile", "caps", "threads", "memory-max", "scratch-kib"];
        if let Some(wrong) = self.used.iter().find(|name| !allowed.contains(name)) {
            return Err(format!("pairs has no option --{wrong}"));
        }
        if self.paths.len() < 3 {
            let count = self.paths.len();
            return Err(format!(
                "pairs takes PAYLOAD.tar NEW OLD..., {count} paths were given"
            ));
        }
        self.options.memory_max = self.memory_max.unwrap_or(PAIRS_MEMORY_MAX);
        let olds = self.paths.split_off(2);
        let new = self.paths.remove(1);
        Ok(Command::Pairs {
            options: self.options,
            scratch_kib: self.scratch_kib,
            payload: self.paths.remove(0),
            new,
            olds,
        })
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
