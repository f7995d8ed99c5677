//! The operators' API over HTTPS, blocking: one request, one answer, all of it with bounds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::Agent;
use ureq::tls::{
    Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
};

use super::profile::Profile;
use super::{CtlError, files};
use crate::door::words::Problem;

/// Bytes of an answer: a bundle of 256 long entries, or a page of 1000 devices.
const ANSWER_LEN_MAX: u64 = 32 << 20;
/// Bytes of a file of certificates or a key.
const PEM_LEN_MAX: u64 = 1 << 20;
/// For a connection to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one whole request: a dry run over a large fleet takes its time.
const REQUEST_TIMEOUT: Duration = Duration::from_mins(2);

/// The way to one server.
pub(super) struct Client {
    agent: Agent,
    server: String,
    session: Option<String>,
}

/// A page of any list.
#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next: Option<String>,
}

/// A file that was there, or not.
pub(super) enum Got {
    Found(Vec<u8>),
    Absent,
}

impl Client {
    /// To the server of a profile; does not connect yet.
    pub(super) fn new(profile: &Profile) -> Result<Self, CtlError> {
        let server = profile.server.trim_end_matches('/').to_owned();
        if !server.starts_with("https://") {
            let what = format!("{server:?} is not an address like \"https://server.example:9443\"");
            return Err(CtlError::Usage(what));
        }
        let Some(authority) = &profile.ca else {
            let what = "no --ca is given: the authority that issued the server's certificate";
            return Err(CtlError::Usage(what.into()));
        };
        let roots = RootCerts::new_with_certs(&certificates(authority)?);
        let client = match (&profile.certificate, &profile.key) {
            (Some(certificate), Some(key)) => {
                let bytes = files::expect(key, PEM_LEN_MAX)?;
                let private = PrivateKey::from_pem(&bytes);
                let private = private.map_err(|_| unusable(key, "holds no private key"))?;
                Some(ClientCert::new_with_certs(
                    &certificates(certificate)?,
                    private,
                ))
            }
            (None, None) => None,
            _ => {
                let what = "--cert and --cert-key go together";
                return Err(CtlError::Usage(what.into()));
            }
        };
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(roots)
            .client_cert(client)
            .build();
        let config = Agent::config_builder()
            .https_only(true)
            .tls_config(tls)
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("ampoule-ctl/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        Ok(Self {
            agent: config.new_agent(),
            server,
            session: profile.session.clone(),
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    /// Asks for words.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CtlError> {
        let mut request = self.agent.get(self.url(path));
        if let Some(session) = &self.session {
            request = request.header("authorization", format!("Bearer {session}"));
        }
        self.words(request.call())
    }

    /// Asks for a whole list, page after page; a server that does not go forward is asked no more.
    pub(super) fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, CtlError> {
        let mut all = Vec::new();
        let mut after = String::new();
        loop {
            let name = segment(&after);
            let page: Page<T> = self.get(&format!("{path}?limit=1000&after={name}"))?;
            all.extend(page.items);
            match page.next {
                Some(next) if next > after => after = next,
                _ => return Ok(all),
            }
        }
    }

    /// Asks for a file.
    pub(super) fn file(&self, path: &str) -> Result<Got, CtlError> {
        let mut request = self.agent.get(self.url(path));
        if let Some(session) = &self.session {
            request = request.header("authorization", format!("Bearer {session}"));
        }
        let (status, bytes) = self.answer(request.call())?;
        match status {
            200 => Ok(Got::Found(bytes)),
            404 => Ok(Got::Absent),
            _ => Err(refusal(status, &bytes)),
        }
    }

    /// Gives words and asks for words.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        words: &impl Serialize,
    ) -> Result<T, CtlError> {
        self.send(self.agent.post(self.url(path)), words)
    }

    /// Gives a signed note and asks for words.
    pub(super) fn post_note<T: DeserializeOwned>(
        &self,
        path: &str,
        note: &[u8],
    ) -> Result<T, CtlError> {
        let request = self.agent.post(self.url(path));
        self.send_bytes(request, "text/plain; charset=utf-8", note)
    }

    /// Puts words in place of others.
    pub(super) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        words: &impl Serialize,
    ) -> Result<T, CtlError> {
        self.send(self.agent.put(self.url(path)), words)
    }

    fn send<T: DeserializeOwned>(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        words: &impl Serialize,
    ) -> Result<T, CtlError> {
        let body = serde_json::to_vec(words).expect("questions are plain data");
        self.send_bytes(request, "application/json", &body)
    }

    fn send_bytes<T: DeserializeOwned>(
        &self,
        request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        kind: &str,
        body: &[u8],
    ) -> Result<T, CtlError> {
        let mut request = request.header("content-type", kind);
        if let Some(session) = &self.session {
            request = request.header("authorization", format!("Bearer {session}"));
        }
        self.words(request.send(body))
    }

    fn words<T: DeserializeOwned>(
        &self,
        called: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, CtlError> {
        let (status, bytes) = self.answer(called)?;
        if status != 200 {
            return Err(refusal(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(|error| CtlError::Answer {
            server: self.server.clone(),
            fault: error.to_string(),
        })
    }

    fn answer(
        &self,
        called: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(u16, Vec<u8>), CtlError> {
        let failed = |source| CtlError::Network {
            server: self.server.clone(),
            source: Box::new(source),
        };
        let mut response = called.map_err(failed)?;
        let body = response.body_mut().with_config().limit(ANSWER_LEN_MAX);
        let bytes = body.read_to_vec().map_err(failed)?;
        Ok((response.status().as_u16(), bytes))
    }
}

/// Names are letters, digits and a few signs; what is not would be another path.
pub(super) fn segment(name: &str) -> String {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let spell = |byte: u8| {
        if fits(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    name.bytes().map(spell).collect()
}

fn refusal(status: u16, bytes: &[u8]) -> CtlError {
    match serde_json::from_slice::<Problem>(bytes) {
        Ok(problem) => CtlError::Refused {
            code: problem.code,
            detail: super::output::plain(&problem.detail),
        },
        Err(_) => CtlError::Refused {
            code: "no-problem".into(),
            detail: format!("status {status}, and no reason that can be read"),
        },
    }
}

fn unusable(path: &Path, fault: &str) -> CtlError {
    CtlError::Usage(format!("\"{}\" {fault}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, CtlError> {
    let pem = files::expect(path, PEM_LEN_MAX)?;
    let items = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = items.collect();
    if found.is_empty() {
        return Err(unusable(path, "holds no certificate"));
    }
    Ok(found)
}
