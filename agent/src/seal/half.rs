//! The network half: reads what is asked on its one socket, and answers from the server.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::handshake::RemoteKey;
use super::walls;
use super::words::{Answered, Asked, Begin, Failed, PIECE_LEN, answer, hear};
use crate::net::est::Answered as Answer;
use crate::net::{HttpNetwork, Identity, IdentityError, NetError, certify};
use crate::ports::{Fetch, Network};

/// Runs as the network half: the other end of the pair is stdin. Ends when that is closed.
///
/// # Errors
/// A stdin that is no such socket, and one that speaks nonsense.
pub fn run() -> io::Result<()> {
    // A signal to the whole group is the writer's to heed; this half ends with it.
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let mut pipe = UnixStream::from(stdin);
    let Some(Asked::Begin(begin)) = hear(&mut pipe)? else {
        return Err(io::Error::other(
            "it is started by the agent, with a socket as its stdin",
        ));
    };
    let walls = walls::network(&begin.ports());
    answer(&mut pipe, &Answered::Told(walls.gaps().join("; ")))?;
    match Client::new(&begin, &pipe) {
        Ok(client) => serve(&mut pipe, client),
        Err(error) => answer(&mut pipe, &Answered::Failed(Failed::of(&error))),
    }
}

/// Speaks to the server as the device.
struct Client {
    identity: Identity,
    url: String,
    network: HttpNetwork,
}

impl Client {
    fn new(begin: &Begin, pipe: &UnixStream) -> Result<Self, NetError> {
        let pipe = pipe.try_clone()?;
        let identity = Identity::of_pem(
            begin.certificate.as_bytes(),
            |public| Arc::new(RemoteKey::new(public.clone(), pipe)),
            begin.authorities.as_bytes(),
        );
        let unfit = |error: IdentityError| NetError::new("identity", error.to_string());
        let identity = identity.map_err(unfit)?;
        let mut network = HttpNetwork::new(begin.settings(), &identity);
        if let Some(links) = &begin.links {
            let authorities = links.authorities.as_bytes();
            let following = network.following(begin.link_hosts(), authorities);
            network = following.map_err(unfit)?;
        }
        Ok(Self {
            network,
            url: begin.url.clone(),
            identity,
        })
    }

    /// The certificate after this one, as the server answered.
    fn certify(&self, request: &str) -> Result<Vec<u8>, NetError> {
        let request = STANDARD.decode(request);
        let request = request.map_err(|_| NetError::new("renewal-failed", "it is not base64"))?;
        match certify(&self.identity, &self.url, &request)? {
            Answer::Certificates(answer) => Ok(answer),
            Answer::Waits(secs) => {
                let text = format!("the server asks to wait for {secs} s");
                Err(NetError::heard("renewal-failed", text, Some(secs)))
            }
        }
    }
}

fn serve(pipe: &mut UnixStream, mut client: Client) -> io::Result<()> {
    let mut next = hear(pipe)?;
    while let Some(asked) = next {
        next = match asked {
            Asked::Fetch { name, max_len } => {
                give(pipe, client.network.fetch(&name, max_len))?;
                hear(pipe)?
            }
            Asked::Director { name, max_len } => {
                give(pipe, client.network.director(&name, max_len))?;
                hear(pipe)?
            }
            Asked::Post { path, body } => {
                give(pipe, client.network.post(&path, body.as_bytes()).map(Some))?;
                hear(pipe)?
            }
            Asked::Certify { request } => {
                give(pipe, client.certify(&request).map(Some))?;
                hear(pipe)?
            }
            Asked::Target {
                name,
                offset,
                length,
            } => match client.network.target(&name, offset, length) {
                Ok(mut body) => {
                    answer(pipe, &Answered::End)?;
                    pour(pipe, &mut body)?
                }
                Err(error) => {
                    answer(pipe, &Answered::Failed(Failed::of(&error)))?;
                    hear(pipe)?
                }
            },
            // Of a body that ended already.
            Asked::More => {
                answer(pipe, &Answered::End)?;
                hear(pipe)?
            }
            Asked::Signed { .. } => {
                // Nothing was to be signed.
                return Err(io::ErrorKind::InvalidData.into());
            }
            Asked::Begin(begin) => {
                let renewed = Client::new(&begin, pipe).map(|renewed| {
                    client = renewed;
                    Some(Vec::new())
                });
                give(pipe, renewed)?;
                hear(pipe)?
            }
        };
    }
    Ok(())
}

/// A whole answer, in pieces.
fn give(pipe: &mut UnixStream, found: Result<Option<Vec<u8>>, NetError>) -> io::Result<()> {
    match found {
        Ok(Some(bytes)) => {
            for piece in bytes.chunks(PIECE_LEN) {
                answer(pipe, &Answered::Data(piece.to_vec()))?;
            }
            answer(pipe, &Answered::End)
        }
        Ok(None) => answer(pipe, &Answered::NotFound),
        Err(error) => answer(pipe, &Answered::Failed(Failed::of(&error))),
    }
}

/// A body, piece by piece as it is asked for; gives what is asked instead.
fn pour(pipe: &mut UnixStream, body: &mut dyn Read) -> io::Result<Option<Asked>> {
    let mut piece = vec![0; PIECE_LEN];
    loop {
        match hear(pipe)? {
            Some(Asked::More) => {}
            other => return Ok(other),
        }
        let read = loop {
            match body.read(&mut piece) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        match read {
            Ok(0) => answer(pipe, &Answered::End)?,
            Ok(count) => answer(pipe, &Answered::Data(piece[..count].to_vec()))?,
            Err(error) => {
                let error = NetError::from(error);
                answer(pipe, &Answered::Failed(Failed::of(&error)))?;
            }
        }
    }
}
