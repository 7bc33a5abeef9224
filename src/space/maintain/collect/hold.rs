//! Determines what is in use, and by what.

use std::collections::HashSet;
use std::path::PathBuf;

use super::CollectError;
use crate::error::line;
use crate::rcc::catalog::{Catalog, CatalogId};
use crate::rcc::digest::Digest;
use crate::rcc::home::Home;
use crate::space::{MountState, Space};
use crate::store::index::{Index, NodeKind, index_path};
use crate::sys::fs::place::Place;

/// A space in use.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Lease {
    /// The path of its state.
    #[serde(serialize_with = "crate::sys::text::path")]
    pub state_dir: PathBuf,
    /// The space, if it is mounted.
    #[serde(serialize_with = "crate::sys::text::maybe_path")]
    pub mountpoint: Option<PathBuf>,
    /// The process, if it is mounted.
    pub pid: Option<u32>,
}

/// A remote environment with local state.
#[derive(Debug)]
pub(super) struct Remote {
    pub place: Place,
    pub catalog: Option<CatalogId>,
    pub is_used: bool,
}

/// Everything in use.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Digests that catalogs refer to.
    pub named: HashSet<Digest>,
    /// Digests of the mounted trees.
    pub leased: HashSet<Digest>,
    /// Catalogs that exist or are mounted.
    pub catalogs: HashSet<CatalogId>,
    /// Those that are mounted.
    pub mounted: HashSet<CatalogId>,
    /// Remote environments with local state.
    pub remotes: Vec<Remote>,
    /// Catalogs that cannot be read, so their digests are not known.
    pub unreadable: Vec<PathBuf>,
    /// A process is working on unknown entries.
    pub unknown: bool,
    pub leases: Vec<Lease>,
}

impl Holds {
    /// Examines every space and every catalog of the hololib.
    pub fn of(home: &Home) -> Result<Holds, CollectError> {
        let mut holds = Holds::default();
        // Spaces first: one that becomes live later finds its catalog in the list, or none.
        let spaces = home.spaces_dir();
        let dirs = spaces.entries().map_err(CollectError::io("Listing", spaces.path()))?;
        for state_dir in dirs.into_iter().filter(Space::may_be_live_in) {
            holds.lease(home, state_dir);
        }
        for path in home.catalogs()? {
            match Catalog::read(&path) {
                Ok((catalog, id)) => {
                    holds.catalogs.insert(id);
                    holds.named.extend(catalog.digests().map(|(digest, _)| *digest));
                }
                Err(error) => {
                    log::warn!("{}", line(&error));
                    holds.unreadable.push(path);
                }
            }
        }
        Ok(holds)
    }

    /// Records a live space. What the space uses is known only if it is mounted.
    fn lease(&mut self, home: &Home, state_dir: Place) {
        let state = MountState::read_in(&state_dir).ok().flatten().filter(|state| state.process.is_alive());
        let shown = state.as_ref().and_then(|state| state.catalog.parse::<CatalogId>().ok());
        let index =
            shown.and_then(|id| Some((id, Index::open(index_path(&home.index_dir(), &id), &id).ok()?)));
        match index {
            Some((id, index)) => {
                self.catalogs.insert(id);
                self.mounted.insert(id);
                self.leased.extend(digests(&index));
            }
            None => self.unknown = true,
        }
        self.leases.push(Lease {
            state_dir: state_dir.into(),
            pid: state.as_ref().map(|state| state.process.pid),
            mountpoint: state.map(|state| state.mountpoint),
        });
    }

    /// Why less is collected than possible.
    pub fn reasons(&self) -> Vec<String> {
        let unknown = self.unknown.then(|| {
            "Raw entries, indexes and blobs are kept: a running materialize or mount does not record what it uses".to_owned()
        });
        let unreadable = self.unreadable.iter().map(|path| {
            format!("Blobs are kept: {} cannot be read, and may name any of them", path.display())
        });
        unknown.into_iter().chain(unreadable).collect()
    }
}

fn digests(index: &Index) -> impl Iterator<Item = Digest> + '_ {
    (1..=index.len()).filter_map(|ino| match index.node(crate::store::index::Ino(ino))?.kind {
        NodeKind::File(file) => Some(file.digest),
        _ => None,
    })
}
