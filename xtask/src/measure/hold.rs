//! Opens many connections, asks once on each, and leaves them idle: what does the server keep?

use std::error::Error;

use rustls::client::Resumption;
use serde_json::{Value, json};

use crate::peer::{After, Peer};
use crate::process::private_memory;

/// The most connections that are opened.
const CONNECTIONS_MAX: usize = 18_000;

/// Connections that are opened before anything is counted: what a server sets up once.
const WARM_UP: usize = 64;

/// What to do.
pub(crate) struct Plan {
    peer: Peer,
    connections: usize,
    server: u32,
}

impl Plan {
    pub(crate) fn parse(words: &[String]) -> Result<Self, Box<dyn Error>> {
        let [peer @ .., connections, server] = words else {
            return Err("hold takes seven words".into());
        };
        let peer = peer.try_into().map_err(|_| "hold takes seven words")?;
        Ok(Self {
            peer: Peer::parse(peer)?,
            connections: connections.parse::<usize>()?.min(CONNECTIONS_MAX),
            server: server.parse()?,
        })
    }
}

/// Runs the plan.
pub(crate) fn run(plan: &Plan) -> Result<Value, Box<dyn Error>> {
    let tls = plan.peer.tls(Resumption::disabled(), b"http/1.1")?;
    let mut buffer = vec![0; 64 << 10];
    let mut held = Vec::with_capacity(WARM_UP + plan.connections);
    let mut hold = |count: usize| -> Result<(), Box<dyn Error>> {
        for _ in 0..count {
            let mut stream = plan.peer.connect(&tls)?;
            plan.peer.ask(&mut stream, After::Keep, &mut buffer)?;
            // Only the socket stays here; the server does not see the difference.
            held.push(stream.sock);
        }
        Ok(())
    };
    hold(WARM_UP)?;
    let before = private_memory(plan.server)?;
    hold(plan.connections)?;
    let after = private_memory(plan.server)?;
    Ok(json!({
        "connections": plan.connections,
        "bytes_per_connection": after.saturating_sub(before) / plan.connections.max(1) as u64,
    }))
}
