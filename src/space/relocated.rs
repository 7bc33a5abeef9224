//! The relocated files of a space: raw content with the label in place of the recorded identity.
//!
//! A read never waits for a file to be patched: it takes the verified raw content and writes the label over what it returns. In
//! addition, [`Relocated::fill`] patches the files one by one in the background and stores them below `relocated/<catalog>/<inode>`,
//! where later reads, reflinks and copy-ups find them. They can be created again at any time, so a file that is not exactly as
//! published (size, mother time, [fingerprint](crate::store::fingerprints)) is not used.
//!
//! Before the first byte of a file is returned, the identity must be found at each of its offsets; otherwise the catalog is wrong and
//! every read of that file is an error.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::error::{Class, Failure, line};
use crate::space::files;
use crate::store::fingerprints::Fingerprints;
use crate::store::index::{Index, Ino, Rewrites};
use crate::store::observe::origin::{self, Origin};
use crate::store::observe::{Counter, Observer};
use crate::store::pieces::Part;
use crate::store::relocate::{LABEL_LEN, RelocateError, Relocation};
use crate::store::{BlobSource, MOTHER_TIME, RawFile, StoreError, Wanted};
use crate::sys::fs::beneath::{FileFacts, facts_at, facts_of_file};
use crate::sys::fs::clone::{self, Cloned};
use crate::sys::fs::dir;
use crate::sys::fs::offset::FileExt;
use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;
use crate::sys::process::this_process;

/// The maximum number of open descriptors of patched files, if the process limit is at least eight times that.
const OPEN_FILES: u64 = 128;

/// Why the content of a catalog file is not available.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// The blob is missing or does not match its digest.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The catalog's relocations do not fit the content.
    #[error("Cannot relocate the content {digest}")]
    Relocate {
        /// The blob.
        digest: crate::rcc::digest::Digest,
        /// The mismatch.
        source: RelocateError,
    },
    /// Reading bytes that were verified before failed.
    #[error("Cannot read the content {digest}")]
    Read {
        /// The blob.
        digest: crate::rcc::digest::Digest,
        /// The system error.
        source: io::Error,
    },
}

impl Failure for ContentError {
    fn class(&self) -> Option<Class> {
        match self {
            ContentError::Store(error) => error.class(),
            ContentError::Relocate { .. } | ContentError::Read { .. } => None,
        }
    }

    fn hint(&self) -> Option<Cow<'_, str>> {
        match self {
            ContentError::Store(error) => error.hint(),
            ContentError::Relocate { .. } | ContentError::Read { .. } => None,
        }
    }
}

/// The state of a file: unknown, offsets checked, or patched file available.
const UNKNOWN: u64 = 0;
const CHECKED: u64 = 1;
const PATCHED: u64 = 2;

/// The relocated files of one space and catalog.
pub struct Relocated {
    place: Place,
    fingerprints: Fingerprints,
    /// The directory, once it is open.
    dir: OnceLock<OwnedDir>,
    identity: [u8; LABEL_LEN],
    label: [u8; LABEL_LEN],
    source: Arc<dyn BlobSource>,
    observer: Arc<dyn Observer>,
    /// Two bits for each inode of the catalog.
    states: Vec<AtomicU64>,
    open: Mutex<lru::LruCache<Ino, Arc<File>>>,
    paranoid: bool,
}

impl Relocated {
    /// The relocated files of the space `label`, stored below `space_dir`. Reads and creates nothing yet.
    pub fn new(
        space_dir: impl Into<Place>,
        index: &Index,
        label: &[u8; LABEL_LEN],
        source: Arc<dyn BlobSource>,
        observer: Arc<dyn Observer>,
    ) -> Relocated {
        let catalog: String = index.id().to_string().chars().take(16).collect();
        let words = usize::try_from(index.len() / 32 + 1).unwrap_or_default();
        let capacity = this_process::descriptor_share(8, OPEN_FILES);
        let place = space_dir.into().below(files::RELOCATED).below(catalog);
        Relocated {
            fingerprints: Fingerprints::new(place.clone()),
            place,
            dir: OnceLock::new(),
            identity: *index.identity(),
            label: *label,
            source,
            observer,
            states: std::iter::repeat_with(AtomicU64::default).take(words).collect(),
            open: Mutex::new(lru::LruCache::new(capacity)),
            paranoid: false,
        }
    }

    /// Sets whether patched files are not used or created: each read patches the source's content.
    #[must_use]
    pub fn with_paranoia(mut self, paranoid: bool) -> Relocated {
        self.paranoid = paranoid;
        self
    }

