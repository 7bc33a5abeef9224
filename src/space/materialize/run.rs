//! One materialize, under its locks: creates a space, or repairs one.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::listed::Listed;
use super::make_pristine::{Build, make_pristine};
use super::place::{Placer, TempNames};
use super::plan::Rules;
use super::pristine::{self, Places, Pristine, TreeKind};
use super::report::{Counting, Errors, FileError, MaterializeReport, Seconds};
use super::tier::{FallbackChain, Pair, Strategy, Tier};
use super::trash::{self, Trash};
use super::walk::{self, Plan};
use super::{Job, MaterializeError, Options};
use crate::space::Space;
use crate::space::bytecode;
use crate::store::RawStore;
use crate::store::index::{Index, Ino, NodeKind};
use crate::store::observe::{Counter, Observer};
use crate::store::relocate::Relocation;
use crate::sys::fs::at::{self, DirEntryKind, TreeDir};
use crate::sys::fs::btrfs;
use crate::sys::fs::disk;
use crate::sys::fs::name::{Name, OwnedName};
use crate::sys::fs::place::Place;
use crate::sys::process;

/// One run, under its locks.
pub(super) struct Run<'a> {
    pub job: &'a Job<'a>,
    pub options: &'a Options,
    pub observer: &'a Counting<'a>,
}

/// Measures the phases.
pub(super) struct Clock {
    pub seconds: Seconds,
    pub last: Instant,
}

impl Clock {
    /// Seconds since the last lap.
    pub fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap: Duration = now - std::mem::replace(&mut self.last, now);
        lap.as_secs_f64()
    }
}

/// What is known of the last materialize.
pub(super) enum Old {
    /// Nothing.
    Unknown,
    /// It was the same catalog.
    Same,
    /// It was this one.
    Known(Box<Index>),
}

impl Old {
    pub fn index(&self) -> Option<&Index> {
        if let Old::Known(index) = self { Some(index) } else { None }
    }
}

/// The state of the tree at the end.
pub(super) struct Outcome {
    is_new: bool,
    is_changed: bool,
    tier: Option<Tier>,
    errors: Vec<FileError>,
}

