//! Passthrough: the second way to serve files, in which the kernel reads the files on disk by itself.
//!
//! An OPEN for reading of an unchanged catalog file is answered with a backing file: the one in the raw store or the relocated
//! one, verified, and opened through a private read-only view of its directory. Everything else is opened *cached*, as without
//! passthrough. The kernel has these rules; for each one, a test breaks it or keeps it on purpose:
//!
//! - All descriptors of an inode use the same backing file, or all are cached; the first one decides. For any other answer, the
//!   program gets EIO.
//! - So a write while an inode has passthrough readers needs another inode. The OPEN (or the truncating SETATTR) is answered with
//!   ESTALE. The kernel then looks the name up again and finds the *moved* inode: its node has [`MOVED`] set, and its attributes
//!   are the same. Programs that had the file open keep the old bytes; on overlayfs (Linux 6.18), only mappings do. (If the file
//!   was opened cached, for example before its relocated file existed, they see the new bytes, as POSIX requires and as without
//!   passthrough.)
//! - A mapping maps the backing file, and outlives RELEASE.
//!
//! Whether the kernel accepts backing files is known only after INIT. If it does not, every OPEN is answered with ENOSYS, and the
//! mount is no-open as if passthrough had not been requested.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use fuser::{
    BackingId, Errno, FileAttr, FileHandle, FopenFlags, INodeNo, InitFlags, KernelConfig, OpenAccMode,
    OpenFlags, ReplyOpen,
};

use crate::fs::vfs::{Attr, Vfs, VfsError};
use crate::store::observe::{Counter, Observer};
use crate::sys::fs::backing;
use crate::sys::fs::beneath::{Dir, facts_of_file};
use crate::sys::fs::owned::OwnedDir;

use super::convert::{self, FOREVER, MOVED};
use super::{Io, PASSTHROUGH};

/// Backing files may lie on a stacked file system (overlayfs); in return, none can be stacked on the space.
const STACK_DEPTH: u32 = 2;
/// The kernel may keep cached pages of a file that it reads through us: only the mount itself changes it.
const CACHED: FopenFlags = FopenFlags::FOPEN_KEEP_CACHE;

/// How the files of one mount are opened.
pub struct Opens {
    /// Where backing files may lie; if empty, nothing is passed through.
    views: Vec<(PathBuf, Dir)>,
    /// Set if the kernel accepts backing files.
    taken: OnceLock<()>,
    observer: Arc<dyn Observer>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    open: HashMap<INodeNo, Open>,
    moved: HashSet<INodeNo>,
}

/// An open inode.
struct Open {
    descriptors: u64,
    /// The backing file of all its descriptors; `None`: they are cached.
    backing: Option<Arc<BackingId>>,
}

/// The node cannot be opened, because it still has readers of its old content.
struct Stale;

impl Opens {
    /// Passes through files below `dirs`; none if `dirs` is empty or a view of one cannot be opened.
    pub fn new(dirs: &[PathBuf], observer: Arc<dyn Observer>) -> Opens {
        let view = |dir: &PathBuf| Ok((dir.clone(), backing::read_only_view(OwnedDir::open(dir)?)?));
        let views = dirs.iter().map(view).collect::<io::Result<_>>().unwrap_or_else(|error| {
            refused(&*observer, "Cannot create a read-only view of the stores", &error);
            Vec::new()
        });
        Opens { views, taken: OnceLock::new(), observer, table: Mutex::default() }
    }

    /// Requests passthrough in INIT, if wanted.
    pub fn init(&self, config: &mut KernelConfig) {
        let refused = |config: &mut KernelConfig| {
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_err()
                || config.set_max_stack_depth(STACK_DEPTH).is_err()
        };
        if !self.views.is_empty() && refused(config) {
            log::debug!("The kernel lacks passthrough"); // the probe will fail and report it
        }
    }

    /// After INIT: checks whether the kernel accepts files from our directories.
    pub fn probe(&self, device: impl AsFd) {
        let Some((dir, _)) = self.views.first() else { return };
        let probed = OwnedDir::open(dir).and_then(|dir| {
            let temporary = dir.create_temp(".probe-")?; // removed again on drop
            backing::probe(device, &temporary.file)
        });
        match probed {
            Ok(()) => drop(self.taken.set(())),
            Err(error) => {
                let what = format!("The kernel does not accept files of {}", dir.display());
                refused(&*self.observer, &what, &error);
            }
        }
    }

    /// How files are read.
    pub fn io(&self) -> Io {
        if self.is_on() { Io::Passthrough } else { Io::NoOpen }
    }

    /// True if files are passed through.
    pub fn is_on(&self) -> bool {
        self.taken.get().is_some()
    }

