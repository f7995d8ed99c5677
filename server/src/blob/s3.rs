//! Blobs in a bucket of a store that speaks S3, through `object_store`.
//!
//! The crate signs requests and reads answers; [`client`] carries them over our own TLS. A request
//! that fails is tried again a few times within seconds: behind a read waits a device, and its own
//! patience is what decides.

mod client;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::buffered::BufWriter;
use object_store::signer::Signer as _;
use object_store::{
    BackoffConfig, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt as _, RetryConfig, path,
};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use zeroize::Zeroizing;

use super::{BlobError, BlobStore, Chunks, Key, LISTED_MAX, Later};
use client::Connector;

/// Bytes of one part of an upload; what is shorter goes in one piece.
const PART_LEN: usize = 8 << 20;
/// Parts on their way at once: with their buffers they bound the memory of an upload.
const PARTS_MAX: usize = 2;
/// Tries after the first.
const RETRIES_MAX: usize = 4;
/// For all tries of one request.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Which bucket, and how it is reached.
#[derive(Clone)]
pub struct Bucket {
    /// `https://host:port`; plain `http` on this machine only.
    pub endpoint: String,
    /// Its name.
    pub name: String,
    /// The region that requests are signed for.
    pub region: String,
    /// A folder within it, without slashes at its ends; empty for none.
    pub prefix: String,
    /// Who asks.
    pub access_key: String,
    /// Their secret.
    pub secret_key: Zeroizing<String>,
    /// The authorities of the store's certificate; nothing for plain `http`.
    pub tls: Option<Arc<ClientConfig>>,
    /// For how long a link holds; nothing where none is given away.
    pub link_for: Option<Duration>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("endpoint", &self.endpoint)
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// A bucket.
#[derive(Debug)]
pub struct S3 {
    store: Arc<AmazonS3>,
    prefix: String,
    link_for: Option<Duration>,
}

impl S3 {
    /// Gets ready to speak to it; does not connect yet.
    ///
    /// # Errors
    /// The configuration makes no sense to `object_store`.
    pub fn new(bucket: &Bucket) -> Result<Self, BlobError> {
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES_MAX,
            retry_timeout: RETRY_TIMEOUT,
        };
        let store = AmazonS3Builder::new()
            .with_endpoint(&bucket.endpoint)
            .with_allow_http(bucket.tls.is_none())
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region)
            .with_access_key_id(&bucket.access_key)
            .with_secret_access_key(bucket.secret_key.as_str())
            .with_retry(retry)
            .with_http_connector(Connector::new(bucket.tls.clone()))
            .build()
            .map_err(|error| BlobError::Configuration(error.to_string()))?;
        Ok(Self {
            store: Arc::new(store),
            prefix: bucket.prefix.clone(),
            link_for: bucket.link_for,
        })
    }

    fn path(&self, name: &str) -> Result<path::Path, BlobError> {
        let full = match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        path::Path::parse(full).map_err(BlobError::store("name", name))
    }

    async fn upload(&self, key: &Key, from: &Path) -> Result<(), BlobError> {
        let opened = tokio::fs::File::open(from).await;
        let mut file = opened.map_err(BlobError::file("read", from))?;
        let store: Arc<dyn ObjectStore> = self.store.clone();
        let mut writer = BufWriter::with_capacity(store, self.path(key.as_str())?, PART_LEN)
            .with_max_concurrency(PARTS_MAX);
        let mut piece = vec![0; 256 << 10];
        loop {
            let read = file.read(&mut piece).await;
            let count = read.map_err(BlobError::file("read", from))?;
            let written = match count {
                0 => break,
                count => writer.write_all(&piece[..count]).await,
            };
            if let Err(error) = written {
                // Parts that were sent are thrown away; where that fails, the store's own rules do.
                let _ = writer.abort().await;
                return Err(BlobError::store("write", key.as_str())(error));
            }
        }
        let done = writer.shutdown().await;
        done.map_err(BlobError::store("write", key.as_str()))
    }
}

impl BlobStore for S3 {
    fn local(&self) -> Option<&Path> {
        None
    }

    fn length<'a>(&'a self, key: &'a Key) -> Later<'a, Option<u64>> {
        Box::pin(async move {
            match self.store.head(&self.path(key.as_str())?).await {
                Ok(meta) => Ok(Some(meta.size)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(BlobError::store("look at", key.as_str())(error)),
            }
        })
    }

    fn read<'a>(&'a self, key: &'a Key, from: u64, to: u64) -> Later<'a, Chunks> {
        Box::pin(async move {
            let options = GetOptions {
                range: Some(GetRange::Bounded(from..to)),
                ..GetOptions::default()
            };
            let path = self.path(key.as_str())?;
            let got = self.store.get_opts(&path, options).await;
            let got = got.map_err(BlobError::store("read", key.as_str()))?;
            if got.range != (from..to) {
                let what = format!("{key:?} came from {} to {}", got.range.start, got.range.end);
                return Err(BlobError::Tree(what));
            }
            let chunks: Chunks = Box::pin(got.into_stream().map_err(std::io::Error::other));
            Ok(chunks)
        })
    }

    fn write<'a>(&'a self, key: &'a Key, path: &'a Path) -> Later<'a, ()> {
        Box::pin(self.upload(key, path))
    }

    fn list<'a>(&'a self, folder: &'a str) -> Later<'a, Vec<(Key, u64)>> {
        Box::pin(async move {
            let path = self.path(folder)?;
            let below = match self.prefix.as_str() {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            };
            let mut entries = self.store.list(Some(&path));
            let mut found = Vec::new();
            while let Some(entry) = entries.next().await {
                let entry = entry.map_err(BlobError::store("list", folder))?;
                let name = entry.location.as_ref().strip_prefix(&below);
                found.extend(name.and_then(Key::parse).map(|key| (key, entry.size)));
                if found.len() > LISTED_MAX {
                    let what = format!("{folder:?} has more than {LISTED_MAX} files");
                    return Err(BlobError::Tree(what));
                }
            }
            found.sort();
            Ok(found)
        })
    }

    fn link<'a>(&'a self, key: &'a Key) -> Later<'a, Option<String>> {
        Box::pin(async move {
            let Some(link_for) = self.link_for else {
                return Ok(None);
            };
            let path = self.path(key.as_str())?;
            let method = hyper::Method::GET;
            let link = self.store.signed_url(method, &path, link_for).await;
            let link = link.map_err(BlobError::store("make a link to", key.as_str()))?;
            Ok(Some(link.into()))
        })
    }
}
