//! Content of remote environments: the fetcher of a remote catalog, and prefetching.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use crate::rcc::digest::Digest;
use crate::remote::checks::CheckTable;
use crate::remote::lazy;
use crate::remote::line::{Line, Order};
use crate::store::index::{Index, NodeKind};
use crate::store::observe::Observer;
use crate::store::pieces::{Checks, pieces};
use crate::store::{Library, Store, Supplier, Wanted};
use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;

use super::context::Context;
use super::error::{SessionError, Tried as _};

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
        log: Option<&Place>,
        observer: Arc<dyn Observer>,
    ) -> Result<Supplied, SessionError> {
        let Some(origin) = lazy::origin(&self.home, catalog) else {
            return Ok(Supplied { store: self.store(observer)?, line: None });
        };
        let path = self.home.library();
        crate::sys::fs::shared::ensure_dir(&path, self.home.is_shared())
            .tried_with(|| format!("Cannot create {}", path.display()))?;
        let store = self.store_over(Library::open(&path)?, Arc::clone(&observer));
        let checks = lazy::checks(&self.home, &origin.head)?;
        let partial = lazy::partial(&self.home, &origin.head);
        partial.ensure().tried_with(|| format!("Cannot create {}", partial.display()))?;
        if self.given.offline {
            let store = store.with_supplier(Arc::new(NoNetwork(checks)), Some(partial));
            return Ok(Supplied { store: Arc::new(store), line: None });
        }
        let mut command = self.this_program()?;
        command.arg("fetch");
        if let Some(log) = log {
            let log = log.in_dir(OwnedDir::open_to_append);
            command.stderr(log.map_or_else(|_| Stdio::null(), Stdio::from));
        }
        let order = Order {
            address: origin.address,
            state: lazy::state(&self.home, &origin.head),
            head: origin.head,
            fetch_timeout: self.given.fetch_timeout,
        };
        let line =
            Arc::new(Line::start(command, &order, checks, observer).tried("Cannot start the fetcher")?);
        let store = store.with_supplier(Arc::clone(&line) as Arc<dyn Supplier>, Some(partial));
        Ok(Supplied { store: Arc::new(store), line: Some(line) })
    }
}

/// Answers requests when the network must not be used.
struct NoNetwork(CheckTable);

impl Supplier for NoNetwork {
    fn checks(&self, digest: &Digest) -> Option<Checks> {
        self.0.get(digest)
    }

    fn supply(&self, _: &Wanted, _: &[u64], _: &mut dyn FnMut(u64, &[u8])) -> std::io::Result<()> {
        Err(std::io::Error::other("it is not on this machine, and --offline forbids network access"))
    }
}

/// The directory that a daemon of the catalog writes to, apart from its space and the raw store: that of partially fetched large
/// files.
pub fn writes(context: &Context, catalog: &Path) -> Option<PathBuf> {
    let origin = lazy::origin(&context.home, catalog)?;
    Some(lazy::partial(&context.home, &origin.head).path().to_owned())
}

/// Each content of the catalog once, with one of its modes.
fn contents(index: &Index) -> HashMap<Digest, Wanted> {
    let files = index.nodes().filter_map(|node| match node.kind {
        NodeKind::File(file) if file.size > 0 => Some((file.digest, Wanted::of(&file, node.mode))),
        _ => None,
    });
    files.collect()
}

/// Selects what runs read first, from the profile that came with the environment.
pub fn ahead(context: &Context, catalog: &Path, index: &Index) -> Vec<(Wanted, u64)> {
    let Some(origin) = lazy::origin(&context.home, catalog) else { return Vec::new() };
    let profile = lazy::profile(&context.home, &origin.head);
    if profile.is_empty() {
        return Vec::new();
    }
    let contents = contents(index);
    let known = |(digest, piece): &(Digest, u64)| {
        contents.get(digest).filter(|wanted| *piece < pieces(wanted.size)).map(|wanted| (*wanted, *piece))
    };
    profile.iter().filter_map(known).collect()
}

/// Fetches all content, for work that needs everything.
pub fn everything(line: Option<&Arc<Line>>, index: &Index, store: &Store) {
    let Some(line) = line else { return };
    let wanted = all(index);
    let came = line.prefetch(&wanted, store);
    log::info!("{came} of {} pieces were fetched ahead", wanted.len());
}

/// Every piece of every content.
pub fn all(index: &Index) -> Vec<(Wanted, u64)> {
    let all_of = |wanted: Wanted| (0..pieces(wanted.size)).map(move |piece| (wanted, piece));
    contents(index).into_values().flat_map(all_of).collect()
}