    /// Answers an OPEN. On `Err`, the content is not available and the reply is still to be sent.
    pub fn open(
        &self,
        vfs: &Vfs,
        node: INodeNo,
        flags: OpenFlags,
        reply: ReplyOpen,
    ) -> Result<(), (VfsError, ReplyOpen)> {
        if !self.is_on() {
            reply.error(Errno::ENOSYS);
            return Ok(());
        }
        let writes = flags.acc_mode() != OpenAccMode::O_RDONLY;
        let mut found = None;
        let backing = loop {
            let mut table = self.lock();
            if let Some(joined) = table.join(node, writes) {
                break joined;
            }
            // A moved node has a writer, which may not have written yet.
            if writes || node.0 & MOVED != 0 || vfs.has_own_bytes(convert::ino(node)) {
                break Ok(table.begin(node, None));
            }
            if let Some(file) = found.take() {
                break Ok(table.begin(node, self.hand_over(&reply, file)));
            }
            drop(table); // content is inflated and read without the lock
            match self.backing_file(vfs, node) {
                Ok(file) => found = Some(file),
                Err(error) => return Err((error, reply)),
            }
        };
        match backing {
            Ok(None) => reply.opened(FileHandle(0), CACHED),
            Ok(Some(id)) => {
                self.observer.count(Counter::PassedThrough, 1);
                reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), &id);
            }
            Err(Stale) => reply.error(Errno::ESTALE),
        }
        Ok(())
    }

    /// Removes one descriptor. The kernel has released the backing file before it sends RELEASE.
    pub fn release(&self, node: INodeNo) {
        let closed = self.lock().leave(node);
        drop(closed); // a system call, if it was the last one
    }

    /// Runs `change`, which changes the bytes of `node` without opening it. `None` if passthrough readers prevent it: ESTALE.
    pub fn changing<T>(&self, node: INodeNo, change: impl FnOnce() -> T) -> Option<T> {
        if !self.is_on() {
            return Some(change());
        }
        // Counts as a writer meanwhile, so that concurrent opens are cached.
        let mut table = self.lock();
        match table.join(node, true) {
            Some(Err(Stale)) => return None,
            Some(Ok(_)) => {}
            None => drop(table.begin(node, None)),
        }
        drop(table);
        let changed = change();
        self.release(node);
        Some(changed)
    }

    /// The attributes of an entry and their timeout. A moved node gets timeout 0, so that its attributes are queried: the kernel
    /// takes the inode number of an entry from its node.
    pub fn entry(&self, attr: &Attr) -> (FileAttr, Duration) {
        let mut shown = convert::attr(attr);
        if self.is_on() && self.lock().moved.contains(&shown.ino) {
            shown.ino = INodeNo(shown.ino.0 | MOVED);
            return (shown, Duration::ZERO);
        }
        (shown, FOREVER)
    }

    /// The backing file, opened through a view.
    fn backing_file(&self, vfs: &Vfs, node: INodeNo) -> Result<Option<File>, VfsError> {
        let Some((whole, path)) = vfs.on_disk(convert::ino(node))? else { return Ok(None) };
        let opened = self.views.iter().find_map(|(dir, view)| Some((view, path.strip_prefix(dir).ok()?)));
        let opened = opened.and_then(|(view, name)| view.open_file(name).ok());
        // The path may refer to another file by now, or to none.
        let same =
            opened.filter(|(_, facts)| facts_of_file(whole.file()).is_ok_and(|own| own.id == facts.id));
        if same.is_none() {
            let reason =
                format!("{} has changed since it was verified; read through the daemon", path.display());
            self.observer.fallback("passthrough of a file", &reason);
        }
        Ok(same.map(|(file, _)| file))
    }

    fn hand_over(&self, reply: &ReplyOpen, file: Option<File>) -> Option<Arc<BackingId>> {
        let taken = reply.open_backing(file?);
        let warn = |error| {
            let reason = format!("The kernel does not accept it: {error}; read through the daemon");
            self.observer.fallback("passthrough of a file", &reason);
        };
        taken.map(Arc::new).map_err(warn).ok()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports that nothing is passed through.
fn refused(observer: &dyn Observer, what: &str, error: &io::Error) {
    let needs = "it needs Linux 6.9, and root outside of any user namespace";
    observer.fallback(PASSTHROUGH, &format!("{what}: {error} ({needs}); using no-open"));
}

impl Table {
    /// Adds a descriptor of a node that is already open; `None` if it is not open.
    fn join(&mut self, node: INodeNo, writes: bool) -> Option<Result<Option<Arc<BackingId>>, Stale>> {
        if self.moved.contains(&node) {
            return Some(Err(Stale));
        }
        let open = self.open.get_mut(&node)?;
        if writes && open.backing.is_some() {
            self.moved.insert(node);
            return Some(Err(Stale));
        }
        open.descriptors += 1;
        Some(Ok(open.backing.clone()))
    }

    fn begin(&mut self, node: INodeNo, backing: Option<Arc<BackingId>>) -> Option<Arc<BackingId>> {
        self.open.insert(node, Open { descriptors: 1, backing: backing.clone() });
        backing
    }

    /// Removes one descriptor; returns the open inode if it was the last one.
    fn leave(&mut self, node: INodeNo) -> Option<Open> {
        let open = self.open.get_mut(&node)?;
        open.descriptors -= 1;
        if open.descriptors == 0 { self.open.remove(&node) } else { None }
    }
}