    /// Fills `out`, which must lie within the file, from `offset` of the catalog file `ino`, relocated or not.
    pub fn read(
        &self,
        ino: Ino,
        wanted: &Wanted,
        rewrite: Rewrites<'_>,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), ContentError> {
        let failed = |source| ContentError::Read { digest: wanted.digest, source };
        let range = offset..offset.saturating_add(out.len() as u64);
        // A space at the catalog's own path needs no changes.
        if rewrite.is_empty() || self.label == self.identity {
            return self.source.read(wanted, offset, out)?.map_err(failed);
        }
        if let Some(file) = self.patched(ino, wanted) {
            origin::note(Origin::Relocated);
            return file.read_exact_at(out, offset).map_err(failed);
        }
        self.check(ino, wanted, rewrite)?;
        self.source.read(wanted, offset, out)?.map_err(failed)?;
        let first = offset.saturating_sub(LABEL_LEN as u64 - 1);
        self.relocation().patch(out, offset, rewrite.in_range(first..range.end));
        Ok(())
    }

    /// The whole content of the catalog file `ino`, as a source for copies.
    pub fn whole(&self, ino: Ino, wanted: &Wanted, rewrite: Rewrites<'_>) -> Result<Whole, ContentError> {
        if rewrite.is_empty() {
            return Ok(Whole::Raw(self.source.open(wanted)?));
        }
        match self.patched(ino, wanted) {
            Some(file) => Ok(Whole::Patched(file)),
            None => Ok(Whole::Unpatched(self.checked(ino, wanted, rewrite)?)),
        }
    }

    /// Writes the label at each relocation into a copy of the raw content.
    pub fn patch(&self, copy: &File, rewrite: Rewrites<'_>) -> io::Result<()> {
        rewrite.iter().try_for_each(|at| copy.write_all_at(&self.label, at))
    }

    /// Patches every relocated file that is not patched yet, until `stop` is set. A bad file is logged and skipped: reads of it
    /// fail. A file whose content would have to be fetched is skipped too, and patched at each read.
    pub fn fill(&self, index: &Index, stop: &AtomicBool) {
        if self.paranoid {
            return;
        }
        let dir = match self.place.ensure() {
            Ok(dir) => self.dir.get_or_init(|| dir),
            Err(error) => {
                let reason = format!("Cannot create {}: {error}", self.place.display());
                return self.observer.fallback("patch at each read", &reason);
            }
        };
        for (ino, file) in index.relocated() {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let Some(node) = index.node(ino) else { continue };
            let wanted = Wanted::of(&file, node.mode);
            if !self.source.is_local(&wanted) {
                continue;
            }
            match self.ensure(dir, ino, &wanted, file.rewrite) {
                Ok(()) => {}
                Err(Unpatched::Content(error)) => log::warn!("Cannot relocate inode {ino}: {}", line(&error)),
                Err(Unpatched::Disk(error)) => {
                    let reason = format!("Cannot keep files in {}: {error}", self.place.display());
                    return self.observer.fallback("patch at each read", &reason);
                }
            }
        }
    }

    /// The directory of the space's own files that contains this.
    pub fn dir(&self) -> &Path {
        &self.place
    }

