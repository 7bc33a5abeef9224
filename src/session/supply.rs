//! Content of remote environments: the fetcher of a remote catalog, and prefetching.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::Context as _;

use crate::rcc::digest::Digest;
use crate::remote::lazy;
use crate::remote::line::{Line, Order};
use crate::store::index::{Index, NodeKind};
use crate::store::observe::Observer;
use crate::store::{Library, Store, Supplier, Supply, Wanted};

use super::context::Context;

/// A store and, for a remote catalog, the connection to its fetcher.
pub struct Supplied {
    /// The store.
    pub store: Arc<Store>,
    /// The connection, which the store uses too.
    pub line: Option<Arc<Line>>,
}

impl Context {
    /// The store for the catalog at `catalog`; for a remote one, it fetches missing content, and the fetcher logs to `log`.
    pub fn store_of(
        &self,
        catalog: &Path,
        log: Option<&Path>,
        observer: Arc<dyn Observer>,
    ) -> anyhow::Result<Supplied> {
        let Some(origin) = lazy::origin(&self.home, catalog) else {
            return Ok(Supplied { store: self.store(observer)?, line: None });
        };
        let path = self.home.library();
        crate::sys::fs::shared::ensure_dir(&path, self.home.is_shared())
            .with_context(|| format!("Cannot make {}", path.display()))?;
        let store = self.store_over(Library::open(&path)?, Arc::clone(&observer));
        if self.given.offline {
            let store = store.with_supplier(Arc::new(NoNetwork));
            return Ok(Supplied { store: Arc::new(store), line: None });
        }
        let mut command = self.this_program()?;
        command.arg("fetch");
        if let Some(log) = log {
            let log = OpenOptions::new().create(true).append(true).open(log);
            command.stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
        }
        let order = Order {
            address: origin.address,
            state: lazy::state(&self.home, &origin.head),
            head: origin.head,
            fetch_timeout: self.given.fetch_timeout,
        };
        let line = Arc::new(Line::start(command, &order, observer).context("Cannot start the fetcher")?);
        let store = store.with_supplier(Arc::clone(&line) as Arc<dyn Supplier>);
        Ok(Supplied { store: Arc::new(store), line: Some(line) })
    }
}

/// Answers requests when the network must not be used.
struct NoNetwork;

impl Supplier for NoNetwork {
    fn supply(&self, _: &Wanted) -> std::io::Result<Supply> {
        Err(std::io::Error::other("it is not on this machine, and the network is not to be used (--offline)"))
    }
}

/// Each content of the catalog once, with one of its modes.
fn contents(index: &Index) -> HashMap<Digest, Wanted> {
    let files = index.nodes().filter_map(|node| match node.kind {
        NodeKind::File(file) if file.size > 0 => {
            Some((file.digest, Wanted { digest: file.digest, size: file.size, mode: node.mode }))
        }
        _ => None,
    });
    files.collect()
}

/// Selects what runs read first, from the profile that came with the environment.
pub fn ahead(context: &Context, catalog: &Path, index: &Index) -> Vec<Wanted> {
    let Some(origin) = lazy::origin(&context.home, catalog) else { return Vec::new() };
    let profile = lazy::profile(&context.home, &origin.head);
    if profile.is_empty() {
        return Vec::new();
    }
    let contents = contents(index);
    profile.iter().filter_map(|digest| contents.get(digest).copied()).collect()
}

/// Fetches all content, for work that needs everything.
pub fn everything(line: Option<&Arc<Line>>, index: &Index, store: &Store) {
    let Some(line) = line else { return };
    let wanted: Vec<Wanted> = contents(index).into_values().filter(|wanted| lacks(store, wanted)).collect();
    let came = line.prefetch(&wanted, store);
    log::info!("{came} of {} contents were fetched ahead", wanted.len());
}

fn lacks(store: &Store, wanted: &Wanted) -> bool {
    !store.library().exists(&wanted.digest)
}
