//! Materialize: a catalog laid out as files, the same tree that RCC's restore makes.
//!
//! ```text
//! locks ▸ walk: what is there, planned per directory ▸ execute: remove, make, replace ▸ .meta and marks of use
//! ```
//! What holds:
//! - A file is complete, verified and relocated before it has its name. A new space is built as `<label>.holofs-tmp` and
//!   renamed once; in a space that exists every file is replaced by a rename.
//! - Nothing is created, removed or opened through a link: see [`crate::sys::at`].
//! - `.meta` is written last, and only if every file is as it should be. A run that ends early, at any instant, leaves a
//!   mark beside the old `.meta`, and the next run then looks at the content of every file.
//!
//! What it deliberately does not do: sync (a power cut is repaired by the next run), or change directory modes (as RCC).

mod content;
mod execute;
mod place;
mod plan;
mod report;
mod tier;
mod walk;

use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::catalog::{Catalog, CatalogError};
use crate::home::Home;
use crate::name::{Name, OwnedName};
use crate::observe::{Counter, Observer, Tally};
use crate::relocate::Relocation;
use crate::space::{RestoredState, Space, SpaceError, Wait, Waiting};
use crate::store::{RawStore, Store};
use crate::sys::at::{self, FoundKind, TreeDir};
use crate::sys::process;
use crate::tree::{Index, Ino, NodeKind, index_path};

pub use self::content::{Content, Plain};
use self::place::{Placer, TempNames};
pub use self::plan::{DirPlan, Rules};
use self::report::{Counting, Errors};
pub use self::report::{FileError, FileErrorKind, Report, Seconds};
use self::tier::{Ladder, Pair};
pub use self::tier::{Strategy, Tier};
use self::walk::Plan;

/// What to materialize, where, and from what.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Where things are.
    pub home: &'a Home,
    /// The catalog's file: read for `.meta` if anything changes, and touched.
    pub catalog_path: &'a Path,
    /// The same catalog, compiled.
    pub index: &'a Index,
    /// Where the bytes come from.
    pub content: &'a dyn Content,
    /// The raw store's directory, for reflinks and hardlinks out of it.
    pub raw_dir: Option<&'a Path>,
    /// The space.
    pub space: &'a Space,
}

impl<'a> Job<'a> {
    /// The bytes come from `store`, which also says what can be linked to.
    pub fn new(
        home: &'a Home,
        catalog_path: &'a Path,
        index: &'a Index,
        store: &'a Store,
        space: &'a Space,
    ) -> Job<'a> {
        let raw_dir = store.raw().map(RawStore::path);
        Job { home, catalog_path, index, content: store, raw_dir, space }
    }
}

/// How to materialize.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How bytes get into place.
    pub strategy: Strategy,
    /// Read the content of files that seem right.
    pub verify: bool,
    /// As root, give files the setuid and setgid bits of the catalog.
    pub allow_setuid: bool,
    /// How long to wait for RCC's lock.
    pub wait: Wait,
    /// Threads; as many as there are processors, up to eight, if not said.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Options {
    fn default() -> Options {
        let strategy = Strategy::Auto;
        Options { strategy, verify: false, allow_setuid: false, wait: Wait::Forever, threads: None }
    }
}

/// Why a space was not materialized.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The space cannot be used.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// The catalog cannot be read any more.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Another catalog has taken its place since it was compiled.
    #[error("The catalog {} changed meanwhile; try again", path.display())]
    CatalogChanged {
        /// The catalog's file.
        path: PathBuf,
    },
    /// A space of this catalog cannot live there.
    #[error("Spaces of this catalog live in {}, not in {}", catalog.display(), space.display())]
    OtherBase {
        /// The catalog's base.
        catalog: PathBuf,
        /// The space's.
        space: PathBuf,
    },
    /// Something that is no directory stands where the space should be.
    #[error("{} is in the way: it is not a directory; move it away", root.display())]
    Obstructed {
        /// The space.
        root: PathBuf,
    },
    /// The operating system refused.
    #[error("{doing} {} failed", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Some files are not as they should be: a new space was not made, an old one is unfinished.
    #[error("{} files of {} could not be placed, the first: {}", report.errors.len(), report.space.display(), first(report))]
    Incomplete {
        /// What was done, and which files failed.
        report: Box<Report>,
    },
}

