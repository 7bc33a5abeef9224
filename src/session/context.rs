//! The inputs of a session: the home, how long to wait, the process environment, and the front end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::Duration;

use crate::error::chain;
use crate::rcc::catalog::CatalogId;
use crate::rcc::home::Home;
use crate::space::{Lock, Space, Wait, Waiting};
use crate::store::index::{Head, Index, IndexError, Made, index_path};
use crate::store::observe::Observer;
#[cfg(unix)]
use crate::store::observe::Tally;
use crate::store::{Library, Limits, Store};

use super::error::{ForeignPlatform, SessionError, Tried as _};
use super::report::Appeared;
use super::request::{Given, SpaceName};
use super::variables::{Extra, Unmanaged};

/// Receives progress and messages.
pub trait FrontEnd: Send + Sync {
    /// A lock is not immediately available.
    fn waiting(&self, waiting: &Waiting<'_>);
    /// A message worth a line.
    fn note(&self, text: &str);
    /// The space has appeared, and the command starts.
    fn appeared(&self, appeared: &Appeared<'_>);
    /// Starts reporting work that takes a while, named `what`; dropping the observer ends it.
    fn working(&self, what: &'static str) -> Arc<dyn Observer>;
    /// The exit code of an error's class.
    fn exit_code(&self, error: &SessionError) -> u8;
}

/// The environment that this process was started with.
#[derive(Debug, Clone, Default)]
pub struct ProcessEnv {
    /// The name by which the program was called.
    pub called_by: Option<OsString>,
    /// PATH.
    pub path: Option<OsString>,
    /// Where the system keeps temporary files.
    pub temp_dir: PathBuf,
    /// Directories of the user that must stay reachable.
    pub user_dirs: Vec<PathBuf>,
    /// The socket of the mount helper, if not the default.
    pub mount_helper: Option<PathBuf>,
    /// Variables that HoloFS does not set.
    pub unmanaged: Unmanaged,
    /// How to place files, as a word.
    pub strategy: Option<OsString>,
    /// Variables to add to those of spaces, or to omit.
    pub extra: Extra,
    /// How long a lazily mounted space must be idle before the rest of it is fetched; `None`: never.
    pub idle_fetch: Option<Duration>,
    /// Variables that differ from the inherited ones, to be set for child processes.
    pub replaced: Vec<(&'static str, OsString)>,
}

/// The context of one invocation.
#[derive(Clone)]
pub struct Context {
    /// RCC's home.
    pub home: Home,
    /// The global options.
    pub given: Given,
    /// The process environment.
    pub process: ProcessEnv,
    /// The front end.
    pub front: Arc<dyn FrontEnd>,
    cache_not_writable: OnceLock<Option<String>>,
}

impl std::ops::Deref for Context {
    type Target = Given;

    fn deref(&self) -> &Given {
        &self.given
    }
}

impl Context {
    /// A context for `home`.
    pub fn new(home: Home, given: Given, process: ProcessEnv, front: Arc<dyn FrontEnd>) -> Context {
        Context { home, given, process, front, cache_not_writable: OnceLock::new() }
    }

    /// The same for a fork of this process that closes all descriptors.
    #[cfg(unix)]
    pub fn unopened(&self) -> Context {
        Context { home: self.home.unopened(), ..self.clone() }
    }

    /// The same with another waiting time.
    pub fn with_wait(&self, wait: Wait) -> Context {
        Context { given: Given { wait, ..self.given.clone() }, ..self.clone() }
    }

    /// Why the cache is not writable, in one line; `None` if it is. The caller reports it once; later failures with this cause are not
    /// reported.
    pub fn cache_not_writable(&self) -> Option<&str> {
        let ours = self.home.holofs();
        let why = || {
            let there = ours.ancestors().find(|above| above.is_dir())?;
            let error = crate::sys::fs::dir::may_write(there).err()?;
            let why = error.to_string();
            let why = why.split(" (os error").next().unwrap_or(&why);
            Some(format!("nothing is cached, because {} is not writable: {why}", ours.display()))
        };
        self.cache_not_writable.get_or_init(why).as_deref()
    }

    /// Counts events of the store; logs fallbacks only if the cache is writable, since [`Self::cache_not_writable`] is reported separately.
    #[cfg(unix)]
    pub fn tally(&self) -> Tally {
        if self.cache_not_writable().is_some() { Tally::new() } else { Tally::logging() }
    }

    /// The Index of the catalog named by `what`: a hash, a unique prefix, a file name, or a path.
    pub fn index(&self, what: &str) -> Result<(Index, Made, PathBuf), SessionError> {
        let path = self.usable_catalog(what)?;
        let (index, made) = self.usable_index(&path)?;
        Ok((index, made, path))
    }

    /// Like [`Context::index`], but the entries may be read and checked only when they are used.
    #[cfg(unix)]
    pub fn index_ahead(&self, what: &str) -> Result<(Index, Made, PathBuf), SessionError> {
        if self.given.paranoid {
            return self.index(what);
        }
        let path = self.usable_catalog(what)?;
        let (index, made) = Index::ensure_ahead(self.home.index_dir(), &path)?;
        self.tell_made(&made);
        Ok((index, made, path))
    }

    /// Like [`Context::index`], for a command that may not need the entries: [`Context::index_of`] opens them. If they are damaged,
    /// this goes unnoticed until then.
    pub fn head(&self, what: &str) -> Result<(Head, Made, PathBuf), SessionError> {
        let path = self.usable_catalog(what)?;
        if !self.given.paranoid
            && let Some(head) = Index::known_head(self.home.index_dir(), &path)
        {
            return Ok((head, Made::Opened, path));
        }
        let (index, made) = self.usable_index(&path)?;
        Ok((index.head().clone(), made, path))
    }

    fn usable_catalog(&self, what: &str) -> Result<PathBuf, SessionError> {
        let path = self.home.find_catalog(what)?;
        self.refuse_foreign(&path)?;
        Ok(path)
    }

    /// The Index of the catalog at `path`; logs why it had to be compiled.
    fn usable_index(&self, path: &Path) -> Result<(Index, Made), SessionError> {
        let (index, made) = self.index_at(path)?;
        self.tell_made(&made);
        Ok((index, made))
    }

    fn tell_made(&self, made: &Made) {
        match made {
            Made::Opened | Made::Compiled(None) => {}
            Made::Compiled(Some(why)) => log::warn!("{why}: compiled again"),
            Made::NotKept(why) if self.cache_not_writable().is_some() => {
                log::debug!("{why}: compiled in memory")
            }
            Made::NotKept(why) => log::warn!("{why}: compiled in memory"),
        }
    }

    /// The Index of the catalog `id`, which was named `what` before; its file may have been replaced or removed since.
    pub fn index_of(&self, what: &str, id: &CatalogId) -> Result<Index, SessionError> {
        if !self.given.paranoid {
            match Index::open(index_path(&self.home.index_dir(), id), id) {
                Ok(index) => return Ok(index),
                Err(error) => log::debug!("{}", chain(&error)),
            }
        }
        let (index, _, path) = self.index(what)?;
        if index.id() == *id {
            return Ok(index);
        }
        Err(SessionError::State(format!("{} is no longer what it was", path.display()).into()))
    }

    /// The Index of the catalog at `path`; with `paranoid`, always compiled from it again.
    pub(super) fn index_at(&self, path: &Path) -> Result<(Index, Made), IndexError> {
        let make = if self.given.paranoid { Index::compiled } else { Index::ensure };
        make(self.home.index_dir(), path)
    }

    /// Refuses a catalog of another platform: it can be stored, but not used here.
    fn refuse_foreign(&self, path: &Path) -> Result<(), SessionError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = crate::rcc::home::platform();
        match name.split_once("v12.") {
            Some((_, platform)) if platform != ours => {
                Err(ForeignPlatform { catalog: name.clone().into_owned(), ours }.into())
            }
            _ => Ok(()),
        }
    }

    /// The space with that name, for a catalog whose base is `base`.
    pub fn space(&self, base: &Path, name: &SpaceName) -> Space {
        Space::new(&self.home, base, &name.controller, &name.space)
    }

    /// Takes RCC's lock of `space`, and reports if that takes longer than a moment.
    pub fn lock(&self, space: &Space) -> Result<Lock, SessionError> {
        Ok(space.lock(self.given.wait, &|waiting| self.front.waiting(waiting))?)
    }

    /// RCC's lock of the whole hololib, for commands that change it.
    pub fn lock_hololib(&self) -> Result<Lock, SessionError> {
        let nobody = Space::new(&self.home, self.home.holotree(), "user", "user");
        Ok(nobody.lock_hololib(self.given.wait, &|waiting| self.front.waiting(waiting))?)
    }

    /// The store of this home.
    pub fn store(&self, observer: Arc<dyn Observer>) -> Result<Arc<Store>, SessionError> {
        Ok(Arc::new(self.store_over(Library::open(&self.home.library())?, observer)))
    }

    /// Like [`Context::store`], for short work that opens many blobs.
    pub fn store_for_now(&self, observer: Arc<dyn Observer>) -> Result<Arc<Store>, SessionError> {
        Ok(Arc::new(self.store_over(Library::open(&self.home.library())?.hold()?, observer)))
    }

    /// The limits of stores.
    pub fn limits(&self) -> Limits {
        let usual = Limits::default();
        Limits { raw_bytes: self.given.raw_bytes.unwrap_or(usual.raw_bytes), ..usual }
    }

    pub(super) fn store_over(&self, library: Library, observer: Arc<dyn Observer>) -> Store {
        let limits = self.limits();
        let store = Store::open(library, self.home.raw_dir(), limits, observer);
        store.with_paranoia(self.given.paranoid)
    }

    /// The available mounters.
    #[cfg(unix)]
    pub fn mounters(&self) -> super::mounters::Mounters {
        let helper_socket = self.process.mount_helper.clone();
        let helper_socket = helper_socket.unwrap_or_else(|| PathBuf::from("/run/holofs/mount.sock"));
        super::mounters::Mounters { helper_socket }
    }

    /// The command to start this program again, but never under the name of the mount(8) helper.
    pub fn this_program(&self) -> Result<Command, SessionError> {
        let ProcessEnv { called_by, path, .. } = &self.process;
        let program = crate::sys::process::program(called_by.as_deref(), path.as_deref());
        let program = program.tried("Cannot find the holofs executable")?;
        let mut command = Command::new(&program);
        command.envs(self.process.replaced.iter().map(|(name, value)| (name, value)));
        #[cfg(unix)]
        if program.file_name().is_some_and(|name| name == "mount.holofs") {
            std::os::unix::process::CommandExt::arg0(&mut command, "holofs");
        }
        Ok(command)
    }
}
