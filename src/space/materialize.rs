//! Materialize: lays a catalog out as files, the same tree that RCC's restore creates.
//!
//! ```text
//! locks ▸ walk: what is there, planned per directory ▸ execute: remove, make, replace ▸ .meta and marks of use
//!                                 pristine: the catalog laid out once ──┘ snapshot ▸ reflink ▸ hardlink ▸ copy
//! ```
//! Invariants:
//! - A file is complete, verified and relocated before it gets its name. A new space is built as `<label>.holofs-tmp` and renamed
//!   once; in an existing space every file is replaced by a rename.
//! - Nothing is created, removed or opened through a link: see [`crate::sys::fs::at`].
//! - `.meta` is written last, and only if every file is as it should be. A run that ends early, at any point, leaves a mark next to
//!   the old `.meta`, which makes the next run read the content of every file.
//! - A directory to remove is set aside by a rename; the caller starts its deletion when no command waits for that: see [`sweep`].
//!
//! It deliberately does not sync (after a power cut the next run repairs), and does not change directory modes (like RCC).

mod checksummed;
mod content_check;
mod differences;
mod execute;
pub mod health;
mod listed;
mod make_pristine;
mod place;
mod plan;
mod pristine;
pub mod probe;
mod records;
mod report;
mod run;
mod tier;
#[cfg_attr(windows, path = "materialize/windows/trash.rs")]
mod trash;
mod walk;
mod warm;

use std::borrow::Cow;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::{Class, Failure, counted};
use crate::rcc::catalog::CatalogError;
use crate::rcc::home::Home;
use crate::space::{Space, SpaceError, Wait, Waiting};
use crate::store::Store;
use crate::store::index::Index;
use crate::store::observe::{Observer, Tally};
use crate::sys::fs::name::RelPath;

pub use self::differences::{Difference, differences, is_changed};
pub use self::plan::{DirPlan, Rules};
pub use self::pristine::{Bounds, trim};
use self::report::Counting;
pub use self::report::{FileError, FileErrorKind, MaterializeReport, Seconds};
use self::run::{Clock, Run};
pub use self::tier::{Strategy, Tier, UnknownStrategy};
pub use self::trash::{Other, set_aside, sweep, trash_in};
pub use self::walk::Plan;
pub use self::warm::{WarmedTree, warm};

/// What to materialize, where, and from what.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The locations.
    pub home: &'a Home,
    /// The catalog's file: read for `.meta` if anything changes, and touched.
    pub catalog_path: &'a Path,
    /// The same catalog, compiled.
    pub index: &'a Index,
    /// The source of the content, from whose raw store reflinks and hard links are made.
    pub content: &'a Store,
    /// The space.
    pub space: &'a Space,
    /// In an existing space, only these paths and what is below them are changed; if empty, everything is.
    pub only: &'a [RelPath],
}

impl<'a> Job<'a> {
    /// A job for the whole space, whose content comes from `store`.
    pub fn new(
        home: &'a Home,
        catalog_path: &'a Path,
        index: &'a Index,
        store: &'a Store,
        space: &'a Space,
    ) -> Job<'a> {
        Job { home, catalog_path, index, content: store, space, only: &[] }
    }
}

/// How to materialize.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How files get their content.
    pub strategy: Strategy,
    /// Read the content of files that look right.
    pub verify: bool,
    /// As root, give files the setuid and setgid bits of the catalog.
    pub allow_setuid: bool,
    /// How long to wait for RCC's lock.
    pub wait: Wait,
    /// Create the pristine tree now if there is none: the next new space of this catalog is created from it.
    pub warm: bool,
    /// Number of threads; by default the number of processors, up to eight.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Options {
    fn default() -> Options {
        let strategy = Strategy::Auto;
        Options {
            strategy,
            verify: false,
            allow_setuid: false,
            wait: Wait::Forever,
            warm: false,
            threads: None,
        }
    }
}