impl Run<'_> {
    pub fn run(&self, clock: &mut Clock) -> Result<Outcome, MaterializeError> {
        let space = self.job.space;
        let base = TreeDir::open(&space.base).map_err(self.io("Opening", &space.base))?;
        let found = base.find(space.label.as_name()).map_err(self.io("Looking at", &space.root))?;
        match found {
            Some(DirEntryKind::Dir) => self.refresh(&base, clock),
            // As RCC: the link is removed, its target stays.
            Some(DirEntryKind::Link(_)) => {
                base.remove(space.label.as_name()).map_err(self.io("Removing the link", &space.root))?;
                self.create(&base, clock)
            }
            Some(DirEntryKind::File { .. } | DirEntryKind::Other) => {
                Err(MaterializeError::Obstructed { root: space.root.clone() })
            }
            None => self.create(&base, clock),
        }
    }

    /// Creates a new space.
    fn create(&self, base: &TreeDir, clock: &mut Clock) -> Result<Outcome, MaterializeError> {
        let (space, index) = (self.job.space, self.job.index);
        let name = temp_name(space).map_err(self.io("Naming", &space.root))?;
        base.remove(name.as_name()).map_err(self.io("Removing the remains of", &space.root))?;
        self.forget_bytecode()?;
        self.has_room(count_entries(index, Ino::ROOT));
        clock.seconds.scan = clock.lap();
        let rules = self.rules(None, false);
        let errors = Errors::new(index);
        let chain = self.chain(true);
        let pristine = self.pristine(&chain, true);
        clock.seconds.ingest = clock.lap();
        let placer = self.placer(&rules, &errors, chain, pristine.as_ref());
        let place = || -> Result<(), MaterializeError> {
            match self.snapshot(base, name.as_name(), &placer).map_err(self.io("Opening", &space.root))? {
                Some(dir) => placer.patch(&dir),
                None => {
                    self.observer.expect(count_entries(index, Ino::ROOT).entries);
                    let dir = base.make_dir(name.as_name()).map_err(self.io("Making", &space.root))?;
                    placer.populate(dir, Ino::ROOT);
                }
            }
            Ok(())
        };
        let (placed, tail) = rayon::join(place, || self.tail());
        let tail = match placed.and(tail) {
            Ok(tail) => tail,
            Err(error) => {
                base.remove(name.as_name()).map_err(self.io("Removing the remains of", &space.root))?;
                return Err(error);
            }
        };
        let errors = errors.take();
        if errors.is_empty() {
            // An old `.meta` would be taken for the records of the new space.
            space.remove_meta()?;
            let named = base.rename_new(name.as_name(), space.label.as_name());
            named.map_err(self.io("Naming", &space.root))?;
            clock.seconds.place = clock.lap();
            self.record(Some(&tail), clock)?;
        } else {
            base.remove(name.as_name()).map_err(self.io("Removing the remains of", &space.root))?;
        }
        Ok(Outcome { is_new: true, is_changed: errors.is_empty(), tier: Some(placer.chain.now()), errors })
    }

    /// Creates the space as a snapshot of the pristine tree, if that is the strategy; it is not patched yet.
    fn snapshot(&self, base: &TreeDir, name: Name<'_>, placer: &Placer<'_>) -> io::Result<Option<TreeDir>> {
        let Some(pristine) = placer.pristine.filter(|_| placer.chain.now() == Tier::Snapshot) else {
            return Ok(None);
        };
        match btrfs::snapshot(&pristine.root, base, name) {
            // Checked after the snapshot was taken, which can no longer change.
            Ok(()) if pristine.is_unchanged() => base.open_dir(name).map(Some),
            Ok(()) => {
                base.remove(name)?;
                placer
                    .chain
                    .demote(Tier::Snapshot, &io::Error::other("Another process changes the pristine tree"));
                Ok(None)
            }
            Err(error) => {
                placer.chain.demote(Tier::Snapshot, &error);
                Ok(None)
            }
        }
    }

    /// Repairs an existing space.
    fn refresh(&self, base: &TreeDir, clock: &mut Clock) -> Result<Outcome, MaterializeError> {
        let (space, index) = (self.job.space, self.job.index);
        let old = self.old_records();
        let rules = self.rules(
            old.index(),
            self.options.verify || self.job.content.is_paranoid() || space.is_half_restored(),
        );
        let root = base.open_dir(space.label.as_name()).map_err(self.io("Opening", &space.root))?;
        let errors = Errors::new(index);
        let top = root.reopen().map_err(self.io("Opening", &space.root))?;
        // A run that verifies everything does not trust earlier results.
        let listed =
            (!rules.verify).then(|| Listed::open(&space.state_dir, &top, &space.base, index)).flatten();
        let mut plan = walk::walk(&rules, top, &errors, listed.as_ref());
        plan.restrict(index, self.job.only);
        self.observer.count(Counter::Kept, plan.kept);
        self.observer.count(Counter::Unlisted, plan.unlisted);
        if let Some(Err(error)) = listed.map(Listed::keep) {
            log::debug!("Every directory of {} is listed the next time, too: {error}", space.root.display());
        }
        clock.seconds.scan = clock.lap();
        let mut outcome = Outcome { is_new: false, is_changed: false, tier: None, errors: Vec::new() };
        let mut tail = None;
        if plan.is_idle() && self.options.warm {
            drop(self.pristine(&self.chain(false), false));
        }
        if !plan.is_idle() {
            tail = Some(self.tail()?);
            self.forget_bytecode()?;
            space.set_restoring(&index.id().to_string())?;
            let chain = self.chain(false);
            let pristine = self.pristine(&chain, false);
            let placer = self.placer(&rules, &errors, chain, pristine.as_ref());
            let before = self.changes();
            let steps = plan_steps(index, &plan);
            self.observer.expect(steps.entries);
            let trash = if self.has_room(steps) { Trash::new(base).ok() } else { None };
            placer.repair(&root, plan.dirs, trash.as_ref());
            outcome.is_changed = self.changes() != before;
            outcome.tier = Some(placer.chain.now());
        }
        clock.seconds.place = clock.lap();
        outcome.errors = errors.take();
        if outcome.errors.is_empty() {
            let is_recorded = matches!(old, Old::Same) && !outcome.is_changed && !space.is_half_restored();
            if !is_recorded && tail.is_none() {
                tail = Some(self.tail()?);
            }
            self.record(tail.as_deref(), clock)?;
        }
        Ok(outcome)
    }

    /// Bytecode that programs compiled from the previous sources must not run in place of the new ones.
    fn forget_bytecode(&self) -> Result<(), MaterializeError> {
        let state_dir = &self.job.space.state_dir;
        bytecode::forget(state_dir).map_err(self.io("Removing the bytecode in", state_dir))
    }

    /// True if the disk has room for `amount` in addition to what is set aside. If not, all that was set aside before is deleted
    /// first, and nothing should be set aside now.
    fn has_room(&self, amount: Amount) -> bool {
        let base = &self.job.space.base;
        // If usage is unknown, a shortage shows when writing.
        if disk::usage(base).map_or(true, |disk| amount.fits(&disk)) {
            return true;
        }
        if trash::trash_in(base).is_some() {
            self.observer.fallback("trash", "The disk is nearly full: what was set aside was deleted first");
            if let Err(error) = trash::sweep(base, trash::Other::WaitFor) {
                log::warn!("What was set aside in {} is kept: {error}", base.display());
            }
        }
        false
    }

    fn rules<'r>(&'r self, old: Option<&'r Index>, verify: bool) -> Rules<'r> {
        let drops = process::is_root() && !self.options.allow_setuid;
        Rules { index: self.job.index, old, dropped_mode: if drops { 0o6000 } else { 0 }, verify }
    }

    /// The initial tier; `is_new`: there is no space yet.
    fn chain(&self, is_new: bool) -> FallbackChain<'_> {
        let Job { space, home, content, index, .. } = *self.job;
        let raw_dir = content.raw().map(RawStore::place);
        let strategy = self.options.strategy;
        let asks = matches!(strategy, Strategy::Auto | Strategy::Snapshot);
        let places = Places::new(&home.pristine_dir(), &index.id());
        let no_snapshot = match is_new && asks {
            true => pristine::no_snapshot(&places, &space.base),
            false => Some("The space exists"),
        };
        let pair = Pair { raw_dir, base: &space.base, is_shared: home.is_shared(), no_snapshot };
        FallbackChain::choose(strategy, &pair, self.observer)
    }

    /// The pristine tree, if it exists or should be created: if the tier needs it, if it was requested, and when the catalog is
    /// materialized from its blobs for the second time.
    fn pristine(&self, chain: &FallbackChain<'_>, is_new: bool) -> Option<Pristine> {
        let Job { index, home, content, .. } = *self.job;
        let places = Places::new(&home.pristine_dir(), &index.id());
        let is_hard = chain.now() == Tier::Hardlink;
        // Hardlinks cannot leave a subvolume: there the raw store itself is linked. Pristine files are not hashed again.
        if content.is_paranoid() || is_hard && places.is_on_btrfs() {
            return None;
        }
        let found = Pristine::open(&places, index);
        let is_usable = found.as_ref().is_some_and(|found| self.fits(found, chain));
        let is_wanted = || self.options.warm || chain.now() == Tier::Snapshot || is_hard;
        if is_usable || !(is_wanted() || (is_new && found.is_none() && places.note_use())) {
            return found;
        }
        match make_pristine(Build { places: &places, index, content, observer: self.observer }) {
            Ok(made) => Some(made),
            Err(error) => {
                chain.demote(Tier::Snapshot, &error);
                self.observer.fallback("pristine", &format!("{error}; files come from the store"));
                None
            }
        }
    }

    /// True if the tree can be used for the tier: a snapshot has the modes of the tree's directories.
    fn fits(&self, found: &Pristine, chain: &FallbackChain<'_>) -> bool {
        let serves = found.kind() == TreeKind::Subvolume && found.umask() == at::umask();
        chain.now() != Tier::Snapshot || serves
    }

    fn placer<'r>(
        &'r self,
        rules: &'r Rules<'r>,
        errors: &'r Errors<'r>,
        chain: FallbackChain<'r>,
        pristine: Option<&'r Pristine>,
    ) -> Placer<'r> {
        let Job { space, content, index, .. } = *self.job;
        Placer {
            rules,
            content,
            relocation: Relocation { identity: index.identity(), label: space.label.as_bytes() },
            chain,
            errors,
            observer: self.observer,
            umask: at::umask(),
            names: TempNames::new(),
            pristine,
            has_raw: content.raw().map(RawStore::place).is_none_or(has_entries),
        }
    }

    /// How much was changed so far.
    fn changes(&self) -> u64 {
        use Counter::{Copied, Directories, Hardlinked, Links, Reflinked, Removed};
        let counted = [Copied, Directories, Hardlinked, Links, Reflinked, Removed];
        counted.iter().map(|&counter| self.observer.tally.get(counter)).sum()
    }

    pub fn conclude(
        &self,
        outcome: Outcome,
        seconds: Seconds,
    ) -> Result<MaterializeReport, MaterializeError> {
        let Job { space, index, .. } = self.job;
        let report = MaterializeReport {
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
            swept_by: None,
        };
        match report.errors.is_empty() {
            true => Ok(report),
            false => Err(MaterializeError::Incomplete { report: Box::new(report) }),
        }
    }

    pub fn io(&self, doing: &'static str, path: &Path) -> impl Fn(io::Error) -> MaterializeError + use<> {
        let path = path.to_owned();
        move |source| MaterializeError::Io { doing, path: path.clone(), source }
    }
}

