//! What others install the same image with: SWUpdate, RAUC, Mender's client, as Debian ships them,
//! each with a signed file as its own tools make it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::medium::{Medium, Taken, attach, detach, timed};
use crate::setup::Needed;
use crate::shell::{self, Fault, Outcome};
use crate::world::cannot;

/// Debian packages of the peers, and what makes their files.
pub(super) const PACKAGES: [Needed; 8] = [
    needed("swupdate", "a peer that installs images"),
    needed("rauc", "a peer that installs images"),
    needed("dbus-daemon", "RAUC is asked over a bus of its own"),
    needed("squashfs-tools", "RAUC's bundles"),
    needed("mender-client", "a peer that installs images"),
    needed("mender-artifact", "its files"),
    needed("cpio", "SWUpdate's files"),
    needed("openssl", "the peers' keys and signatures"),
];

const fn needed(name: &'static str, reason: &'static str) -> Needed {
    Needed { name, reason }
}

/// How long a service may take to be there.
const PATIENCE: Duration = Duration::from_mins(1);

/// One peer with the image in its own file.
pub(super) struct Peer {
    /// Its name, and how it is told to install.
    pub(super) name: &'static str,
    install: fn(&Path, &Medium, u64) -> Outcome<Taken>,
    prepare: fn(&Path, &Path) -> Outcome,
}

/// All of them.
pub(super) const ALL: [Peer; 3] = [
    Peer {
        name: "SWUpdate, raw",
        install: swupdate,
        prepare: make_swu,
    },
    Peer {
        name: "RAUC, plain",
        install: rauc,
        prepare: make_bundle,
    },
    Peer {
        name: "Mender client, module",
        install: mender,
        prepare: make_artifact,
    },
];

impl Peer {
    /// Makes its file in `folder`, which is empty.
    pub(super) fn prepare(&self, folder: &Path, image: &Path) -> Outcome {
        (self.prepare)(folder, image)
    }

    /// Installs it to the medium, and looks whether it is there.
    pub(super) fn install(&self, folder: &Path, medium: &Medium, len: u64) -> Outcome<Taken> {
        (self.install)(folder, medium, len)
    }
}

fn write(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> Outcome<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(|e| cannot("write", &path, &e))?;
    Ok(path)
}

fn shell_in(folder: &Path, script: &str) -> Outcome<String> {
    shell::read(Command::new("sh").args(["-ec", script]).current_dir(folder))
}

fn must_hold(found: &Path, image: &Path, len: u64) -> Outcome {
    let mut compare = Command::new("cmp");
    compare.arg(format!("--bytes={len}")).arg(found).arg(image);
    shell::quietly(&mut compare)
}

fn make_swu(folder: &Path, image: &Path) -> Outcome {
    let script = format!(
        r#"
openssl req -x509 -newkey rsa:2048 -nodes -keyout k.pem -out c.pem -days 30 -subj /CN=s -addext extendedKeyUsage=emailProtection 2>/dev/null
cp '{image}' r.img
cat > sw-description <<END
software = {{ version = "2"; hardware-compatibility: ["1.0"]; images: ({{ filename = "r.img"; device = "$TARGET"; type = "raw"; installed-directly = true; sha256 = "$(sha256sum r.img | cut -d' ' -f1)"; }}); }}
END
openssl cms -sign -in sw-description -out sw-description.sig -signer c.pem -inkey k.pem -outform DER -nosmimecap -binary
printf 'sw-description\nsw-description.sig\nr.img\n' | cpio -o -H crc > u.swu 2>/dev/null
"#,
        image = image.display()
    );
    // A link to the target, since the signed words name its path.
    let script = script.replace("$TARGET", &folder.join("target").display().to_string());
    shell_in(folder, &script).map(|_| ())
}