fn first(report: &Report) -> String {
    report.errors.first().map(FileError::to_string).unwrap_or_default()
}

/// Makes the space what the catalog says. `on_wait` is told once if somebody else holds the space for more than a moment.
pub fn materialize(
    job: &Job<'_>,
    options: &Options,
    observer: &dyn Observer,
    on_wait: &dyn Fn(&Waiting<'_>),
) -> Result<Report, RestoreError> {
    let Job { space, index, .. } = job;
    if index.base() != space.base {
        return Err(RestoreError::OtherBase { catalog: index.base().to_owned(), space: space.base.clone() });
    }
    let started = Instant::now();
    let _live = space.go_live()?;
    let _lock = space.lock(options.wait, on_wait)?;
    space.refuse_mounted()?;
    let observer = Counting { tally: Tally::new(), outer: observer };
    let run = Run { job, options, observer: &observer };
    let mut clock = Clock { seconds: Seconds::default(), last: started };
    clock.seconds.wait = clock.lap();
    space.journal_use(job.catalog_path, index.blueprint());
    let threads = options.threads.or_else(default_threads).map_or(2, NonZeroUsize::get);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| run.io("Starting threads for", &space.root)(io::Error::other(error)))?;
    let outcome = pool.install(|| run.run(&mut clock))?;
    clock.seconds.total = started.elapsed().as_secs_f64();
    run.conclude(outcome, clock.seconds)
}

fn default_threads() -> Option<NonZeroUsize> {
    let most = NonZeroUsize::new(8)?;
    std::thread::available_parallelism().ok().map(|count| count.min(most))
}

/// One run, between its locks.
struct Run<'a> {
    job: &'a Job<'a>,
    options: &'a Options,
    observer: &'a Counting<'a>,
}

/// Where the time goes.
struct Clock {
    seconds: Seconds,
    last: Instant,
}

impl Clock {
    /// Seconds since the last lap.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap: Duration = now - std::mem::replace(&mut self.last, now);
        lap.as_secs_f64()
    }
}

/// How the tree came out.
struct Outcome {
    is_new: bool,
    is_changed: bool,
    tier: Option<Tier>,
    errors: Vec<FileError>,
}

