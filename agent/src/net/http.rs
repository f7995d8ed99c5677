//! The client.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use ampoule_protocol::paths::TIMESTAMP_FILE;
use rustls::pki_types::CertificateDer;
use ureq::http::Response;
use ureq::{Agent, Body};

use ampoule_protocol::time::UtcTime;

use super::identity::certificates_in;
use super::links::Links;
use super::{
    Bucket, Identity, IdentityError, LinkHost, NetError, Pace, Paced, RETRY_AFTER_MAX_SECS,
    Renewal, Shown, certify, tls,
};
use crate::ports::{Fetch, Network};

/// Bytes of an answer of the device API.
const ANSWER_LEN_MAX: u64 = 256 << 10;
/// Bytes of a problem body that are read for its sentence.
const PROBLEM_LEN_MAX: u64 = 4096;
/// Says that a link would be followed.
const LINKS_HEADER: (&str, &str) = ("ampoule-links", "1");

/// How the server is spoken to.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// `https://host:port`, without a slash at the end.
    pub url: String,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long one read may take.
    pub stall_timeout: Duration,
    /// How fast is fast enough.
    pub pace: Pace,
    /// Bytes that may come each second; `None` for as many as there are.
    pub bytes_per_sec_max: Option<u64>,
}

/// The server over HTTP/1.1 and mutual TLS.
pub struct HttpNetwork {
    agent: Agent,
    settings: HttpSettings,
    bucket: Option<Rc<RefCell<Bucket>>>,
    renewal: Option<Renewal>,
    /// The last timestamp of each repository: most polls find it unchanged, and a server that is
    /// asked with its ETag says so in a line.
    timestamps: BTreeMap<&'static str, Known>,
    /// Where targets may come from besides.
    links: Option<Links>,
}

/// An answer and the server's name for it. Nothing is believed of it for being known.
#[derive(Debug)]
struct Known {
    etag: String,
    bytes: Vec<u8>,
}

impl HttpNetwork {
    /// Speaks as `identity`; does not connect yet.
    pub fn new(settings: HttpSettings, identity: &Identity) -> Self {
        let bucket = settings.bytes_per_sec_max;
        Self {
            agent: client_of(&settings, identity),
            bucket: bucket.map(|rate| Rc::new(RefCell::new(Bucket::new(rate)))),
            settings,
            renewal: None,
            timestamps: BTreeMap::new(),
            links: None,
        }
    }

    /// Follows links to these hosts, whose certificates are vouched for by `authorities` (PEM).
    ///
    /// # Errors
    /// Bytes that hold no certificate.
    pub fn following(
        self,
        hosts: Vec<LinkHost>,
        authorities: &[u8],
    ) -> Result<Self, IdentityError> {
        let authorities = certificates_in(Path::new("server.links.ca"), authorities)?;
        let client = client(&self.settings, &authorities, None);
        Ok(Self {
            links: Some(Links::new(hosts, client)),
            ..self
        })
    }

    /// Renews its certificate when it is time.
    pub fn renewing(self, renewal: Renewal) -> Self {
        Self {
            renewal: Some(renewal),
            ..self
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.url)
    }

    fn get(&self, path: &str, more: &[(&str, &str)]) -> Result<Response<Body>, NetError> {
        let mut request = self
            .agent
            .get(self.url(path))
            .header("accept-encoding", "identity");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        request.call().map_err(NetError::of_ureq)
    }

    fn read_all(&self, response: &mut Response<Body>, max_len: u64) -> Result<Vec<u8>, NetError> {
        if response
            .body()
            .content_length()
            .is_some_and(|length| length > max_len)
        {
            return Err(NetError::too_long(max_len));
        }
        let mut bytes = Vec::new();
        let body = response.body_mut().with_config().limit(u64::MAX).reader();
        let body = Paced::until_end(body, max_len.saturating_add(1), self.settings.pace);
        let mut body = body.within(self.bucket.as_ref());
        loop {
            let mut piece = [0; 8192];
            match body.read(&mut piece)? {
                0 => break,
                count => bytes.extend_from_slice(&piece[..count]),
            }
            if bytes.len() as u64 > max_len {
                return Err(NetError::too_long(max_len));
            }
        }
        Ok(bytes)
    }

    fn refusal(&self, mut response: Response<Body>) -> NetError {
        let retry_after = header(&response, "retry-after")
            .and_then(|text| text.trim().parse::<u64>().ok())
            .map(|secs| secs.min(RETRY_AFTER_MAX_SECS));
        let status = response.status().as_u16();
        let problem = self.read_all(&mut response, PROBLEM_LEN_MAX).ok();
        let problem = problem.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let detail = problem.as_ref().and_then(|problem: &serde_json::Value| {
            problem
                .get("detail")
                .or_else(|| problem.get("title"))?
                .as_str()
        });
        NetError::status(status, detail, retry_after)
    }
}

fn client_of(settings: &HttpSettings, identity: &Identity) -> Agent {
    client(settings, &identity.authorities, Some(&identity.shown()))
}

