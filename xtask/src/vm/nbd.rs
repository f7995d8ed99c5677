//! The layer between the emulator and the disk: a server of the NBD protocol on a Unix socket.
//!
//! Fixed newstyle handshake, then simple replies (doc/proto.md of the NBD project): read, write,
//! flush, FUA, trim. One client at a time, requests in order. It counts what the guest makes it
//! write, and stops in the middle of it when it is told to.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::machine::Heard;
use super::medium::Medium;

const MAGIC: &[u8; 8] = b"NBDMAGIC";
const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// Fixed newstyle, and no padding after the old export option.
const HANDSHAKE_FLAGS: u16 = 0b11;
/// Flags are there; flush, FUA and trim are known.
const EXPORT_FLAGS: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 5;
const FUA: u16 = 1;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const ANSWER_ACK: u32 = 1;
const ANSWER_INFO: u32 = 3;
const ANSWER_UNSUPPORTED: u32 = 1 << 31 | 1;

const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;

const EIO: u32 = 5;
const EINVAL: u32 = 22;

/// Bytes of one option that are taken at most.
const OPTION_LEN_MAX: u32 = 64 << 10;
/// Bytes of one request that are taken at most; QEMU asks for no more.
const REQUEST_LEN_MAX: u32 = 32 << 20;

/// A disk that an emulator can be connected to, again and again.
#[derive(Clone)]
pub(super) struct Disk {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    medium: Medium,
    /// Operations after which the power is cut; `None` for never.
    cut_after: Option<u64>,
    /// Whether it answers no more: the power went.
    is_cut: bool,
    /// Whether it answers nobody, with power.
    is_held: bool,
    /// Whether it refuses to be read.
    is_refused: bool,
    /// When it was asked for something last.
    used: SystemTime,
    /// Who is told of the cut.
    hears: Option<Sender<Heard>>,
}

impl Disk {
    /// Serves `medium` on a socket at this path until the program ends.
    ///
    /// # Errors
    /// A socket that cannot be made.
    pub(super) fn serve(socket: &Path, medium: Medium) -> io::Result<Self> {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket)?;
        let state = Arc::new(Mutex::new(State {
            medium,
            cut_after: None,
            is_cut: false,
            is_held: false,
            is_refused: false,
            used: SystemTime::UNIX_EPOCH,
            hears: None,
        }));
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // The emulator was killed, or ended: the next one comes to the same disk.
                let _ = Client::new(client, Arc::clone(&served)).serve();
            }
        });
        Ok(Self {
            socket: socket.to_owned(),
            state,
        })
    }

    /// How the emulator names it.
    pub(super) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    /// Who is told of a cut from now on.
    pub(super) fn tell(&self, hears: Sender<Heard>) {
        locked(&self.state).hears = Some(hears);
    }

    /// Stops in the middle of the operation after so many more.
    pub(super) fn cut_after(&self, operations: u64) {
        locked(&self.state).cut_after = Some(operations);
    }

    /// Whether a cut is to come.
    pub(super) fn is_aimed(&self) -> bool {
        locked(&self.state).cut_after.is_some()
    }

    /// Looks at the medium, or changes it while no emulator runs.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Medium) -> T) -> T {
        act(&mut locked(&self.state).medium)
    }

    /// Whether every read fails from now on.
    pub(super) fn refuse(&self, is_refused: bool) {
        locked(&self.state).is_refused = is_refused;
    }

    /// Answers nobody any more, unless somebody asked after this time; whether it is so now.
    pub(super) fn hold_unless_used_since(&self, time: SystemTime) -> bool {
        let mut state = locked(&self.state);
        state.is_held = state.used <= time && !state.is_cut;
        state.is_held
    }

    /// Answers again.
    pub(super) fn release(&self) {
        locked(&self.state).is_held = false;
    }

    /// The power is back, and goes again after so many operations.
    pub(super) fn power_on(&self, cut_after: Option<u64>) {
        let mut state = locked(&self.state);
        (state.is_cut, state.is_held) = (false, false);
        state.cut_after = cut_after;
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Counts a write, flush or trim; whether the power went in the middle of it.
    fn is_cut_now(&mut self) -> bool {
        match &mut self.cut_after {
            Some(0) => self.is_cut = true,
            Some(left) => *left -= 1,
            None => {}
        }
        if self.is_cut
            && let Some(hears) = self.hears.take()
        {
            // Nobody may wait for it any more.
            let _ = hears.send(Heard::Cut);
        }
        self.is_cut
    }
}