    fn relocation(&self) -> Relocation<'_> {
        Relocation { identity: &self.identity, label: &self.label }
    }

    /// The raw content, after its offsets were checked once.
    fn checked(&self, ino: Ino, wanted: &Wanted, rewrite: Rewrites<'_>) -> Result<RawFile, ContentError> {
        let raw = self.source.open(wanted)?;
        self.check(ino, wanted, rewrite)?;
        Ok(raw)
    }

    /// Checks once that the identity is at each offset.
    fn check(&self, ino: Ino, wanted: &Wanted, rewrite: Rewrites<'_>) -> Result<(), ContentError> {
        if self.state(ino) != UNKNOWN {
            return Ok(());
        }
        let mut lacking = None;
        let checked = match self.source.part(wanted, 0..0)? {
            Part::Whole(raw) => self.relocation().check(|out, at| raw.read_at(out, at), rewrite.iter()),
            Part::Pieces(_) => {
                let read = |out: &mut [u8], at: u64| {
                    let end = at.saturating_add(out.len() as u64).min(wanted.size);
                    let out = out.get_mut(..end.saturating_sub(at) as usize).unwrap_or_default();
                    match self.source.part(wanted, at..end) {
                        Ok(part) => part.read_exact_at(out, at).map(|()| out.len()),
                        Err(error) => {
                            lacking = Some(error);
                            Err(io::ErrorKind::NotFound.into())
                        }
                    }
                };
                self.relocation().check(read, rewrite.iter())
            }
        };
        if let Some(error) = lacking {
            return Err(error.into());
        }
        checked.map_err(|source| ContentError::Relocate { digest: wanted.digest, source })?;
        self.set_state(ino, CHECKED);
        Ok(())
    }

    /// Creates the patched file of `ino` unless it exists.
    fn ensure(
        &self,
        dir: &OwnedDir,
        ino: Ino,
        wanted: &Wanted,
        rewrite: Rewrites<'_>,
    ) -> Result<(), Unpatched> {
        let name = OsString::from(ino.to_string());
        if facts_at(dir, &name).is_some_and(|facts| self.is_unchanged(ino, wanted, &facts)) {
            self.set_state(ino, PATCHED);
            return Ok(());
        }
        let raw = self.checked(ino, wanted, rewrite).map_err(Unpatched::Content)?;
        let temporary = dir.create_temp(".patch-").map_err(Unpatched::Disk)?;
        let tier = clone::clone_or_copy(raw.as_file(), &temporary.file).map_err(Unpatched::Disk)?;
        let write = self.patch(&temporary.file, rewrite);
        write.and_then(|()| dir::set_mother_time(&temporary.file)).map_err(Unpatched::Disk)?;
        let file = temporary.file.try_clone().map_err(Unpatched::Disk)?;
        temporary.publish(&name).map_err(Unpatched::Disk)?;
        self.fingerprints.add(&ino.to_string(), &facts_of_file(&file).map_err(Unpatched::Disk)?);
        let counter = match tier {
            Cloned::Reflinked => Counter::Reflinked,
            Cloned::Copied => Counter::Copied,
        };
        self.observer.count(counter, 1);
        self.observer.count(Counter::Relocated, 1);
        self.set_state(ino, PATCHED);
        Ok(())
    }

    /// The patched file, if it exists and is unchanged.
    fn patched(&self, ino: Ino, wanted: &Wanted) -> Option<Arc<File>> {
        if self.state(ino) != PATCHED {
            return None;
        }
        let is_unchanged =
            |file: &File| facts_of_file(file).is_ok_and(|facts| self.is_unchanged(ino, wanted, &facts));
        let known = self.lock_open().get(&ino).map(Arc::clone);
        if let Some(file) = known.filter(|file| is_unchanged(file)) {
            return Some(file);
        }
        let opened = self.dir.get().and_then(|dir| dir.open_file(OsStr::new(&ino.to_string())).ok());
        let file = opened.filter(is_unchanged);
        let Some(file) = file.map(Arc::new) else {
            log::warn!(
                "The relocated file {} has changed since it was created: patching at each read",
                self.path(ino).display()
            );
            self.set_state(ino, CHECKED);
            return None;
        };
        self.lock_open().put(ino, Arc::clone(&file));
        Some(file)
    }

    /// True if the file is unchanged since it was published.
    fn is_unchanged(&self, ino: Ino, wanted: &Wanted, facts: &FileFacts) -> bool {
        (facts.size, facts.mtime) == (wanted.size, (MOTHER_TIME, 0))
            && self.fingerprints.hold(&ino.to_string(), facts)
    }

    /// The path of the patched file of `ino`, once it exists.
    pub fn path(&self, ino: Ino) -> PathBuf {
        self.place.join(ino.to_string())
    }

    fn lock_open(&self) -> MutexGuard<'_, lru::LruCache<Ino, Arc<File>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, ino: Ino) -> Option<(&AtomicU64, u64)> {
        let word = self.states.get(usize::try_from(ino.0 / 32).ok()?)?;
        Some((word, (ino.0 % 32) * 2))
    }

    fn state(&self, ino: Ino) -> u64 {
        self.slot(ino).map_or(UNKNOWN, |(word, shift)| word.load(Ordering::Acquire) >> shift & 3)
    }

    fn set_state(&self, ino: Ino, state: u64) {
        if let Some((word, shift)) = self.slot(ino) {
            let replace = |now: u64| Some(now & !(3 << shift) | state << shift);
            // The closure always returns a value, so this cannot fail.
            word.fetch_update(Ordering::AcqRel, Ordering::Acquire, replace).unwrap_or_default();
        }
    }
}

/// The verified content of one catalog file, as a file.
pub enum Whole {
    /// It has no relocations: this is its content.
    Raw(RawFile),
    /// The patched file: this is its content.
    Patched(Arc<File>),
    /// The bytes before relocation: a copy of them needs [`Relocated::patch`].
    Unpatched(RawFile),
}

impl Whole {
    /// The file. Its position is shared: use offsets only.
    pub fn file(&self) -> &File {
        match self {
            Whole::Raw(raw) | Whole::Unpatched(raw) => raw.as_file(),
            Whole::Patched(file) => file,
        }
    }

    /// True if a copy must be patched.
    pub fn needs_patch(&self) -> bool {
        matches!(self, Whole::Unpatched(_))
    }
}

/// Why a file was not patched.
enum Unpatched {
    /// Its content is bad: reads of it fail.
    Content(ContentError),
    /// No file can be written: no other file can be patched either.
    Disk(io::Error),
}