fn client(
    settings: &HttpSettings,
    authorities: &[CertificateDer<'static>],
    own: Option<&Shown>,
) -> Agent {
    let config = Agent::config_builder()
        .https_only(true)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .user_agent(concat!("ampoule-agent/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(16 << 10)
        .input_buffer_size(64 << 10)
        .output_buffer_size(16 << 10)
        .max_idle_connections(1)
        .timeout_connect(Some(settings.connect_timeout))
        .timeout_recv_response(Some(settings.stall_timeout))
        .timeout_per_read(Some(settings.stall_timeout))
        .timeout_per_write(Some(settings.stall_timeout))
        .build();
    tls::agent(config, authorities, own)
}

impl HttpNetwork {
    fn metadata(
        &mut self,
        repository: &'static str,
        name: &str,
        max_len: u64,
    ) -> Result<Option<Vec<u8>>, NetError> {
        let path = format!("tuf/{repository}/metadata/{name}");
        let is_timestamp = name == TIMESTAMP_FILE;
        let known = self.timestamps.get(repository).filter(|_| is_timestamp);
        let asked = known.map(|known| ("if-none-match", known.etag.as_str()));
        let mut response = self.get(&path, asked.as_slice())?;
        match (response.status().as_u16(), known) {
            (200, _) => {
                let bytes = self.read_all(&mut response, max_len)?;
                if let Some(etag) = header(&response, "etag").filter(|_| is_timestamp) {
                    let (etag, bytes) = (etag.to_owned(), bytes.clone());
                    self.timestamps.insert(repository, Known { etag, bytes });
                }
                Ok(Some(bytes))
            }
            (304, Some(known)) if known.bytes.len() as u64 > max_len => {
                Err(NetError::too_long(max_len))
            }
            (304, Some(known)) => Ok(Some(known.bytes.clone())),
            (404, _) => {
                // Read to its end, so that the connection can be used again.
                let _ = self.read_all(&mut response, PROBLEM_LEN_MAX);
                Ok(None)
            }
            _ => Err(self.refusal(response)),
        }
    }
}

impl HttpNetwork {
    /// Opens a target: at the server, or where it sends a device to that asked for a link.
    fn open(
        &mut self,
        name: &str,
        offset: u64,
        range: Option<&str>,
    ) -> Result<Response<Body>, NetError> {
        let asks = self.links.as_mut().is_some_and(|it| it.asks(name, offset));
        let range_header = range.map(|range| ("range", range));
        let asked = range_header.into_iter().chain(asks.then_some(LINKS_HEADER));
        let path = format!("tuf/image/targets/{}", url_path(name));
        let response = self.get(&path, &asked.collect::<Vec<_>>())?;
        match &mut self.links {
            Some(links) if asks && response.status().as_u16() == 307 => {
                links.follow(header(&response, "location"), (name, offset), range)
            }
            _ => Ok(response),
        }
    }
}

impl Fetch for HttpNetwork {
    fn fetch(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        self.metadata("image", name, max_len)
    }
}

impl Network for HttpNetwork {
    fn tend(&mut self, now: UtcTime) -> Result<bool, NetError> {
        let Some(renewal) = &mut self.renewal else {
            return Ok(false);
        };
        let url = &self.settings.url;
        let renewed = renewal.tend(now, &mut |identity, request| {
            certify(identity, url, request)
        })?;
        if renewed {
            self.agent = client_of(&self.settings, &renewal.identity()?);
        }
        Ok(renewed)
    }

    fn director(&mut self, name: &str, max_len: u64) -> Result<Option<Vec<u8>>, NetError> {
        self.metadata("director", name, max_len)
    }

    fn target(
        &mut self,
        name: &str,
        offset: u64,
        length: u64,
    ) -> Result<Box<dyn Read + '_>, NetError> {
        let range = (offset > 0).then(|| format!("bytes={offset}-"));
        let response = self.open(name, offset, range.as_deref())?;
        let from = match response.status().as_u16() {
            200 => 0,
            206 if range.is_some() => {
                check_range(&response, offset, length)?;
                offset
            }
            _ => return Err(self.refusal(response)),
        };
        if header(&response, "content-encoding").is_some_and(|coding| coding != "identity") {
            return Err(NetError::new(
                "content-encoded",
                "the server encoded a target",
            ));
        }
        let expected = length - from;
        let found = response.body().content_length();
        if found.is_some_and(|found| found != expected) {
            return Err(NetError::new(
                "length-mismatch",
                format!(
                    "the server sends {} bytes, expected {expected}",
                    found.unwrap_or(0)
                ),
            ));
        }
        let body = response
            .into_body()
            .into_with_config()
            .limit(u64::MAX)
            .reader();
        let body = Paced::new(body, expected, self.settings.pace);
        let mut body = body.within(self.bucket.as_ref());
        skip(&mut body, offset - from)?;
        Ok(Box::new(body))
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<Vec<u8>, NetError> {
        let request = self
            .agent
            .post(self.url(&format!("device/v1/{path}")))
            .header("content-type", "application/json");
        let mut response = request.send(body).map_err(NetError::of_ureq)?;
        if response.status().as_u16() != 200 {
            return Err(self.refusal(response));
        }
        self.read_all(&mut response, ANSWER_LEN_MAX)
    }
}

/// A target's path as a URL has it. There is no `%` in it yet: [`TargetPath`] refuses that.
///
/// [`TargetPath`]: ampoule_protocol::name::TargetPath
fn url_path(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/+@!$&'()*,;=".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn header<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .and_then(|value| value.to_str().ok())
}

/// The answer must be the range that was asked for, of a file of the signed length.
fn check_range(response: &Response<Body>, offset: u64, length: u64) -> Result<(), NetError> {
    let expected = format!("bytes {offset}-{}/{length}", length - 1);
    let found = header(response, "content-range").unwrap_or("nothing");
    if found == expected {
        return Ok(());
    }
    Err(NetError::new(
        "range-mismatch",
        format!("the server sends range \"{found}\", expected \"{expected}\""),
    ))
}

/// A server without ranges sends the whole: what is there already is read over.
fn skip(body: &mut dyn Read, count: u64) -> Result<(), NetError> {
    std::io::copy(&mut body.take(count), &mut std::io::sink())?;
    Ok(())
}
