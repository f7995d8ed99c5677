//! What is between a device and its server: loss, and here and there somebody who lies.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::rc::Rc;

use ampoule_agent::net::NetError;
use ampoule_agent::ports::{Fetch, Network};
use ampoule_protocol::director::Issued;
use ampoule_protocol::key::PublicKey;
use ampoule_protocol::name::DeviceId;
use ampoule_protocol::paths::TIMESTAMP_FILE;

use super::server::Refusal;
use super::world::{Sky, name_of};
use crate::random::Random;

/// Bytes of a download that come at once.
const PIECE_LEN: usize = 4096;

/// How a hostile proxy lies about one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sin {
    /// It serves what it saw first.
    Replays,
    /// It serves what the director says to another device.
    WrongRecipient,
    /// It flips a bit of metadata.
    Flips,
    /// It has the director's key, and offers what does not exist.
    Forges,
    /// It flips a bit of an image.
    SpoilsImages,
}

const SINS: [Sin; 5] = [
    Sin::Replays,
    Sin::WrongRecipient,
    Sin::Flips,
    Sin::Forges,
    Sin::SpoilsImages,
];

/// The network of one device.
pub(super) struct Net {
    sky: Rc<Sky>,
    device: DeviceId,
    number: u32,
    key: PublicKey,
    random: Random,
    /// Until when a hostile proxy sits in it, and what it saw.
    hostile_until: i64,
    memory: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
    /// The lie of this look.
    sin: Option<Sin>,
    forged: Option<Issued>,
}

/// What a network is made for.
pub(super) struct Line {
    pub(super) device: DeviceId,
    pub(super) number: u32,
    pub(super) key: PublicKey,
    pub(super) hostile_until: i64,
    pub(super) memory: Rc<RefCell<BTreeMap<String, Vec<u8>>>>,
}

impl Net {
    pub(super) fn new(sky: Rc<Sky>, line: Line, random: Random) -> Self {
        Self {
            sky,
            device: line.device,
            number: line.number,
            key: line.key,
            random,
            hostile_until: line.hostile_until,
            memory: line.memory,
            sin: None,
            forged: None,
        }
    }

    fn is_lost(&mut self) -> bool {
        let loss = self.sky.weather.loss;
        loss > 0 && self.random.one_in(loss)
    }

    /// The way there, and the server at its end.
    fn send(&mut self) -> Result<(), NetError> {
        if self.is_lost() || !self.sky.server.borrow().is_up() {
            return Err(lost());
        }
        Ok(())
    }

    /// The way back.
    fn receive<T>(&mut self, answer: Result<T, Refusal>) -> Result<Option<T>, NetError> {
        if self.is_lost() {
            return Err(lost());
        }
        match answer {
            Ok(answer) => Ok(Some(answer)),
            Err(Refusal::NotFound) => Ok(None),
            Err(Refusal::Away) => Err(NetError::status(503, None, None)),
            Err(Refusal::Bad) => Err(NetError::status(403, None, None)),
        }
    }

    /// Decides at the first file of a look whether this look is lied about.
    fn sin(&mut self, name: &str) -> Option<Sin> {
        if name == TIMESTAMP_FILE {
            let is_hostile = self.sky.now.get() < self.hostile_until;
            self.sin = (is_hostile && self.random.one_in(2)).then(|| *self.random.pick(&SINS));
            self.forged = None;
        }
        self.sin
    }

    fn flipped(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        if !bytes.is_empty() {
            let at = self.random.below(bytes.len());
            bytes[at] ^= 1;
        }
        bytes
    }
}

fn lost() -> NetError {
    NetError::new("connection", "nothing came")
}

impl Fetch for Net {
    fn fetch(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        self.send()?;
        let found = self
            .sky
            .shelf
            .tree
            .get(&format!("metadata/{name}"))
            .cloned();
        let found = self.receive(found.ok_or(Refusal::NotFound))?;
        Ok(match (found, self.sin) {
            (Some(bytes), Some(Sin::Flips)) => Some(self.flipped(bytes)),
            (found, _) => found.filter(|bytes| bytes.len() as u64 <= max_len),
        })
    }
}

impl Network for Net {
    fn director(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        self.send()?;
        let sin = self.sin(name);
        let now = self.sky.now.get();
        let found = {
            let server = self.sky.server.borrow();
            match sin {
                Some(Sin::WrongRecipient) => {
                    let other = name_of((self.number + 1) % self.sky.devices);
                    server.director(&other, name, now)
                }
                Some(Sin::Forges) if !name.ends_with("root.json") => {
                    let target = &self.sky.releases[0].0;
                    let make = || server.forge(&self.device, target, now);
                    Ok(by_name(self.forged.get_or_insert_with(make), name).to_vec())
                }
                _ => server.director(&self.device, name, now),
            }
        };
        let mut found = self.receive(found)?;
        if now < self.hostile_until
            && let Some(bytes) = &found
        {
            let mut memory = self.memory.borrow_mut();
            let first = memory
                .entry(name.to_owned())
                .or_insert_with(|| bytes.clone());
            if sin == Some(Sin::Replays) {
                found = Some(first.clone());
            }
        }
        Ok(match (found, sin) {
            (Some(bytes), Some(Sin::Flips)) => Some(self.flipped(bytes)),
            (found, _) => found.filter(|bytes| bytes.len() as u64 <= max_len),
        })
    }

    fn target(
        &mut self,
        name: &str,
        offset: u64,
        _length: u64,
    ) -> Result<Box<dyn Read + '_>, NetError> {
        self.send()?;
        let found = self.sky.shelf.tree.get(&format!("targets/{name}")).cloned();
        let bytes = self.receive(found.ok_or(Refusal::NotFound))?;
        let bytes = bytes.ok_or_else(|| NetError::status(404, None, None))?;
        let offset = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let mut rest = bytes[offset..].to_vec();
        if self.sin == Some(Sin::SpoilsImages) && self.sky.now.get() < self.hostile_until {
            rest = self.flipped(rest);
        }
        let broken = self.sky.weather.broken;
        let breaks = broken > 0 && self.random.one_in(broken);
        let end = if breaks {
            self.random.below(rest.len().max(1))
        } else {
            rest.len()
        };
        Ok(Box::new(Pieces { rest, at: 0, end }))
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, NetError> {
        self.send()?;
        let now = self.sky.now.get();
        let answer = {
            let mut server = self.sky.server.borrow_mut();
            match path {
                "receipts" => server.receipt(&self.device, &self.key, body, now),
                _ => server.inventory(&self.device, body, now),
            }
        };
        if path == "receipts" && answer.is_ok() {
            self.sky
                .observer
                .borrow_mut()
                .acknowledged(self.number, body);
        }
        let answer = self.receive(answer)?;
        answer.ok_or_else(|| NetError::status(404, None, None))
    }
}

fn by_name<'a>(issued: &'a Issued, name: &str) -> &'a [u8] {
    if name == TIMESTAMP_FILE {
        &issued.timestamp
    } else if name.ends_with("snapshot.json") {
        &issued.snapshot
    } else {
        &issued.targets
    }
}

/// A body that may break off.
struct Pieces {
    rest: Vec<u8>,
    at: usize,
    end: usize,
}

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.end && self.end < self.rest.len() {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let count = buf.len().min(PIECE_LEN).min(self.end - self.at);
        buf[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