impl Run<'_> {
    fn run(&self, clock: &mut Clock) -> Result<Outcome, RestoreError> {
        let space = self.job.space;
        let base = TreeDir::open(&space.base).map_err(self.io("Opening", &space.base))?;
        let found = base.find(space.label.as_name()).map_err(self.io("Looking at", &space.root))?;
        match found {
            Some(FoundKind::Dir) => self.refresh(&base, clock),
            // As RCC: the link goes, what it points to stays.
            Some(FoundKind::Link(_)) => {
                base.remove(space.label.as_name()).map_err(self.io("Removing the link", &space.root))?;
                self.create(&base, clock)
            }
            Some(FoundKind::File { .. } | FoundKind::Other) => {
                Err(RestoreError::Obstructed { root: space.root.clone() })
            }
            None => self.create(&base, clock),
        }
    }

    /// Makes a space where there is none.
    fn create(&self, base: &TreeDir, clock: &mut Clock) -> Result<Outcome, RestoreError> {
        let (space, index) = (self.job.space, self.job.index);
        let catalog = self.catalog()?;
        let name = temp_name(space).map_err(self.io("Naming", &space.root))?;
        base.remove(name.as_name()).map_err(self.io("Removing the remains of", &space.root))?;
        let rules = self.rules(None, false);
        let errors = Errors::new(index);
        let placer = self.placer(&rules, &errors);
        clock.seconds.scan = clock.lap();
        self.observer.expect(count_entries(index, Ino::ROOT));
        let dir = base.make_dir(name.as_name()).map_err(self.io("Making", &space.root))?;
        placer.populate(dir, Ino::ROOT);
        clock.seconds.place = clock.lap();
        let errors = errors.take();
        if errors.is_empty() {
            // What it says would be taken for the records of the new space.
            space.remove_meta()?;
            let named = base.rename_new(name.as_name(), space.label.as_name());
            named.map_err(self.io("Naming", &space.root))?;
            self.record(Some(&catalog), clock)?;
        } else {
            base.remove(name.as_name()).map_err(self.io("Removing the remains of", &space.root))?;
        }
        Ok(Outcome { is_new: true, is_changed: errors.is_empty(), tier: Some(placer.ladder.now()), errors })
    }

    /// Brings a space that is there into order.
    fn refresh(&self, base: &TreeDir, clock: &mut Clock) -> Result<Outcome, RestoreError> {
        let (space, index) = (self.job.space, self.job.index);
        let old = self.old_records();
        let rules = self.rules(old.index(), self.options.verify || space.is_half_restored());
        let root = base.open_dir(space.label.as_name()).map_err(self.io("Opening", &space.root))?;
        let errors = Errors::new(index);
        let plan = walk::walk(&rules, root.reopen().map_err(self.io("Opening", &space.root))?, &errors);
        self.observer.count(Counter::Kept, plan.kept);
        clock.seconds.scan = clock.lap();
        let mut is_changed = false;
        let mut tier = None;
        let mut catalog = None;
        if !plan.is_idle() {
            catalog = Some(self.catalog()?);
            space.set_restoring(&index.id().to_string())?;
            let placer = self.placer(&rules, &errors);
            let before = self.changes();
            self.observer.expect(plan_steps(index, &plan));
            placer.repair(&root, plan.dirs);
            is_changed = self.changes() != before;
            tier = Some(placer.ladder.now());
        }
        clock.seconds.place = clock.lap();
        let errors = errors.take();
        if errors.is_empty() {
            let is_recorded = matches!(old, Old::Same) && !is_changed && !space.is_half_restored();
            if !is_recorded && catalog.is_none() {
                catalog = Some(self.catalog()?);
            }
            self.record(catalog.as_ref(), clock)?;
        }
        Ok(Outcome { is_new: false, is_changed, tier, errors })
    }

    /// Says that the catalog is there: `.meta` if there is one to write, then the marks of use.
    fn record(&self, meta: Option<&Catalog>, clock: &mut Clock) -> Result<(), RestoreError> {
        let Job { space, index, catalog_path, .. } = self.job;
        if let Some(catalog) = meta {
            space.write_meta(catalog)?;
            if let Some(meta) = space.meta_state() {
                space.set_restored_state(&RestoredState { catalog: index.id().to_string(), meta })?;
            }
        }
        space.mark_used(catalog_path, index.blueprint());
        clock.seconds.record = clock.lap();
        Ok(())
    }

    /// What the last restore put there.
    fn old_records(&self) -> Old {
        let Job { space, index, home, .. } = self.job;
        let remembered = space.restored_state().ok().flatten();
        if let Some(state) = remembered.filter(|state| Some(&state.meta) == space.meta_state().as_ref()) {
            if state.catalog == index.id().to_string() {
                return Old::Same;
            }
            let id = state.catalog.parse().ok();
            let known = id.and_then(|id| Index::open(&index_path(&home.index_dir(), &id), &id).ok());
            if let Some(old) = known {
                return Old::Known(Box::new(old));
            }
        }
        let Some(meta) = space.old_meta() else { return Old::Unknown };
        let compiled = Index::build(&meta.catalog, &meta.id).ok();
        match compiled.and_then(|bytes| Index::from_bytes(bytes).ok()) {
            Some(old) => Old::Known(Box::new(old)),
            None => Old::Unknown,
        }
    }

    /// Reads the catalog again, for its records: it must still be the one that was compiled.
    fn catalog(&self) -> Result<Catalog, RestoreError> {
        let path = self.job.catalog_path;
        let (catalog, id) = Catalog::read(path)?;
        if id != self.job.index.id() {
            return Err(RestoreError::CatalogChanged { path: path.to_owned() });
        }
        Ok(catalog)
    }

    fn rules<'r>(&'r self, old: Option<&'r Index>, verify: bool) -> Rules<'r> {
        let drops = process::is_root() && !self.options.allow_setuid;
        Rules { index: self.job.index, old, dropped_mode: if drops { 0o6000 } else { 0 }, verify }
    }

    fn placer<'r>(&'r self, rules: &'r Rules<'r>, errors: &'r Errors<'r>) -> Placer<'r> {
        let Job { space, home, raw_dir, content, index, .. } = *self.job;
        let pair = Pair { raw_dir, base: &space.base, is_shared: home.is_shared() };
        Placer {
            rules,
            content,
            relocation: Relocation { identity: index.identity(), label: space.label.as_bytes() },
            ladder: Ladder::choose(self.options.strategy, &pair, self.observer),
            errors,
            observer: self.observer,
            umask: at::umask(),
            names: TempNames::new(),
        }
    }

    /// How much was changed so far.
    fn changes(&self) -> u64 {
        use Counter::{Copied, Directories, Hardlinked, Links, Reflinked, Removed};
        let counted = [Copied, Directories, Hardlinked, Links, Reflinked, Removed];
        counted.iter().map(|&counter| self.observer.tally.get(counter)).sum()
    }

    fn conclude(&self, outcome: Outcome, seconds: Seconds) -> Result<Report, RestoreError> {
        let Job { space, index, .. } = self.job;
        let report = Report {
            space: space.root.clone(),
            label: space.label.to_string(),
            catalog: index.id().to_string(),
            blueprint: index.blueprint().to_owned(),
            is_new: outcome.is_new,
            is_changed: outcome.is_changed,
            strategy: outcome.tier.map_or("none", Tier::name),
            counts: self.observer.tally.counts(),
            fallbacks: self.observer.tally.fallbacks(),
            seconds,
            errors: outcome.errors,
        };
        match report.errors.is_empty() {
            true => Ok(report),
            false => Err(RestoreError::Incomplete { report: Box::new(report) }),
        }
    }

    fn io(&self, doing: &'static str, path: &Path) -> impl Fn(io::Error) -> RestoreError + use<> {
        let path = path.to_owned();
        move |source| RestoreError::Io { doing, path: path.clone(), source }
    }
}

