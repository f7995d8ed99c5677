//! The ports of a simulated device: storage over [`SimDisk`], a server out of memory, a clock that
//! ticks when it is asked, and boot control that may be told to make a mistake.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use ampoule_agent::boot::{BootError, FileBoot};
use ampoule_agent::driver::Watch;
use ampoule_agent::gate::{Answer, Gate, Question};
use ampoule_agent::install::VerifiedImage;
use ampoule_agent::machine::{BootView, Fault, Health as Verdict, Slot, State};
use ampoule_agent::net::NetError;
use ampoule_agent::ports::{
    Access, BootControl, Clock, Fetch, Health, Kind, Network, Restart, Restarted, Storage,
    StoredFile,
};
use ampoule_agent::trust::BUILD_TIME;
use ampoule_protocol::client::Source;
use ampoule_protocol::device::Acknowledged;
use ampoule_protocol::digest::Digest;
use ampoule_protocol::name::ComponentName;
use ampoule_protocol::time::UtcTime;

use super::disk::SimDisk;
use super::medium::{Medium, Naming, Node, What, Write, spoil};
use super::mistake::Mistake;
use super::repo::Shelf;

/// Folder and name of a path, whose folder must be there.
fn place(medium: &Medium, path: &Path) -> io::Result<(usize, OsString)> {
    let place = medium.live.place(path);
    place.ok_or_else(|| io::ErrorKind::NotFound.into())
}

struct SimFile {
    disk: SimDisk,
    id: usize,
}

