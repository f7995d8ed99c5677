//! Drives the conversations of `ampoule_protocol::client` over the store and the fetch port.

use ampoule_protocol::client::{Answer, Find, Refresh, Releases, Search, Step, Trusted};
use ampoule_protocol::error::{Coded, Guilty};
use ampoule_protocol::limits::Lengths;
use ampoule_protocol::name::{ProductName, TargetPath};
use ampoule_protocol::trust::{TrustError, TrustedTarget, UpdateStart};

use super::{MetadataStore, StoreError};
use crate::net::NetError;
use crate::ports::Fetch;

/// A refresh or lookup that did not end.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// Something is not believed.
    #[error("the repository is not believed")]
    Trust(#[from] TrustError),
    /// Nothing, or nonsense, came over the wire.
    #[error("failed to fetch \"{file}\"")]
    Network {
        /// The file.
        file: String,
        /// Why.
        source: NetError,
    },
    /// The store failed.
    #[error("the device cannot keep metadata")]
    Store(#[from] StoreError),
    /// The device was never given a root.
    #[error("there is no trusted root on this device")]
    NoRoot,
}

impl Coded for UpdateError {
    fn code(&self) -> &'static str {
        match self {
            Self::Trust(error) => error.code(),
            // More than the bound is the endless data attack, not a weak network.
            Self::Network { source, .. } => source.code(),
            Self::Store(error) => error.code(),
            Self::NoRoot => "no-trusted-root",
        }
    }

    fn guilty(&self) -> Guilty {
        match self {
            Self::Trust(error) => error.guilty(),
            Self::Network { source, .. } => source.guilty(),
            Self::Store(error) => error.guilty(),
            Self::NoRoot => Guilty::Operator,
        }
    }
}

impl UpdateError {
    /// Whether nothing came, rather than something that is not believed.
    pub fn is_network(&self) -> bool {
        matches!(self, Self::Network { .. }) && self.guilty() == Guilty::Network
    }

    /// Seconds that the server asked to wait.
    pub fn retry_after_secs(&self) -> Option<u64> {
        match self {
            Self::Network { source, .. } => source.retry_after_secs,
            _ => None,
        }
    }
}

/// Refreshes and looks up, with everything durable before the next request.
pub struct Updater<'a> {
    store: &'a MetadataStore,
    fetch: &'a mut dyn Fetch,
    lengths: Lengths,
}

impl<'a> Updater<'a> {
    /// Over this store and this way to fetch.
    pub fn new(store: &'a MetadataStore, fetch: &'a mut dyn Fetch, lengths: Lengths) -> Self {
        Self {
            store,
            fetch,
            lengths,
        }
    }

    /// Refreshes the four top-level roles (TUF 1.0.34 section 5).
    ///
    /// # Errors
    /// See [`UpdateError`]; what was stored stays trusted.
    pub fn refresh(&mut self, start: UpdateStart) -> Result<Trusted, UpdateError> {
        let root = self.store.root()?.ok_or(UpdateError::NoRoot)?;
        let source = self.fetch.source();
        let mut refresh = Refresh::begin_from(source, &root, start, self.lengths)?;
        loop {
            match self.turn(refresh.step()?)? {
                Turn::Bytes(bytes) => refresh.answer(Answer::Bytes(&bytes))?,
                Turn::NotFound => refresh.answer(Answer::NotFound)?,
                Turn::Stored => refresh.answer(Answer::Stored)?,
                Turn::Done => break,
            }
        }
        refresh
            .finish()
            .ok_or(UpdateError::Trust(TrustError::OutOfTurn))
    }

    /// Looks for one target.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub fn find(
        &mut self,
        trusted: &mut Trusted,
        path: TargetPath,
    ) -> Result<Option<TrustedTarget>, UpdateError> {
        let mut find = Find::new(path);
        self.search(trusted, &mut find)?;
        Ok(find.found().cloned())
    }

    /// The release targets of a product.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub fn releases(
        &mut self,
        trusted: &mut Trusted,
        product: ProductName,
    ) -> Result<Vec<TrustedTarget>, UpdateError> {
        Ok(self.listed(trusted, product)?.0)
    }

    /// The release targets of a product, and its downgrade records.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub fn listed(
        &mut self,
        trusted: &mut Trusted,
        product: ProductName,
    ) -> Result<(Vec<TrustedTarget>, Vec<TrustedTarget>), UpdateError> {
        let mut releases = Releases::new(product);
        self.search(trusted, &mut releases)?;
        Ok((releases.found(trusted), releases.downgrades(trusted)))
    }

    fn search(
        &mut self,
        trusted: &mut Trusted,
        search: &mut dyn Search,
    ) -> Result<(), UpdateError> {
        loop {
            match self.turn(search.step(trusted)?)? {
                Turn::Bytes(bytes) => search.answer(trusted, Answer::Bytes(&bytes))?,
                Turn::NotFound => search.answer(trusted, Answer::NotFound)?,
                Turn::Stored => search.answer(trusted, Answer::Stored)?,
                Turn::Done => return Ok(()),
            }
        }
    }

    fn turn(&mut self, step: Step) -> Result<Turn, UpdateError> {
        let found = match step {
            Step::Load(name) => self.store.load(&name)?,
            Step::Fetch(wanted) => {
                let fetched = self.fetch.fetch(&wanted.file, wanted.max_len);
                let file = wanted.file;
                fetched.map_err(|source| UpdateError::Network { file, source })?
            }
            Step::Store(name, bytes) => {
                self.store.store(&name, &bytes)?;
                return Ok(Turn::Stored);
            }
            Step::Done => return Ok(Turn::Done),
        };
        Ok(found.map_or(Turn::NotFound, Turn::Bytes))
    }
}

enum Turn {
    Bytes(Vec<u8>),
    NotFound,
    Stored,
    Done,
}
