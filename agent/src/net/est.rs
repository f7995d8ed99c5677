//! Asking for certificates (EST, RFC 7030): the client's half of two questions.

use std::io::Read;
use std::time::Duration;

use ampoule_protocol::enrol::ANSWER_LEN_MAX;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use ureq::Agent;

use super::{NetError, RETRY_AFTER_MAX_SECS, Shown, tls};

/// From the question to the last byte of the answer.
const ASK_TIMEOUT: Duration = Duration::from_mins(1);
/// What a server that says nothing of it is given, in seconds.
const WAIT_SECS: u64 = 300;

/// Who asks, beside the request itself.
pub enum Proof {
    /// A one-time token, with the device's id.
    Token(String, String),
    /// What the TLS connection shows: a birth certificate, or the one in use.
    Certificate,
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Answered {
    /// A CMS message with certificates, DER.
    Certificates(Vec<u8>),
    /// A person has to decide; ask again after so many seconds.
    Waits(u64),
}

/// A client that shows `shown`, trusting `authorities`.
pub fn client(authorities: &[CertificateDer<'static>], shown: Option<&Shown>) -> Agent {
    let config = Agent::config_builder()
        .https_only(true)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("ampoule-agent/", env!("CARGO_PKG_VERSION")))
        .timeout_global(Some(ASK_TIMEOUT))
        .build();
    tls::agent(config, authorities, shown)
}

/// Posts a request for a certificate, PKCS#10 in DER.
///
/// # Errors
/// Whatever the network does, and every refusal.
pub fn ask(agent: &Agent, url: &str, proof: &Proof, request: &[u8]) -> Result<Answered, NetError> {
    let mut post = agent
        .post(url)
        .header("content-type", "application/pkcs10")
        .header("content-transfer-encoding", "base64");
    if let Proof::Token(device, token) = proof {
        let secret = STANDARD.encode(format!("{device}:{token}"));
        post = post.header("authorization", format!("Basic {secret}"));
    }
    let mut response = post
        .send(STANDARD.encode(request).as_bytes())
        .map_err(NetError::of_ureq)?;
    let wait_secs = response
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok())
        .map(|secs| secs.min(RETRY_AFTER_MAX_SECS));
    let status = response.status().as_u16();
    let mut body = Vec::new();
    // In base64 with line breaks, an answer is longer by half at the most.
    let len_max = ANSWER_LEN_MAX as u64 * 3 / 2;
    let reader = response.body_mut().as_reader();
    reader.take(len_max + 1).read_to_end(&mut body)?;
    if body.len() as u64 > len_max {
        return Err(NetError::too_long(len_max));
    }
    match status {
        200 => {
            body.retain(|byte| !byte.is_ascii_whitespace());
            let der = STANDARD.decode(&body).map_err(|_| {
                NetError::new(
                    "answer-malformed",
                    "the server's certificates are not base64",
                )
            })?;
            Ok(Answered::Certificates(der))
        }
        202 => Ok(Answered::Waits(wait_secs.unwrap_or(WAIT_SECS))),
        _ => {
            let problem: Option<serde_json::Value> = serde_json::from_slice(&body).ok();
            let detail = problem
                .as_ref()
                .and_then(|problem| problem.get("detail")?.as_str());
            Err(NetError::status(status, detail, wait_secs))
        }
    }
}