/// What is known of the last restore.
enum Old {
    /// Nothing.
    Unknown,
    /// It was this very catalog.
    Same,
    /// It was this one.
    Known(Box<Index>),
}

impl Old {
    fn index(&self) -> Option<&Index> {
        if let Old::Known(index) = self { Some(index) } else { None }
    }
}

/// The name of a space in the making: longer than any label, so that nobody takes it for one.
fn temp_name(space: &Space) -> io::Result<OwnedName> {
    let name = format!("{}.holofs-tmp", space.label);
    Name::new(name.as_bytes()).map(Name::to_owned).map_err(io::Error::other)
}

/// Files and links below the directory `ino`.
fn count_entries(index: &Index, ino: Ino) -> u64 {
    let mut waiting = vec![ino];
    let mut count = 0;
    while let Some(dir) = waiting.pop() {
        for child in index.children(dir) {
            match child.kind {
                NodeKind::Dir { .. } => waiting.push(child.ino),
                NodeKind::File(_) | NodeKind::Link { .. } => count += 1,
            }
        }
    }
    count
}

/// Files and links that the plan places or reads.
fn plan_steps(index: &Index, plan: &Plan) -> u64 {
    let made = |dir: &DirPlan| dir.make.iter().map(|&ino| count_entries(index, ino)).sum::<u64>();
    plan.dirs.iter().map(|(_, dir)| made(dir) + (dir.place.len() + dir.verify.len()) as u64).sum()
}
