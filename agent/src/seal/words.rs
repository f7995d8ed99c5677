//! What the two halves say to one another: frames of a length and bytes, each bounded.
//!
//! ```text
//!   frame: length (4 bytes, big endian, <= FRAME_LEN_MAX) | bytes
//!   asked: one JSON document
//!   answered: one letter and its bytes: S sealed (what is missing), D data, E end, N no such file, F fault,
//!             K a handshake to sign, to which "signed" is said before any of the others comes
//! ```

use std::io::{self, Read, Write};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::net::{HttpSettings, LinkHost, NetError, Pace};

/// Bytes of a frame: a receipt of 256 components, or a piece of an image, and some.
const FRAME_LEN_MAX: usize = 1 << 20;
/// Bytes of an image in one answer.
pub(super) const PIECE_LEN: usize = 64 << 10;

/// What the writer asks.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Asked {
    /// Who and where; the first, and again when the certificate was renewed.
    Begin(Box<Begin>),
    /// Metadata of the image repository.
    Fetch { name: String, max_len: u64 },
    /// Metadata of the director.
    Director { name: String, max_len: u64 },
    /// Opens a target.
    Target {
        name: String,
        offset: u64,
        length: u64,
    },
    /// The next piece of it.
    More,
    /// Posts JSON.
    Post { path: String, body: String },
    /// Asks for the certificate after this one: PKCS#10 in base64.
    Certify { request: String },
    /// The signature that was asked for, in hex digits; nothing where there is none.
    Signed { signature: Option<String> },
}

/// All that the network half is told of this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Begin {
    pub(super) url: String,
    pub(super) connect_timeout: Duration,
    pub(super) stall_timeout: Duration,
    pub(super) bytes_per_sec_min: u64,
    pub(super) window: Duration,
    pub(super) bytes_per_sec_max: Option<u64>,
    /// PEM.
    pub(super) certificate: String,
    /// PEM.
    pub(super) authorities: String,
    /// Where targets may come from besides.
    pub(super) links: Option<Elsewhere>,
}

/// Hosts that links may lead to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Elsewhere {
    /// `host:port` of each.
    pub(super) hosts: Vec<String>,
    /// PEM.
    pub(super) authorities: String,
}

impl Begin {
    /// The hosts that links may lead to.
    pub(super) fn link_hosts(&self) -> Vec<LinkHost> {
        let hosts = self.links.iter().flat_map(|links| &links.hosts);
        hosts.filter_map(|host| LinkHost::parse(host)).collect()
    }

    /// The ports that the network half may connect to.
    pub(super) fn ports(&self) -> Vec<u16> {
        let links = self.link_hosts();
        let links = links.iter().map(LinkHost::port);
        std::iter::once(ask_port(&self.url)).chain(links).collect()
    }

    pub(super) fn settings(&self) -> HttpSettings {
        HttpSettings {
            url: self.url.clone(),
            connect_timeout: self.connect_timeout,
            stall_timeout: self.stall_timeout,
            pace: Pace {
                bytes_per_sec_min: self.bytes_per_sec_min,
                window: self.window,
            },
            bytes_per_sec_max: self.bytes_per_sec_max,
        }
    }
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// Sealed; what is missing of the walls, in words.
    Told(String),
    /// Some bytes.
    Data(Vec<u8>),
    /// No more of them.
    End,
    /// No such file.
    NotFound,
    /// It failed.
    Failed(Failed),
    /// These bytes have to be signed by the device's key.
    ToSign(Vec<u8>),
}

/// A [`NetError`], as it is told.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    code: String,
    text: String,
    retry_after_secs: Option<u64>,
}

impl Failed {
    pub(super) fn of(error: &NetError) -> Self {
        use ampoule_protocol::error::{Coded, chain};
        let text = chain(error, None).replace('\n', ", ");
        Self {
            code: error.code().to_owned(),
            text: text.strip_prefix("error: ").unwrap_or(&text).to_owned(),
            retry_after_secs: error.retry_after_secs,
        }
    }

    pub(super) fn into_error(self) -> NetError {
        NetError::heard(&self.code, self.text, self.retry_after_secs)
    }
}

/// The port of an address `https://host:port`; that of HTTPS where none is named.
fn ask_port(url: &str) -> u16 {
    let host = url.split("//").nth(1).unwrap_or(url);
    let host = host.split('/').next().unwrap_or(host);
    let port = host
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok());
    port.unwrap_or(443)
}

/// Sends a frame.
///
/// # Errors
/// Bytes that are too many, and as the system says.
fn send(to: &mut dyn Write, parts: &[&[u8]]) -> io::Result<()> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let head = u32::try_from(len).ok().filter(|_| len <= FRAME_LEN_MAX);
    let head = head.ok_or_else(|| io::Error::other("what is to be said is too long"))?;
    to.write_all(&head.to_be_bytes())?;
    for part in parts {
        to.write_all(part)?;
    }
    to.flush()
}

