//! Modules with bad habits, each by a script that has it (the list of `ota.md` 3.4 of the field).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ampoule_protocol::digest::Digest;
use ampoule_protocol::error::Coded;
use ampoule_protocol::release::{Blocks, Class, FileRef, Install, ReleaseVersion};
use ampoule_protocol::version::RollbackIndex;

use super::{ModuleError, Modules, Order, Programs};
use crate::disk::Disk;
use crate::install::{Options, Place};
use crate::machine::{Installed, Notice, Part, Plan, Slot, Whole};

/// Long enough for a loaded machine; a test that needs it has failed.
const LONG: Duration = Duration::from_mins(2);

struct World {
    folder: tempfile::TempDir,
    place: Place,
    plan: Plan,
    programs: Programs,
}

/// A payload of several files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *content).expect("in memory");
    }
    builder.into_inner().expect("in memory")
}

impl World {
    fn new(script: &str, artifact: &str, content: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let program = at("module.sh");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("writes");
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&program, mode).expect("sets");
        std::fs::write(at("b"), content).expect("writes");
        let module: Install = Install::parse("module:test").expect("a word");
        let file = |path: &str, length| FileRef {
            path: path.parse().expect("a path"),
            length,
            sha256: Digest::of(content),
        };
        let part = Part {
            component: "app".parse().expect("a name"),
            install: module.clone(),
            slot: Slot::B,
            artifact: file(artifact, content.len() as u64),
            blocks: Blocks {
                block_len: 4096,
                root: Digest::of(b""),
                leaves: file("p/leaves", 32),
            },
            delta: None,
            before: Some(Installed {
                version: ReleaseVersion::parse("1.0.0").ok(),
                rollback_index: RollbackIndex(1),
                sha256: Digest::of(b"old"),
                length: 3,
            }),
            meta_data: Some(r#"{"unit": "pumpd"}"#.to_owned()),
            live: false,
            whole: Whole::Allowed,
        };
        let place = Place {
            component: part.component.clone(),
            install: module,
            slots: [at("a"), at("b")],
            visible: PathBuf::new(),
            boot_file: at("boot.json"),
            options: Options {
                program,
                timeout: LONG,
                ..Options::default()
            },
        };
        let plan = Plan {
            release: file("p/release.toml", 1),
            version: ReleaseVersion::parse("1.1.0").expect("a version"),
            rollback_index: RollbackIndex(2),
            class: Class::Security,
            notice: Notice::default(),
            parts: vec![part],
            downgrade: None,
        };
        let programs = Programs::new(folder.path());
        Self {
            folder,
            place,
            plan,
            programs,
        }
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("modules/app")
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.work().join(name)).unwrap_or_else(|_| "nothing".to_owned())
    }

    fn download(&mut self) -> Result<(), ModuleError> {
        self.programs.download(&Order {
            place: &self.place,
            part: &self.plan.parts[0],
            plan: &self.plan,
            product: &"infusion-pump".parse().expect("a name"),
            hardware: &"pump-mk3".parse().expect("a name"),
            storage: &Disk,
        })
    }

    fn fails(&mut self) -> ModuleError {
        self.download().expect_err("the module misbehaves")
    }
}

/// What every well-behaved module does with its streams.
const READS_ALL: &str = r#"
case "$1" in
Download)
    while line="$(cat stream-next)" && [ -n "$line" ]; do
        echo "$line" >> tmp/lines
        cat "$line" > "tmp/$(basename "$line")"
    done ;;
esac"#;