impl Storage for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Box<dyn StoredFile>> {
        let mut medium = self.0.borrow_mut();
        medium.read()?;
        if access != Access::Read && medium.guarded.iter().any(|guarded| guarded == path) {
            let what = format!("\"{}\" was opened for writing while it ran", path.display());
            medium.sins.push(what);
        }
        let found = medium.file(path);
        let id = match (access, found) {
            (Access::Read | Access::Write, found) => found?,
            (Access::Make, Ok(id)) => id,
            (Access::Create, Ok(id)) => {
                medium.change()?;
                medium.write(id, Write::Len(0));
                id
            }
            (Access::Make | Access::Create, Err(_)) => {
                let (folder, name) = place(&medium, path)?;
                medium.grow()?;
                let node = medium.add(path, Rc::default());
                let what = What::Set(name, node);
                medium.name(Naming { folder, what });
                medium.inodes.len() - 1
            }
        };
        path.clone_into(&mut medium.inodes[id].path);
        let disk = self.clone();
        Ok(Box::new(SimFile { disk, id }))
    }

    fn kind(&self, path: &Path) -> io::Result<Option<Kind>> {
        let medium = self.0.borrow();
        medium.powered()?;
        Ok(medium.live.get(path).map(|node| match node {
            Node::File(_) => Kind::File,
            Node::Folder(_) => Kind::Folder,
            Node::Link(_) => Kind::Link,
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.change()?;
        if medium.live.get(from).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let is_in_place = medium
            .mistake
            .is_some_and(|planted| planted.is_in_place(to));
        if let (true, Ok(new), Ok(old)) = (is_in_place, medium.file(from), medium.file(to)) {
            let bytes: Rc<[u8]> = medium.inodes[new].live.bytes.clone().into();
            medium.write(old, Write::Len(0));
            medium.change()?;
            medium.write(old, Write::Bytes(0, bytes));
            return Ok(());
        }
        let (folder, name) = place(&medium, from)?;
        let (other, new_name) = place(&medium, to)?;
        assert_eq!(folder, other, "the agent renames within one folder");
        let what = What::Rename(name, new_name);
        medium.name(Naming { folder, what });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.powered()?;
        if medium.live.get(path).is_some() {
            medium.change()?;
            let (folder, name) = place(&medium, path)?;
            let what = What::Remove(name);
            medium.name(Naming { folder, what });
        }
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.powered()?;
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        for path in folders {
            if medium.live.folder(path).is_none() {
                medium.grow()?;
                let (folder, name) = place(&medium, path)?;
                let what = What::Set(name, medium.new_folder());
                medium.name(Naming { folder, what });
            }
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.change()?;
        let mistake = medium.mistake;
        if mistake.is_some_and(|planted| planted.skips_folder(path)) {
            return Ok(());
        }
        if mistake.is_some_and(|planted| planted.is_late(path)) {
            medium.late = true;
            return Ok(());
        }
        medium.sync_names(path);
        if let (true, Some(Mistake::Late(folder))) = (medium.late, mistake) {
            medium.late = false;
            medium.change()?;
            medium.sync_names(Path::new(folder));
        }
        // What was written in place, as a mistake, is synced with its folder.
        if matches!(mistake, Some(Mistake::InPlace(_))) {
            for inode in &mut medium.inodes {
                if inode.path.parent() == Some(path) {
                    inode.durable = inode.live.clone();
                    inode.pending.clear();
                }
            }
        }
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut medium = self.0.borrow_mut();
        medium.read()?;
        let folder = medium.live.folder(path).ok_or(io::ErrorKind::NotFound)?;
        let inside = medium.live.inside(folder);
        Ok(inside
            .map(|(name, _)| name.to_string_lossy().into_owned())
            .collect())
    }

    fn symlink(&self, target: &Path, link: &Path) -> io::Result<()> {
        let mut medium = self.0.borrow_mut();
        medium.grow()?;
        let (folder, name) = place(&medium, link)?;
        let what = What::Set(name, Node::Link(target.to_owned()));
        medium.name(Naming { folder, what });
        Ok(())
    }

    fn read_link(&self, link: &Path) -> io::Result<Option<PathBuf>> {
        let mut medium = self.0.borrow_mut();
        medium.read()?;
        Ok(match medium.live.get(link) {
            Some(Node::Link(target)) => Some(target.clone()),
            _ => None,
        })
    }

    fn set_mode(&self, _path: &Path, _mode: u32) -> io::Result<()> {
        self.0.borrow().powered()
    }
}

impl StoredFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let medium = self.disk.0.borrow();
        medium.powered()?;
        Ok(medium.inodes[self.id].live.bytes.len() as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut medium = self.disk.0.borrow_mut();
        medium.read()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = &medium.inodes[self.id].live.bytes;
        let rest = bytes.get(offset..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut medium = self.disk.0.borrow_mut();
        medium.grow()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        medium.write(self.id, Write::Bytes(offset, bytes.into()));
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        let mut medium = self.disk.0.borrow_mut();
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if medium.inodes[self.id].live.bytes.len() == len {
            return medium.powered();
        }
        medium.grow()?;
        medium.write(self.id, Write::Len(len));
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut medium = self.disk.0.borrow_mut();
        let changed = medium.change();
        let mistake = medium.mistake;
        let is_on = medium.powered().is_ok() || changed.is_ok();
        let inode = &mut medium.inodes[self.id];
        if mistake.is_some_and(|planted| planted.skips_file(&inode.path)) {
            return changed;
        }
        if changed.is_ok() {
            inode.durable = inode.live.clone();
            inode.pending.clear();
        } else if is_on {
            // The pages are clean now, and the medium has none of them.
            inode.pending.clear();
        }
        let is_spoilt = mistake.is_some_and(|planted| planted.spoils(&inode.path));
        if is_spoilt && changed.is_ok() {
            spoil(&mut inode.durable);
        }
        changed
    }

    fn forget_cached(&self) -> io::Result<()> {
        let mut medium = self.disk.0.borrow_mut();
        medium.powered()?;
        let mistake = medium.mistake;
        let inode = &mut medium.inodes[self.id];
        let is_blind = mistake.is_some_and(|planted| planted.is_blind(&inode.path));
        if inode.pending.is_empty() && !is_blind {
            inode.live = inode.durable.clone();
        }
        Ok(())
    }
}

/// The server, or a bundle: both are a tree of files.
pub(super) struct Server {
    pub(super) shelf: Shelf,
    /// Takes no receipts.
    pub(super) is_deaf: bool,
}

/// Bytes that come at once: small, so that a fill has several pieces.
const PIECE_LEN: usize = 4096;

struct Pieces<'a>(&'a [u8]);

impl Read for Pieces<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.0.len().min(buf.len()).min(PIECE_LEN);
        buf[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

impl Fetch for Server {
    fn fetch(&mut self, name: &str, _max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        Ok(self.shelf.tree.get(&format!("metadata/{name}")).cloned())
    }

    fn source(&self) -> Source {
        if self.shelf.is_bundle {
            Source::Bundle
        } else {
            Source::Repository
        }
    }
}

impl Network for Server {
    fn target(
        &mut self,
        name: &str,
        offset: u64,
        _length: u64,
    ) -> Result<Box<dyn Read + '_>, NetError> {
        let file = self.shelf.tree.get(&format!("targets/{name}"));
        let file = file.ok_or_else(|| NetError::status(404, None, None))?;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(Box::new(Pieces(file.get(offset..).unwrap_or_default())))
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, NetError> {
        if self.is_deaf || self.shelf.is_bundle {
            return Err(NetError::new("no-network", "nobody listens"));
        }
        let acknowledged = vec![Digest::of(body)];
        Ok(match path {
            "receipts" => serde_json::to_vec(&Acknowledged { acknowledged }).unwrap_or_default(),
            _ => br#"{"seq":1}"#.to_vec(),
        })
    }
}

/// A clock on which a second goes by with each look at it.
pub(super) struct SimClock {
    wall: UtcTime,
    uptime: Cell<Duration>,
    /// Questions after which the process is to end.
    stops_after: Cell<Option<usize>>,
}

impl SimClock {
    pub(super) fn new(wall: UtcTime, stops_after: Option<usize>) -> Self {
        Self {
            wall,
            uptime: Cell::default(),
            stops_after: Cell::new(stops_after),
        }
    }
}

impl Clock for SimClock {
    fn wall(&self) -> Option<UtcTime> {
        // As the real one: before this program was made there is no time.
        (self.wall >= BUILD_TIME).then_some(self.wall)
    }
    fn uptime(&self) -> Duration {
        self.uptime.set(self.uptime.get() + Duration::from_secs(1));
        self.uptime.get()
    }
    fn sleep(&self, _time: Duration) {}
    fn is_to_stop(&self) -> bool {
        let Some(left) = self.stops_after.get() else {
            return false;
        };
        self.stops_after.set(Some(left.saturating_sub(1)));
        left == 0
    }
}

/// Health, as the story has it.
pub(super) struct Fixed(pub(super) bool);

impl Health for Fixed {
    fn verdict(&mut self, _trial_time: Duration) -> Verdict {
        if self.0 {
            Verdict::Good
        } else {
            Verdict::Bad(Fault::device("health-bad", "it is ill"))
        }
    }
}

/// Says yes, then no at the point of no return, then yes.
pub(super) struct ClosesOnce {
    pub(super) asked: usize,
    /// A mistake: what it says the second time is not heard.
    pub(super) is_deaf: bool,
    pub(super) open: Rc<Cell<bool>>,
}

impl Gate for ClosesOnce {
    fn name(&self) -> &'static str {
        "therapy"
    }

    fn ask(&mut self, _question: &Question) -> Answer {
        self.asked += 1;
        let is_closed = self.asked == 2;
        self.open.set(!is_closed);
        if is_closed && !self.is_deaf {
            Answer::no("a therapy began")
        } else {
            Answer::Yes
        }
    }
}

/// Somebody else restarts the device; what a gate said last counts as said at the restart.
pub(super) struct NoRestart {
    pub(super) disk: SimDisk,
    pub(super) open: Rc<Cell<bool>>,
}

impl Restart for NoRestart {
    fn restart(&mut self) -> io::Result<Restarted> {
        if !self.open.get() {
            self.disk
                .sin("it restarts while a gate is closed".to_owned());
        }
        Ok(Restarted::Due)
    }
}

pub(super) struct Silent;

impl Watch for Silent {
    fn phase(&mut self, _state: &State) {}
    fn progress(&mut self, _what: &str, _done: u64, _total: u64) {}
    fn note(&mut self, _text: &str) {}
}

/// Boot files, with the mistake that was planted.
pub(super) struct Boot {
    pub(super) files: FileBoot,
    pub(super) disk: SimDisk,
}

impl Boot {
    fn has(&self, mistake: Mistake) -> bool {
        self.disk.mistake() == Some(mistake)
    }
}

impl BootControl for Boot {
    fn view(&self, component: &ComponentName) -> Result<BootView, BootError> {
        let mut view = self.files.view(component)?;
        if self.has(Mistake::WrongSlotRuns) {
            view.running = view.running.other();
            view.default = view.running;
        }
        Ok(view)
    }

    fn arm(&mut self, image: &VerifiedImage, attempts: u32) -> Result<(), BootError> {
        self.arm_all(std::slice::from_ref(image), attempts)
    }

    fn arm_all(&mut self, images: &[VerifiedImage], attempts: u32) -> Result<(), BootError> {
        if self.has(Mistake::ArmNothing) {
            return Ok(());
        }
        self.files.arm_all(images, attempts)?;
        if self.has(Mistake::ArmIsCommit) {
            let slots = images
                .iter()
                .map(|image| (image.component().clone(), image.slot()));
            self.files.commit_all(&slots.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn disarm(&mut self, component: &ComponentName) -> Result<(), BootError> {
        if self.has(Mistake::DisarmNothing) {
            return Ok(());
        }
        self.files.disarm(component)
    }

    fn disarm_all(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        if self.has(Mistake::DisarmNothing) {
            return Ok(());
        }
        self.files.disarm_all(components)
    }

    fn commit(&mut self, component: &ComponentName, slot: Slot) -> Result<(), BootError> {
        self.commit_all(&[(component.clone(), slot)])
    }

    fn load_now(&mut self, components: &[ComponentName]) -> Result<(), BootError> {
        self.files.load_now(components)
    }

    fn commit_all(&mut self, slots: &[(ComponentName, Slot)]) -> Result<(), BootError> {
        if self.has(Mistake::CommitLater) {
            return Ok(());
        }
        self.files.commit_all(slots)
    }
}