/// The name of an unfinished space: longer than any label, so that it cannot be mistaken for one.
fn temp_name(space: &Space) -> io::Result<OwnedName> {
    let name = format!("{}.holofs-tmp", space.label);
    Name::new(name.as_bytes()).map(Name::to_owned).map_err(io::Error::other)
}

/// False if the raw store at `dir`, whose entries are in two-digit directories, is empty.
fn has_entries(dir: &Place) -> bool {
    dir.open().and_then(|dir| dir.names()).map_or(true, |names| names.iter().any(|name| name.len() == 2))
}

/// The amount to place.
#[derive(Debug, Clone, Copy, Default)]
struct Amount {
    /// Files and links.
    entries: u64,
    /// Bytes of their content.
    bytes: u64,
}

impl Amount {
    fn add(&mut self, more: Amount) {
        self.entries += more.entries;
        self.bytes += more.bytes;
    }

    fn of(kind: NodeKind<'_>) -> Amount {
        let bytes = if let NodeKind::File(file) = kind { file.size } else { 0 };
        Amount { entries: 1, bytes }
    }

    /// True if a disk has room for this, including its own overhead.
    fn fits(self, disk: &disk::Usage) -> bool {
        let block = u64::from(disk.block_size);
        let blocks = self.bytes / block + 2 * self.entries;
        // Some file systems allocate inodes on demand, and report no count.
        let has_inodes = disk.files == 0 || self.entries + self.entries / 8 < disk.files_free;
        blocks + blocks / 8 < disk.available && has_inodes
    }
}