#[test]
fn the_folder_tells_what_the_protocol_asks_for() {
    let mut world = World::new("exit 0", "p/app-1.1.0.deb", b"content");
    world.download().expect("downloads");
    for (name, content) in [
        ("version", "3\n"),
        ("current_artifact_name", "infusion-pump-1.0.0\n"),
        ("current_artifact_group", ""),
        ("current_device_type", "pump-mk3\n"),
        ("header/artifact_name", "infusion-pump-1.1.0"),
        ("header/artifact_group", ""),
        ("header/payload_type", "test"),
        ("header/type-info", r#"{"type":"test"}"#),
        ("header/meta-data", r#"{"unit": "pumpd"}"#),
    ] {
        assert_eq!(world.read(name), content, "{name}");
    }
    let info: serde_json::Value =
        serde_json::from_str(&world.read("header/header-info")).expect("JSON");
    assert_eq!(info["payloads"][0]["type"], "test");
    assert_eq!(
        info["artifact_provides"]["artifact_name"],
        "infusion-pump-1.1.0"
    );
    assert!(world.work().join("tmp").is_dir());
    world.programs.forget(&world.place).expect("removes");
    assert!(!world.work().exists());
}

#[test]
fn streams_come_one_after_the_other() {
    let big = vec![7; 300_000];
    let files: [(&str, &[u8]); 3] = [("dest_dir", b"/opt"), ("empty", b""), ("big", &big)];
    let mut world = World::new(READS_ALL, "p/app-1.1.0.tar", &archive(&files));
    world.download().expect("downloads");
    assert_eq!(
        world.read("tmp/lines"),
        "streams/dest_dir\nstreams/empty\nstreams/big\n"
    );
    assert_eq!(world.read("tmp/dest_dir"), "/opt");
    assert_eq!(world.read("tmp/empty"), "");
    assert_eq!(
        std::fs::read(world.work().join("tmp/big")).expect("there"),
        big
    );
    for gone in ["stream-next", "streams", "files"] {
        assert!(!world.work().join(gone).exists(), "{gone}");
    }
}

#[test]
fn sizes_are_told_to_who_asks() {
    let script = r#"
case "$1" in
ProvidePayloadFileSizes) echo Yes ;;
Download) exit 1 ;;
DownloadWithFileSizes)
    while read -r name size < stream-next; do
        echo "$name $size" >> tmp/lines; cat "$name" > tmp/content
    done ;;
esac"#;
    let mut world = World::new(script, "p/app-1.1.0.deb", b"content");
    world.download().expect("downloads");
    assert_eq!(world.read("tmp/lines"), "streams/app-1.1.0.deb 7\n");
    assert_eq!(world.read("tmp/content"), "content");
}

#[test]
fn a_module_that_never_reads_stream_next_finds_files() {
    let files: [(&str, &[u8]); 2] = [("dest_dir", b"/opt"), ("update.tar", b"inner")];
    let mut world = World::new("exit 0", "p/app-1.1.0.tar", &archive(&files));
    world.download().expect("downloads");
    assert_eq!(world.read("files/dest_dir"), "/opt");
    assert_eq!(world.read("files/update.tar"), "inner");
}

/// Meant to catch: a pipe that keeps its name after the last reading hangs the module to its time-out.
#[test]
fn a_module_that_reads_to_the_end_twice_does_not_hang() {
    let script = format!("{READS_ALL}\n[ \"$1\" != Download ] || ! cat stream-next");
    let mut world = World::new(&script, "p/app-1.1.0.deb", b"content");
    world.download().expect("the second reading finds nothing");
    assert_eq!(world.read("tmp/app-1.1.0.deb"), "content");
}

#[test]
fn a_module_that_reads_a_stream_twice_does_not_hang() {
    let script = r#"
[ "$1" = Download ] || exit 0
line="$(cat stream-next)"; cat "$line" > /dev/null; ! cat "$line""#;
    let mut world = World::new(script, "p/app-1.1.0.deb", b"content");
    world.download().expect("the second reading finds nothing");
}

/// Meant to catch: names on one pipe give the second `cat` nothing to be seen by, and it hangs.
#[test]
fn a_module_that_asks_for_the_next_name_too_early_is_ended() {
    let script = "[ \"$1\" = Download ] || exit 0\ncat stream-next; cat stream-next";
    let files: [(&str, &[u8]); 2] = [("one", b"1"), ("two", b"2")];
    let mut world = World::new(script, "p/app-1.1.0.tar", &archive(&files));
    let error = world.fails();
    assert_eq!(error.code(), "module-streams", "{error}");
    assert!(
        error.to_string().contains("asked for the next name"),
        "{error}"
    );
}