fn swupdate(folder: &Path, medium: &Medium, len: u64) -> Outcome<Taken> {
    let target = medium.file("swupdate.img", len)?;
    let link = folder.join("target");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&target, &link).map_err(|e| cannot("make", &link, &e))?;
    let mut install = Command::new("swupdate");
    install.args(["-k", "c.pem", "-H", "board:1.0", "-i", "u.swu"]);
    install.current_dir(folder);
    install.env("TMPDIR", medium.folder("swupdate-tmp")?);
    let taken = medium.count(|| timed(&install, &folder.join("time")))?;
    must_hold(&target, &folder.join("r.img"), len)?;
    Ok(taken)
}

fn make_artifact(folder: &Path, image: &Path) -> Outcome {
    let script = format!(
        "
openssl ecparam -name prime256v1 -genkey -noout -out priv.key
openssl ec -in priv.key -pubout -out pub.key 2>/dev/null
cp '{}' r.img
mender-artifact write module-image -T ampoule-bench -n rel-2 -t testdev -f r.img -o a.mender
mender-artifact sign a.mender -k priv.key -o as.mender
rm a.mender
",
        image.display()
    );
    shell_in(folder, &script)?;
    let key = folder.join("pub.key");
    let config = serde_json::json!({ "ArtifactVerifyKey": key.display().to_string() });
    write(folder, "mender.conf", config.to_string()).map(|_| ())
}

/// Where Mender's client looks for modules, and for what runs.
const MODULE: &str = "/usr/share/mender/modules/v3/ampoule-bench";
const RUNNING: &str = "/etc/mender/artifact_info";
/// Streams the payload into a file, synced once at its end.
const MODULE_TEXT: &str = r#"#!/bin/sh
case "$1" in
    Download)
        dd if="$(cat stream-next)" of="$BENCH_TARGET" bs=1M conv=notrunc,fsync 2>/dev/null || exit 1
        [ -z "$(cat stream-next)" ]
        ;;
esac
"#;

/// A file outside of our folders, which is gone when this is.
struct Placed(PathBuf);

