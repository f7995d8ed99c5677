//! Targets from elsewhere: one link to a host that the device's own configuration names
//! (docs/adr/0041).
//!
//! A server whose targets lie in a bucket may answer a request for one of them with a link there. What
//! comes of it is checked as if it came from the server: length, digests and blocks are signed.
//!
//! Invariants:
//! - Nobody asks for a link, and none is followed, without `[server.links]` in the configuration.
//! - A link is followed over HTTPS alone, to a host and port that stand there, under the authorities
//!   that stand there, and once: what is behind it sends nobody further.
//! - The device's certificate, a cookie, a name or a password go to no bucket: this client has none.
//! - A link opens what it leads to for whoever has it, so no error tells more of it than its host.
//! - What a link does not bring, the server is asked for the next time.

use ureq::http::{Response, Uri};
use ureq::{Agent, Body};

use super::NetError;

/// Hosts that a configuration may name.
pub const HOSTS_MAX: usize = 8;
/// Bytes of a link; those of S3 have some 500.
const LINK_LEN_MAX: usize = 4096;
/// Requests that go to the server without asking for a link, after one that failed.
const RESTS: u32 = 16;
/// The port of HTTPS where none is named.
const HTTPS_PORT: u16 = 443;

/// A host and port that links may lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkHost {
    /// In lower case.
    host: String,
    port: u16,
}

impl LinkHost {
    /// Reads `host` or `host:port`; `None` where it is anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // Read by what reads links: two readings of a host would be a way around this list.
        let uri: Uri = format!("https://{text}/").parse().ok()?;
        let is_bare = uri.authority()?.as_str() == text && uri.path() == "/";
        Self::of(&uri).filter(|_| is_bare && uri.query().is_none())
    }

    fn of(uri: &Uri) -> Option<Self> {
        let authority = uri.authority()?;
        let host = authority.host();
        // A name or a password in an address would be sent there.
        let is_good = uri.scheme_str() == Some("https")
            && !host.is_empty()
            && !authority.as_str().contains('@');
        let is_bare = authority.as_str() == host;
        let port = authority
            .port_u16()
            .or_else(|| is_bare.then_some(HTTPS_PORT))?;
        is_good.then(|| Self {
            host: host.to_ascii_lowercase(),
            port,
        })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl std::fmt::Display for LinkHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Follows links.
pub(super) struct Links {
    hosts: Vec<LinkHost>,
    /// A client without a certificate of its own, which follows nothing by itself.
    client: Agent,
    /// What was opened by a link last, and from where on.
    opened: Option<(String, u64)>,
    /// Requests that still go without asking.
    rests: u32,
}

impl Links {
    pub(super) fn new(hosts: Vec<LinkHost>, client: Agent) -> Self {
        Self {
            hosts,
            client,
            opened: None,
            rests: 0,
        }
    }

    /// Whether the next request, for `name` from `offset` on, asks for a link.
    pub(super) fn asks(&mut self, name: &str, offset: u64) -> bool {
        let opened = self.opened.take();
        if opened.is_some_and(|(last, from)| last == name && from == offset) {
            // It was opened, and nothing of it was of use.
            self.rests = RESTS;
        }
        let asks = self.rests == 0;
        self.rests = self.rests.saturating_sub(1);
        asks
    }

    /// Opens what a link leads to, with the range that the server was asked for.
    pub(super) fn follow(
        &mut self,
        link: Option<&str>,
        (name, offset): (&str, u64),
        range: Option<&str>,
    ) -> Result<Response<Body>, NetError> {
        let found = self.open(link.unwrap_or_default(), range);
        match &found {
            Ok(_) => self.opened = Some((name.to_owned(), offset)),
            Err(_) => self.rests = RESTS,
        }
        found
    }

    fn open(&self, link: &str, range: Option<&str>) -> Result<Response<Body>, NetError> {
        let refused = |what: String| NetError::new("link-refused", what);
        let uri = Some(link).filter(|link| link.len() <= LINK_LEN_MAX);
        let uri = uri.and_then(|link| link.parse::<Uri>().ok());
        let host = uri.as_ref().and_then(LinkHost::of);
        let (Some(uri), Some(host)) = (uri, host) else {
            let what = "the server's link is no address under HTTPS";
            return Err(refused(what.to_owned()));
        };
        if !self.hosts.contains(&host) {
            let what = format!(
                "the server's link leads to \"{host}\", which \"server.links.hosts\" does not name"
            );
            return Err(refused(what));
        }
        let mut request = self.client.get(uri).header("accept-encoding", "identity");
        if let Some(range) = range {
            request = request.header("range", range);
        }
        let failed = |what: String| NetError::new("link-failed", what);
        let answered = request.call().map_err(|error| {
            let error = NetError::of_ureq(error);
            failed(format!("\"{host}\" cannot be read: {error}"))
        })?;
        match answered.status().as_u16() {
            200 | 206 => Ok(answered),
            status => Err(failed(format!("\"{host}\" answered {status}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::LinkHost;

    fn read(text: &str) -> Option<String> {
        LinkHost::parse(text).map(|host| host.to_string())
    }

    #[test]
    fn a_host_is_a_host_and_a_port() {
        assert_eq!(
            read("Bucket.example.org").as_deref(),
            Some("bucket.example.org:443")
        );
        assert_eq!(read("bucket:9000").as_deref(), Some("bucket:9000"));
        assert_eq!(read("[::1]:9000").as_deref(), Some("[::1]:9000"));
        for bad in [
            "",
            ":443",
            "bucket:",
            "bucket:65536",
            "bucket/fleet",
            "bucket?x",
            "bucket#x",
            "name@bucket",
            "name:word@bucket:443",
            "https://bucket",
            "*.example.org:x",
            "bucket example",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    /// Meant to catch: a host that is looked for anywhere in a link; a name and a password in it.
    #[test]
    fn a_link_leads_where_its_host_says() {
        let of = |link: &str| {
            let uri = link.parse().ok()?;
            LinkHost::of(&uri).map(|host| host.to_string())
        };
        assert_eq!(
            of("https://BUCKET.example/a?b=https://other/").as_deref(),
            Some("bucket.example:443")
        );
        assert_eq!(
            of("https://bucket.example.other/").as_deref(),
            Some("bucket.example.other:443")
        );
        for bad in [
            "http://bucket.example/",
            "https://bucket.example@other/",
            "https://bucket.example:443@other:443/",
            "ftp://bucket.example/",
            "//bucket.example/",
            "/bucket.example/",
            "bucket.example",
            "https://",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