#[test]
fn a_module_that_exits_early_has_failed() {
    for (script, what) in [
        ("cat stream-next", "ended in the middle"),
        (
            "cat stream-next; head -c 1 streams/one",
            "did not read streams/one to its end",
        ),
        ("cat stream-next; cat streams/one", "ended in the middle"),
    ] {
        let script = format!("[ \"$1\" = Download ] || exit 0\n{script}");
        let big = vec![7; 300_000];
        let files: [(&str, &[u8]); 2] = [("one", &big), ("two", b"2")];
        let mut world = World::new(&script, "p/app-1.1.0.tar", &archive(&files));
        let error = world.fails().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_module_that_fails_quotes_its_last_words() {
    let script = "echo \"no space on /opt\" >&2; [ \"$1\" != ArtifactInstall ]";
    let mut world = World::new(script, "p/app-1.1.0.deb", b"content");
    world.download().expect("downloads");
    let error = world
        .programs
        .call(&world.place, "ArtifactInstall")
        .expect_err("fails");
    assert_eq!(error.code(), "module-failed");
    assert!(
        error
            .to_string()
            .ends_with("exit status: 1: no space on /opt"),
        "{error}"
    );
}

/// Meant to catch: `child.kill()` in place of the group leaves the grandchild alive.
#[test]
fn a_module_that_exceeds_its_time_is_ended_with_its_children() {
    let script = "[ \"$1\" = ArtifactInstall ] || exit 0\nsleep 600 & echo $! > tmp/child; wait";
    let mut world = World::new(script, "p/app-1.1.0.deb", b"content");
    world.download().expect("downloads");
    world.place.options.timeout = Duration::from_secs(8);
    let error = world
        .programs
        .call(&world.place, "ArtifactInstall")
        .expect_err("hangs");
    assert_eq!(error.code(), "module-too-late");
    let child = world.read("tmp/child");
    assert!(is_gone(child.trim()), "process {child} lives");
}

/// Whether a process is gone, or will be as soon as somebody asks for its status.
fn is_gone(pid: &str) -> bool {
    let status = Path::new("/proc").join(pid).join("stat");
    let start = Instant::now();
    while start.elapsed() < LONG {
        match std::fs::read_to_string(&status) {
            Err(_) => return true,
            Ok(text) if text.contains(") Z ") => return true,
            Ok(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    false
}

#[test]
fn a_module_that_forks_a_daemon_is_not_waited_for() {
    let script = "[ \"$1\" = ArtifactInstall ] || exit 0\nsleep 600 & echo $! > tmp/child";
    let mut world = World::new(script, "p/app-1.1.0.deb", b"content");
    world.download().expect("downloads");
    world
        .programs
        .call(&world.place, "ArtifactInstall")
        .expect("it ends");
    // What it started may be what it installed: it lives on.
    let child = world.read("tmp/child");
    let stat = Path::new("/proc").join(child.trim()).join("stat");
    assert!(stat.exists(), "the daemon was ended");
    let pid = child
        .trim()
        .parse()
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it was alive");
}

#[test]
fn a_daemon_of_the_download_is_ended_with_it() {
    let script =
        format!("{READS_ALL}\n[ \"$1\" != Download ] || {{ sleep 600 & echo $! > tmp/child; }}");
    let mut world = World::new(&script, "p/app-1.1.0.deb", b"content");
    world.download().expect("downloads");
    assert!(is_gone(world.read("tmp/child").trim()));
}

#[test]
fn a_module_that_prints_for_ever_is_ended_at_its_time() {
    let script = "[ \"$1\" != ArtifactInstall ] || yes";
    let mut world = World::new(script, "p/app-1.1.0.deb", b"content");
    world.download().expect("downloads");
    world.place.options.timeout = Duration::from_secs(2);
    let error = world
        .programs
        .call(&world.place, "ArtifactInstall")
        .expect_err("babbles");
    assert_eq!(error.code(), "module-too-late");
    world.place.options.timeout = LONG;
}

#[test]
fn an_unknown_state_is_no_failure_and_no_answer() {
    let mut world = World::new("exit 0", "p/app-1.1.0.deb", b"content");
    world.download().expect("downloads");
    let answer = world
        .programs
        .ask(&world.place, "NoSuchQuestion")
        .expect("returns 0");
    assert_eq!(answer, "");
}

#[test]
fn a_payload_that_leads_out_reaches_no_module() {
    let script = "echo called >> \"$2/../called\"";
    for name in ["../out", "a/b", "/etc/passwd"] {
        let mut world = World::new(script, "p/app-1.1.0.tar", &archive(&[(name, b"x")]));
        assert_eq!(world.fails().code(), "module-payload", "{name}");
        assert!(
            !world.folder.path().join("modules/called").exists(),
            "{name}"
        );
    }
    let mut world = World::new(script, "p/app-1.1.0.tar", b"no archive");
    assert_eq!(world.fails().code(), "module-payload");
}

#[test]
fn a_module_that_is_not_there_is_the_operators_fault() {
    let mut world = World::new("", "p/app-1.1.0.deb", b"content");
    world.place.options.program = "/nonexistent/module".into();
    let error = world.fails();
    assert_eq!(error.code(), "module-missing");
}
