//! What goes wrong between device and server.

use std::io;

use ampoule_protocol::error::{Coded, Guilty};

/// A fault of the network, or of what answers on it.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct NetError {
    code: &'static str,
    text: String,
    /// Seconds that the server asked to wait.
    pub retry_after_secs: Option<u64>,
    source: Option<io::Error>,
}

/// The codes that a network half may name: those of the client.
const HEARD: [&str; 22] = [
    "answer-malformed",
    "answer-too-long",
    "connection",
    "content-encoded",
    "download-truncated",
    "host-not-found",
    "http",
    "identity",
    "length-mismatch",
    "link-failed",
    "link-refused",
    "not-on-server",
    "range-mismatch",
    "range-refused",
    "renewal-failed",
    "server-failed",
    "server-forbids",
    "server-status",
    "server-too-busy",
    "slow-retrieval",
    "timeout",
    "tls",
];

impl NetError {
    /// With a stable code and a sentence.
    pub fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            retry_after_secs: None,
            source: None,
        }
    }

    /// One that another process had, with the code that it named.
    pub fn heard(code: &str, text: String, retry_after_secs: Option<u64>) -> Self {
        let known = HEARD.iter().find(|known| **known == code);
        Self {
            retry_after_secs,
            ..Self::new(known.copied().unwrap_or("network-half"), text)
        }
    }

    /// Whether it came from the network, and not from the half that speaks to it.
    pub(crate) fn is_heard(&self) -> bool {
        self.source.is_none() && self.code != "network-half"
    }

    /// A body that ended before its length.
    pub fn truncated() -> Self {
        Self::new("download-truncated", "the answer ended before its length")
    }

    /// A body beyond its length.
    pub fn too_long(max_len: u64) -> Self {
        Self::new(
            "answer-too-long",
            format!("the answer is longer than {max_len} bytes"),
        )
    }

    /// A body that comes too slowly.
    pub fn slow(text: String) -> Self {
        Self::new("slow-retrieval", text)
    }

    /// A status that is not the one expected.
    pub fn status(status: u16, detail: Option<&str>, retry_after_secs: Option<u64>) -> Self {
        let code = match status {
            403 => "server-forbids",
            404 => "not-on-server",
            416 => "range-refused",
            429 => "server-too-busy",
            500..=599 => "server-failed",
            _ => "server-status",
        };
        let text = match detail {
            Some(detail) => format!("the server answered {status}: {detail}"),
            None => format!("the server answered {status}"),
        };
        Self {
            retry_after_secs,
            ..Self::new(code, text)
        }
    }

    pub(super) fn of_ureq(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Io(error) => error.into(),
            ureq::Error::Timeout(_) => Self::new("timeout", "the server did not answer in time"),
            ureq::Error::HostNotFound => {
                Self::new("host-not-found", "the server's name is not known")
            }
            ureq::Error::Other(error) => Self::new("tls", format!("TLS failed: {error}")),
            other => Self::new("http", format!("HTTP failed: {other}")),
        }
    }
}

impl From<io::Error> for NetError {
    fn from(error: io::Error) -> Self {
        // Errors of our own readers, and of the client, travel inside io::Error.
        let error = match error.downcast::<Self>() {
            Ok(own) => return own,
            Err(error) => error,
        };
        match error.downcast::<ureq::Error>() {
            Ok(inner) => Self::of_ureq(inner),
            Err(error) => Self {
                source: Some(error),
                ..Self::new("connection", "the connection failed")
            },
        }
    }
}

impl Coded for NetError {
    fn code(&self) -> &'static str {
        self.code
    }

    fn guilty(&self) -> Guilty {
        Guilty::Network
    }
}