impl Placed {
    fn new(path: &str, text: &str) -> Outcome<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = PathBuf::from(path);
        if path.exists() {
            return Err(Fault::new(format!(
                "\"{}\" is there already",
                path.display()
            )));
        }
        let folder = path.parent().unwrap_or(Path::new("/"));
        let placed = fs::create_dir_all(folder)
            .and_then(|()| fs::write(&path, text))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
        placed.map_err(|e| cannot("write", &path, &e))?;
        Ok(Self(path))
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn mender(folder: &Path, medium: &Medium, len: u64) -> Outcome<Taken> {
    let _module = Placed::new(MODULE, MODULE_TEXT)?;
    let _running = Placed::new(RUNNING, "artifact_name=rel-1\n")?;
    let target = medium.file("mender.img", len)?;
    let data = medium.folder("mender-data")?;
    write(&data, "device_type", "device_type=testdev\n")?;
    let mut install = Command::new("mender");
    install.arg("-c").arg(folder.join("mender.conf"));
    install.arg("-b").arg(folder.join("none"));
    install.arg("-d").arg(&data);
    install.args(["--no-syslog", "install", "as.mender"]);
    install.current_dir(folder).env("BENCH_TARGET", &target);
    let taken = medium.count(|| timed(&install, &folder.join("time")))?;
    must_hold(&target, &folder.join("r.img"), len)?;
    Ok(taken)
}

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=BUS</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/><allow user="*"/></policy></busconfig>
"#;

fn make_bundle(folder: &Path, image: &Path) -> Outcome {
    let script = format!(
        "
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=r 2>/dev/null
mkdir in mnt
cp '{}' in/rootfs.img
cp in/rootfs.img r.img
printf '[update]\\ncompatible=t\\nversion=2\\n[bundle]\\nformat=plain\\n[image.rootfs]\\nfilename=rootfs.img\\n' > in/manifest.raucm
rauc --cert cert.pem --key key.pem bundle in b.raucb
",
        image.display()
    );
    shell_in(folder, &script).map(|_| ())
}

/// A process of ours, ended when dropped.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Outcome<Self> {
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let name = command.get_program().display().to_string();
        started
            .map(Self)
            .map_err(|e| Fault::new(format!("cannot start \"{name}\"")).because(e))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn rauc(folder: &Path, medium: &Medium, len: u64) -> Outcome<Taken> {
    // RAUC writes devices: two, over files of the medium.
    let slots = [medium.file("a.img", len)?, medium.file("b.img", len)?];
    let devices = [attach(&slots[0])?, attach(&slots[1])?];
    let taken = rauc_to(folder, medium, &devices);
    let held = must_hold(Path::new(&devices[1]), &folder.join("r.img"), len);
    for device in &devices {
        detach(device)?;
    }
    held.and(taken)
}

fn rauc_to(folder: &Path, medium: &Medium, devices: &[String; 2]) -> Outcome<Taken> {
    let bus = folder.join("bus");
    write(
        folder,
        "bus.conf",
        BUS.replace("BUS", &bus.display().to_string()),
    )?;
    let [a, b] = devices;
    let config = format!(
        "[system]\ncompatible=t\nbootloader=noop\nstatusfile={}/status\nmountprefix={here}/mnt\n[keyring]\npath={here}/cert.pem\n[slot.rootfs.0]\ndevice={a}\ntype=raw\nbootname=A\n[slot.rootfs.1]\ndevice={b}\ntype=raw\nbootname=B\n",
        medium.folder("rauc")?.display(),
        here = folder.display(),
    );
    write(folder, "system.conf", config)?;
    let mut daemon = Command::new("dbus-daemon");
    daemon.args(["--config-file=bus.conf", "--nofork", "--nopidfile"]);
    let _bus = Running::start(daemon.current_dir(folder))?;
    until("the bus", || bus.exists())?;
    let address = format!("unix:path={}", bus.display());
    let mut service = Command::new("rauc");
    service.args(["-c", "system.conf", "--override-boot-slot=A", "service"]);
    service.env("DBUS_SYSTEM_BUS_ADDRESS", &address);
    let service = Running::start(service.current_dir(folder))?;
    let client = |words: &[&str]| {
        let mut client = Command::new("rauc");
        client.args(words).current_dir(folder);
        client.env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        client
    };
    until("the service", || {
        shell::finish(&mut client(&["status"])).is_ok_and(|done| done.code == Some(0))
    })?;
    let before = usage(service.0.id())?.0;
    medium.count(|| {
        let asked = timed(&client(&["install", "b.raucb"]), &folder.join("time"))?;
        let (cpu, peak) = usage(service.0.id())?;
        Ok((asked.0 + cpu.saturating_sub(before), asked.1 + peak))
    })
}

fn until(what: &str, is_so: impl Fn() -> bool) -> Outcome {
    let start = Instant::now();
    while !is_so() {
        if start.elapsed() > PATIENCE {
            return Err(Fault::new(format!("{what} does not come up")));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// CPU time so far, of its children that ended too, and peak memory of a process.
fn usage(process: u32) -> Outcome<(Duration, u64)> {
    let read = |name: &str| {
        let path = PathBuf::from(format!("/proc/{process}/{name}"));
        fs::read_to_string(&path).map_err(|e| cannot("read", &path, &e))
    };
    let stat = read("stat")?;
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    // proc(5): utime, stime, cutime, cstime are fields 14 to 17, in hundredths of a second.
    let ticks: u64 = rest
        .split_whitespace()
        .skip(11)
        .take(4)
        .filter_map(|word| word.parse::<u64>().ok())
        .sum();
    let status = read("status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    let kib = kib.ok_or_else(|| Fault::new("the system tells no memory"))?;
    Ok((Duration::from_millis(ticks * 10), kib << 10))
}