/// One connection.
struct Client {
    stream: UnixStream,
    state: Arc<Mutex<State>>,
}

/// What a client asks for.
struct Request {
    flags: u16,
    kind: u16,
    handle: [u8; 8],
    offset: usize,
    length: usize,
    data: Vec<u8>,
}

/// What comes of a request.
enum Answer {
    Done(Vec<u8>),
    Refused(u32),
    /// The power is gone.
    Silence,
}

impl Client {
    fn new(stream: UnixStream, state: Arc<Mutex<State>>) -> Self {
        Self { stream, state }
    }

    fn serve(mut self) -> io::Result<()> {
        if !self.shake_hands()? {
            return Ok(());
        }
        while let Some(request) = self.request()? {
            let answer = perform(&mut locked(&self.state), &request);
            let (error, data) = match answer {
                Answer::Done(data) => (0, data),
                Answer::Refused(error) => (error, Vec::new()),
                // The connection stays open and silent: a disk without power says nothing.
                Answer::Silence => return self.wait_for_the_end(),
            };
            let mut reply = Vec::with_capacity(16 + data.len());
            reply.extend(REPLY_MAGIC.to_be_bytes());
            reply.extend(error.to_be_bytes());
            reply.extend(request.handle);
            reply.extend(data);
            self.stream.write_all(&reply)?;
        }
        Ok(())
    }

    /// Whether the client goes on to the disk.
    fn shake_hands(&mut self) -> io::Result<bool> {
        self.stream.write_all(MAGIC)?;
        self.stream.write_all(OPTION_MAGIC)?;
        self.stream.write_all(&HANDSHAKE_FLAGS.to_be_bytes())?;
        let _client_flags: [u8; 4] = self.take()?;
        loop {
            let magic: [u8; 8] = self.take()?;
            if &magic != OPTION_MAGIC {
                return Err(io::Error::other("the client speaks another protocol"));
            }
            let option = u32::from_be_bytes(self.take()?);
            let length = u32::from_be_bytes(self.take()?);
            if length > OPTION_LEN_MAX {
                return Err(io::Error::other("the client sends an option without end"));
            }
            self.data(length as usize)?;
            let size = locked(&self.state).medium.len() as u64;
            match option {
                OPTION_EXPORT_NAME => {
                    self.stream.write_all(&size.to_be_bytes())?;
                    self.stream.write_all(&EXPORT_FLAGS.to_be_bytes())?;
                    return Ok(true);
                }
                OPTION_GO | OPTION_INFO => {
                    let mut export = vec![0, 0];
                    export.extend(size.to_be_bytes());
                    export.extend(EXPORT_FLAGS.to_be_bytes());
                    self.answer_option(option, ANSWER_INFO, &export)?;
                    self.answer_option(option, ANSWER_ACK, &[])?;
                    if option == OPTION_GO {
                        return Ok(true);
                    }
                }
                OPTION_ABORT => {
                    self.answer_option(option, ANSWER_ACK, &[])?;
                    return Ok(false);
                }
                _ => self.answer_option(option, ANSWER_UNSUPPORTED, &[])?,
            }
        }
    }

    fn answer_option(&mut self, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
        let length = u32::try_from(data.len()).unwrap_or(0);
        self.stream.write_all(&OPTION_REPLY_MAGIC.to_be_bytes())?;
        for word in [option, kind, length] {
            self.stream.write_all(&word.to_be_bytes())?;
        }
        self.stream.write_all(data)
    }