/// Why a space was not materialized.
#[derive(Debug, thiserror::Error)]
pub enum MaterializeError {
    /// The space cannot be used.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// The catalog cannot be read any more.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The catalog was replaced since it was compiled.
    #[error("The catalog {} changed in the meantime", path.display())]
    CatalogChanged {
        /// The catalog's file.
        path: PathBuf,
    },
    /// A space of this catalog cannot be in this base.
    #[error("Spaces of this catalog live in {}, not in {}", catalog.display(), space.display())]
    OtherBase {
        /// The catalog's base.
        catalog: PathBuf,
        /// The space's.
        space: PathBuf,
    },
    /// The space's path is not a directory.
    #[error("{} is in the way: it is not a directory", root.display())]
    Obstructed {
        /// The space.
        root: PathBuf,
    },
    /// A system call failed.
    #[error("{doing} {} failed", path.display())]
    Io {
        /// The operation.
        doing: &'static str,
        /// The path it was on.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Some files could not be placed: a new space was not created, an existing one is unfinished.
    #[error("{} of {} could not be placed, the first: {}", counted(report.errors.len(), "file"), report.space.display(), first(report))]
    Incomplete {
        /// What was done, and which files failed.
        report: Box<MaterializeReport>,
    },
}

impl Failure for MaterializeError {
    fn class(&self) -> Option<Class> {
        match self {
            MaterializeError::Space(error) => error.class(),
            MaterializeError::Catalog(error) => error.class(),
            MaterializeError::Incomplete { report } => Some(report.class()),
            MaterializeError::CatalogChanged { .. }
            | MaterializeError::OtherBase { .. }
            | MaterializeError::Obstructed { .. }
            | MaterializeError::Io { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            MaterializeError::Space(error) => error.hint(),
            MaterializeError::Catalog(error) => error.hint(),
            MaterializeError::CatalogChanged { .. } => Some("try again".into()),
            MaterializeError::Obstructed { .. } => Some("move it away".into()),
            MaterializeError::Incomplete { report } => report.hint().map(Cow::from),
            MaterializeError::OtherBase { .. } | MaterializeError::Io { .. } => None,
        }
    }
}

fn first(report: &MaterializeReport) -> String {
    report.errors.first().map(FileError::to_string).unwrap_or_default()
}

/// Makes the space match the catalog. `on_wait` is called once if another process holds the space for more than a moment.
pub fn materialize(
    job: &Job<'_>,
    options: &Options,
    observer: &dyn Observer,
    on_wait: &dyn Fn(&Waiting<'_>),
) -> Result<MaterializeReport, MaterializeError> {
    let Job { space, index, .. } = job;
    if index.base() != space.base {
        return Err(MaterializeError::OtherBase {
            catalog: index.base().to_owned(),
            space: space.base.clone(),
        });
    }
    let started = Instant::now();
    let _live = space.go_live()?;
    let _lock = space.lock(options.wait, on_wait)?;
    space.refuse_mounted()?;
    space.refuse_foreign()?;
    let observer = Counting { tally: Tally::new(), outer: observer };
    let run = Run { job, options, observer: &observer };
    let mut clock = Clock { seconds: Seconds::default(), last: started };
    clock.seconds.wait = clock.lap();
    space.journal_use(job.catalog_path, index.blueprint());
    let pool = pool(options.threads).map_err(run.io("Starting threads for", &space.root))?;
    let outcome = pool.install(|| run.run(&mut clock))?;
    clock.seconds.total = started.elapsed().as_secs_f64();
    run.conclude(outcome, clock.seconds)
}

/// The maximum number of threads. More threads only wait for each other: with 9,999 of them, a restore of two seconds took 130.
const MOST_THREADS: usize = 64;

fn pool(threads: Option<NonZeroUsize>) -> io::Result<rayon::ThreadPool> {
    let threads = threads.or_else(default_threads).map_or(2, NonZeroUsize::get).min(MOST_THREADS);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().map_err(io::Error::other)
}

fn default_threads() -> Option<NonZeroUsize> {
    let most = NonZeroUsize::new(8)?;
    std::thread::available_parallelism().ok().map(|count| count.min(most))
}
