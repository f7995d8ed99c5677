//! What may use what, as functions over names.

use std::collections::BTreeSet;

/// One package of ours using another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    from: String,
    to: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Linked into what is shipped, or run to build it.
    Normal,
    /// For its tests only.
    Dev,
}

impl Edge {
    /// The prefix `ampoule-` is left off.
    pub(crate) fn new(from: &str, to: &str, kind: Kind) -> Self {
        let short = |name: &str| name.strip_prefix("ampoule-").unwrap_or(name).to_owned();
        Self {
            from: short(from),
            to: short(to),
            kind,
        }
    }
}

/// The outermost: they may use everything, and nothing uses them.
const OUTER: [&str; 4] = ["tests", "examples", "xtask", "fuzz"];

/// Who may use whom; the same for tests inside a crate, or two crates would grow together there.
const ALLOWED: [(&str, &str); 5] = [
    ("signer", "protocol"),
    ("signer", "delta"),
    ("server", "protocol"),
    ("agent", "protocol"),
    ("agent", "delta"),
];

/// A sentence for each edge that the picture does not have.
pub(crate) fn picture_faults(edges: &[Edge]) -> Vec<String> {
    edges
        .iter()
        .filter(|edge| {
            let outer = OUTER.contains(&edge.from.as_str()) && !OUTER.contains(&edge.to.as_str());
            !outer && !ALLOWED.contains(&(edge.from.as_str(), edge.to.as_str()))
        })
        .map(|edge| {
            format!(
                "{} uses {} ({:?}), which is not drawn",
                edge.from, edge.to, edge.kind
            )
        })
        .collect()
}

/// Crates that open sockets or speak over them.
const NETWORK: [&str; 22] = [
    "attohttpc",
    "async-net",
    "curl",
    "curl-sys",
    "h2",
    "h3",
    "hyper",
    "hyper-util",
    "isahc",
    "mio",
    "minreq",
    "native-tls",
    "openssl",
    "quinn",
    "reqwest",
    "rustls",
    "rustls-webpki",
    "socket2",
    "tiny_http",
    "tokio",
    "ureq",
    "webpki-roots",
];

/// Crates that run futures.
const RUNTIMES: [&str; 12] = [
    "async-executor",
    "async-global-executor",
    "async-io",
    "async-std",
    "embassy-executor",
    "futures-executor",
    "glommio",
    "mio",
    "monoio",
    "polling",
    "smol",
    "tokio",
];

pub(crate) fn network_in(tree: &BTreeSet<String>) -> Vec<String> {
    NETWORK
        .iter()
        .filter(|name| tree.contains(**name))
        .map(|name| (*name).to_owned())
        .collect()
}

pub(crate) fn runtimes_in(tree: &BTreeSet<String>) -> Vec<String> {
    RUNTIMES
        .iter()
        .filter(|name| tree.contains(**name))
        .map(|name| (*name).to_owned())
        .collect()
}