/// Receives a frame; `None` where the other half is gone.
///
/// # Errors
/// A length beyond the bound, an end within a frame, and as the system says.
fn receive(from: &mut dyn Read) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; 4];
    match from.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = u32::from_be_bytes(head) as usize;
    if len > FRAME_LEN_MAX {
        return Err(malformed());
    }
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the other half speaks nonsense")
}

/// Asks.
pub(super) fn ask(to: &mut dyn Write, asked: &Asked) -> io::Result<()> {
    send(to, &[&serde_json::to_vec(asked).map_err(io::Error::other)?])
}

/// Hears what is asked; `None` where nobody asks any more.
pub(super) fn hear(from: &mut dyn Read) -> io::Result<Option<Asked>> {
    let bytes = receive(from)?;
    let asked = bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(|_| malformed()));
    asked.transpose()
}

/// Answers.
pub(super) fn answer(to: &mut dyn Write, answered: &Answered) -> io::Result<()> {
    match answered {
        Answered::Told(text) => send(to, &[b"S", text.as_bytes()]),
        Answered::Data(bytes) => send(to, &[b"D", bytes]),
        Answered::End => send(to, &[b"E"]),
        Answered::NotFound => send(to, &[b"N"]),
        Answered::Failed(failed) => {
            let bytes = serde_json::to_vec(failed).map_err(io::Error::other)?;
            send(to, &[b"F", &bytes])
        }
        Answered::ToSign(message) => send(to, &[b"K", message]),
    }
}

/// Takes an answer.
pub(super) fn take(from: &mut dyn Read) -> io::Result<Answered> {
    let bytes = receive(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let (letter, rest) = bytes.split_first().ok_or_else(malformed)?;
    match (letter, rest) {
        (b'S', text) => {
            let text = String::from_utf8(text.to_vec()).map_err(|_| malformed())?;
            Ok(Answered::Told(text))
        }
        (b'D', data) => Ok(Answered::Data(data.to_vec())),
        (b'E', []) => Ok(Answered::End),
        (b'N', []) => Ok(Answered::NotFound),
        (b'F', told) => {
            let failed = serde_json::from_slice(told).map_err(|_| malformed())?;
            Ok(Answered::Failed(failed))
        }
        (b'K', message) => Ok(Answered::ToSign(message.to_vec())),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard() {
        let fault = Failed::of(&NetError::status(503, Some("busy"), Some(7)));
        let answers = [
            Answered::Told("sealed".into()),
            Answered::Data(vec![0, 255]),
            Answered::End,
            Answered::NotFound,
            Answered::Failed(fault),
            Answered::ToSign(b"message".to_vec()),
        ];
        for answered in answers {
            let mut wire = Vec::new();
            answer(&mut wire, &answered).expect("short");
            assert_eq!(take(&mut wire.as_slice()).expect("ours"), answered);
        }
        let asked = Asked::Target {
            name: "a".into(),
            offset: 1 << 40,
            length: u64::MAX,
        };
        let mut wire = Vec::new();
        ask(&mut wire, &asked).expect("short");
        assert_eq!(hear(&mut wire.as_slice()).expect("ours"), Some(asked));
        assert_eq!(hear(&mut [].as_slice()).expect("an end"), None);
    }

    /// Meant to catch: a length that is believed, which takes four gigabytes of memory.
    #[test]
    fn nonsense_is_an_error_and_takes_no_memory() {
        for wire in [
            &[255, 255, 255, 255][..],
            &[0, 0, 0, 9, b'D'],
            &[0, 0, 0, 1, b'X'],
            &[0, 0, 0, 2, b'E', 0],
            &[0, 0, 0, 2, b'F', b'{'],
            &[0, 0, 0, 0],
            &[0, 0],
        ] {
            assert!(take(&mut &*wire).is_err(), "{wire:?}");
        }
        let long = vec![0; FRAME_LEN_MAX + 1];
        assert!(answer(&mut Vec::new(), &Answered::Data(long)).is_err());
    }

    #[test]
    fn the_port_is_that_of_the_address() {
        assert_eq!(ask_port("https://updates.example:8443"), 8443);
        assert_eq!(ask_port("https://[::1]:9/x"), 9);
        assert_eq!(ask_port("https://updates.example"), 443);
    }

    #[test]
    fn a_fault_keeps_its_code_and_its_wait() {
        use ampoule_protocol::error::Coded;
        let error = NetError::status(429, None, Some(60));
        let heard = Failed::of(&error).into_error();
        assert_eq!(
            (heard.code(), heard.retry_after_secs),
            ("server-too-busy", Some(60))
        );
        assert_eq!(heard.to_string(), error.to_string());
        let odd = NetError::heard("made-up", String::new(), None);
        assert_eq!(odd.code(), "network-half");
    }
}
