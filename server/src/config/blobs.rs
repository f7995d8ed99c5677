//! `[blobs]`: the bucket that holds the published tree.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::database::{client, is_loopback};
use super::reader::Section;
use crate::blob::Bucket;
use crate::file;

/// Bytes of a credentials file.
const CREDENTIALS_LEN_MAX: u64 = 4096;
/// A link may be passed on, and a revoked device still has its last one: it must not hold long.
const LINK_SECS_MAX: u64 = 900;

/// `[blobs]`: targets come from a bucket, metadata is brought from there into the tree.
#[derive(Debug, Clone)]
pub struct Blobs {
    /// Where it is.
    pub bucket: Bucket,
    /// How often its metadata is looked at.
    pub poll: Duration,
}

/// `credentials`, a TOML file of two lines.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credentials {
    access_key: String,
    secret_key: String,
}

impl Blobs {
    pub(super) fn read(from: &mut Section<'_, '_>) -> Self {
        let endpoint = from.string("endpoint").unwrap_or_default().to_owned();
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let tls = from.has("ca").then(|| {
            let path = from.existing_file("ca");
            client(&path)
        });
        if let Some(None) = tls {
            from.fault("ca", "holds no certificate of an authority");
        }
        let tls = tls.flatten().map(std::sync::Arc::new);
        match endpoint.split_once("://") {
            Some(("https", _)) if tls.is_none() => {
                let what =
                    "is reached over TLS, so ca must name the authorities of its certificate";
                from.fault("endpoint", what);
            }
            Some(("https", _)) => {}
            Some(("http", rest)) if is_loopback(host(rest)) && tls.is_none() => {}
            Some(("http", _)) => {
                let what = "is plain http, which is taken on this machine only, and without ca";
                from.fault("endpoint", what);
            }
            _ if endpoint.is_empty() => {}
            _ => from.fault("endpoint", "is not like \"https://s3.example.org\""),
        }
        let (access_key, secret_key) = credentials(from);
        let prefix = from.has("prefix").then(|| from.string("prefix")).flatten();
        let link_secs = from.number("link_secs", 0, 0, LINK_SECS_MAX);
        let region = from.has("region").then(|| from.string("region")).flatten();
        Self {
            bucket: Bucket {
                endpoint,
                name: from.string("bucket").unwrap_or_default().to_owned(),
                region: region.unwrap_or("us-east-1").to_owned(),
                prefix: prefix.unwrap_or_default().trim_matches('/').to_owned(),
                access_key,
                secret_key,
                tls,
                link_for: (link_secs > 0).then(|| Duration::from_secs(link_secs)),
            },
            poll: from.secs("poll_secs", 10, 1, 3600),
        }
    }
}

fn host(rest: &str) -> &str {
    let authority = rest.split('/').next().unwrap_or_default();
    let without_port = authority
        .rsplit_once(':')
        .map_or(authority, |(host, _)| host);
    without_port.trim_matches(['[', ']'])
}

fn credentials(from: &mut Section<'_, '_>) -> (String, Zeroizing<String>) {
    let path = from.existing_file("credentials");
    let read = |path: &Path| {
        let text = Zeroizing::new(file::read_text(path, CREDENTIALS_LEN_MAX).ok()?);
        toml::from_str::<Credentials>(&text).ok()
    };
    if let Some(found) = read(&path) {
        return (found.access_key, Zeroizing::new(found.secret_key));
    }
    if path.is_file() {
        let what = "is not two lines: access_key = \"…\" and secret_key = \"…\"";
        from.fault("credentials", what);
    }
    (String::new(), Zeroizing::default())
}