/// Files and links below the directory `ino`.
fn count_entries(index: &Index, ino: Ino) -> Amount {
    let mut waiting = vec![ino];
    let mut count = Amount::default();
    while let Some(dir) = waiting.pop() {
        for child in index.children(dir) {
            match child.kind {
                NodeKind::Dir { .. } => waiting.push(child.ino),
                kind => count.add(Amount::of(kind)),
            }
        }
    }
    count
}

/// Files and links that the plan places or reads.
fn plan_steps(index: &Index, plan: &Plan) -> Amount {
    let mut steps = Amount::default();
    for (_, dir) in &plan.dirs {
        dir.make.iter().for_each(|&ino| steps.add(count_entries(index, ino)));
        let single = dir.place.iter().chain(&dir.verify).filter_map(|&ino| index.node(ino));
        single.for_each(|node| steps.add(Amount::of(node.kind)));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_placed_fits_if_the_disk_has_blocks_and_inodes_to_spare() {
        let amount = Amount { entries: 100, bytes: 400 << 10 };
        let usage = |available, files, files_free| disk::Usage {
            block_size: 4096,
            blocks: 1 << 20,
            free: available,
            available,
            files,
            files_free,
        };
        assert!(amount.fits(&usage(1000, 1000, 1000)));
        assert!(amount.fits(&usage(1000, 0, 0)), "no inodes are counted");
        assert!(!amount.fits(&usage(300, 1000, 1000)));
        assert!(!amount.fits(&usage(1000, 1000, 100)));
    }
}