    fn request(&mut self) -> io::Result<Option<Request>> {
        let magic = u32::from_be_bytes(self.take()?);
        if magic != REQUEST_MAGIC {
            return Err(io::Error::other("the client lost its place"));
        }
        let flags = u16::from_be_bytes(self.take()?);
        let kind = u16::from_be_bytes(self.take()?);
        let handle = self.take()?;
        let offset = u64::from_be_bytes(self.take()?);
        let length = u32::from_be_bytes(self.take()?);
        if kind == DISCONNECT {
            return Ok(None);
        }
        if length > REQUEST_LEN_MAX && kind != TRIM {
            return Err(io::Error::other("the client asks for too much at once"));
        }
        let data = match kind {
            WRITE => self.data(length as usize)?,
            _ => Vec::new(),
        };
        Ok(Some(Request {
            flags,
            kind,
            handle,
            offset: usize::try_from(offset).unwrap_or(usize::MAX),
            length: length as usize,
            data,
        }))
    }

    /// Reads until the client is gone.
    fn wait_for_the_end(mut self) -> io::Result<()> {
        let mut ignored = [0; 4096];
        while self.stream.read(&mut ignored)? > 0 {}
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn data(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

fn perform(state: &mut State, request: &Request) -> Answer {
    let Request { offset, length, .. } = *request;
    if state.is_held {
        return Answer::Silence;
    }
    state.used = SystemTime::now();
    let done = match request.kind {
        READ if state.is_cut => return Answer::Silence,
        READ if state.is_refused => return Answer::Refused(EIO),
        READ => state.medium.read(offset, length).map(<[u8]>::to_vec),
        WRITE => {
            let is_cut = state.is_cut_now();
            // The write under way may reach the medium, whole or in part: it is in the cache.
            let written = if request.flags & FUA != 0 && !is_cut {
                state.medium.write_through(offset, &request.data)
            } else {
                state.medium.write(offset, &request.data)
            };
            if is_cut {
                return Answer::Silence;
            }
            written.map(|()| Vec::new())
        }
        FLUSH => {
            if state.is_cut_now() {
                return Answer::Silence;
            }
            state.medium.flush();
            Some(Vec::new())
        }
        TRIM => {
            if state.is_cut_now() {
                return Answer::Silence;
            }
            // What is trimmed reads as zeros here; like a write, it may be lost.
            state
                .medium
                .write(offset, &vec![0; length])
                .map(|()| Vec::new())
        }
        _ => None,
    };
    done.map_or(Answer::Refused(EINVAL), Answer::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vm::medium::Mistake;

    fn state(length: usize) -> State {
        State {
            medium: Medium::new(vec![0; length], Mistake::None),
            cut_after: None,
            is_cut: false,
            is_held: false,
            is_refused: false,
            used: SystemTime::UNIX_EPOCH,
            hears: None,
        }
    }

    fn asked(kind: u16, offset: usize, data: &[u8]) -> Request {
        Request {
            flags: 0,
            kind,
            handle: [0; 8],
            offset,
            length: data.len(),
            data: data.to_vec(),
        }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_lies_beyond_the_end() {
        let mut state = state(1024);
        let written = perform(&mut state, &asked(WRITE, 512, &[7; 512]));
        assert!(matches!(written, Answer::Done(_)));
        let read = perform(&mut state, &asked(READ, 512, &[0; 4]));
        assert!(matches!(read, Answer::Done(data) if data == [7; 4]));
        let beyond = perform(&mut state, &asked(WRITE, 1000, &[7; 512]));
        assert!(matches!(beyond, Answer::Refused(EINVAL)));
        let far = perform(&mut state, &asked(READ, usize::MAX, &[0; 4]));
        assert!(matches!(far, Answer::Refused(EINVAL)));
    }

    /// Catches a disk that answers once more after the power went.
    #[test]
    fn after_the_cut_it_is_silent() {
        let mut state = state(1024);
        state.cut_after = Some(1);
        assert!(matches!(
            perform(&mut state, &asked(FLUSH, 0, &[])),
            Answer::Done(_)
        ));
        assert!(matches!(
            perform(&mut state, &asked(FLUSH, 0, &[])),
            Answer::Silence
        ));
        assert!(matches!(
            perform(&mut state, &asked(READ, 0, &[0])),
            Answer::Silence
        ));
        assert!(matches!(
            perform(&mut state, &asked(WRITE, 0, &[1])),
            Answer::Silence
        ));
    }
}
