//! The emulator's process: what it is told, and the firmware's start, which is done once.
//!
//! What firmware does before it looks at the disk is the same at each start, and takes longer in
//! software than a boot loader and a kernel together. So it is done once: the first read of the disk
//! is refused, which stops the machine, and its memory is kept. Each start, cold or warm, goes on from
//! there with that read. Boot loader, kernel and all that reads or writes the disk run each time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use super::accel::Accel;
use super::loader::Loader;
use super::monitor::Monitor;
use super::nbd::Disk;
use crate::shell::{Fault, Outcome};
use crate::world::cannot;

/// Memory of the machine, in MiB.
const MEMORY_MIB: &str = "448";

/// An emulator that can be started again and again with one disk.
pub(super) struct Emulator {
    loader: Loader,
    accel: Accel,
    folder: PathBuf,
    sockets: PathBuf,
    uri: String,
    /// The firmware's start, where it is kept.
    state: Option<PathBuf>,
}

impl Emulator {
    /// Keeps the firmware's start in `folder`; the disk is refused meanwhile.
    pub(super) fn prepare(
        loader: Loader,
        accel: Accel,
        folder: &Path,
        sockets: &Path,
        disk: &Disk,
    ) -> Outcome<Self> {
        let mut emulator = Self {
            loader,
            accel,
            folder: folder.to_owned(),
            sockets: sockets.to_owned(),
            uri: disk.uri(),
            state: None,
        };
        let state = folder.join("firmware.state");
        disk.refuse(true);
        let mut child = emulator.start()?;
        let kept = emulator.keep(&state);
        let _ = child.kill();
        let _ = child.wait();
        disk.refuse(false);
        if !kept {
            return Err(Fault::new("the firmware's start cannot be kept").hint("see emulator.log"));
        }
        emulator.state = Some(state);
        Ok(emulator)
    }

    fn keep(&self, state: &Path) -> bool {
        let Some(mut monitor) = Monitor::connect(&self.monitor()) else {
            return false;
        };
        let uri = format!("exec:cat > '{}'", state.display());
        monitor.wait_for("query-status", "io-error")
            && monitor.ask("migrate", &json!({ "uri": uri })).is_some()
            && monitor.wait_for("query-migrate", "completed")
    }

    /// The socket for questions.
    pub(super) fn monitor(&self) -> PathBuf {
        self.sockets.join("monitor")
    }

    /// The socket for events.
    pub(super) fn events(&self) -> PathBuf {
        self.sockets.join("events")
    }

    /// Starts it; with a kept start of the firmware it waits for [`Emulator::go_on`].
    pub(super) fn start(&self) -> Outcome<Child> {
        // Ends with us, however we end.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        command.args(self.accel.words()).args(["-m", MEMORY_MIB]);
        command.args(["-display", "none", "-serial", "stdio", "-monitor", "none"]);
        command.args(self.loader.machine(&self.folder)?);
        for socket in [self.monitor(), self.events()] {
            let _ = std::fs::remove_file(&socket);
            let words = format!("unix:{},server=on,wait=off", socket.display());
            command.arg("-qmp").arg(words);
        }
        command.arg("-drive").arg(format!(
            "if=none,id=disk,format=raw,discard=unmap,rerror=stop,file={}",
            self.uri
        ));
        command.args(["-device", "virtio-blk-pci,drive=disk,bootindex=0"]);
        command.args(["-netdev", "user,id=net", "-device"]);
        command.arg("virtio-net-pci,netdev=net,romfile=");
        if let Some(state) = &self.state {
            let from = format!("exec:cat '{}'", state.display());
            command.args(["-incoming", &from]);
        }
        let log = self.folder.join("emulator.log");
        let errors = File::create(&log).map_err(|e| cannot("write", &log, &e))?;
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors);
        command
            .spawn()
            .map_err(|e| Fault::new("cannot start \"qemu-system-x86_64\"").because(e))
    }

    /// Lets a machine go on from the kept start of its firmware.
    pub(super) fn go_on(&self) -> Outcome {
        let fault = || Fault::new("the firmware's start cannot be gone on from");
        let mut monitor = Monitor::connect(&self.monitor()).ok_or_else(fault)?;
        if monitor.wait_for("query-status", "io-error") && monitor.ask("cont", &json!({})).is_some()
        {
            return Ok(());
        }
        Err(fault().hint("see emulator.log"))
    }
}
