//! What the life of a space starts from: the home, how long to wait, what the process was given, and who is told.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;

use anyhow::Context as _;

use crate::rcc::home::Home;
use crate::space::{Lock, Space, Wait, Waiting};
use crate::store::index::{Index, IndexError, Made};
use crate::store::observe::Observer;
#[cfg(unix)]
use crate::store::observe::Tally;
use crate::store::{Library, Limits, Store};

use super::error::ForeignPlatform;
use super::request::{Given, SpaceName};
use super::run::Appeared;
use super::variables::{Extra, Unmanaged};

/// Who is told what happens.
pub trait FrontEnd: Send + Sync {
    /// A lock is not free at once.
    fn waiting(&self, waiting: &Waiting<'_>);
    /// Something that is worth a line.
    fn note(&self, text: &str);
    /// The space is there, and the command begins.
    fn appeared(&self, appeared: &Appeared<'_>);
    /// Work begins that takes a while: `what` it is; dropped when it ends.
    fn working(&self, what: &'static str) -> Arc<dyn Observer>;
    /// The exit code of an error's class.
    fn exit_code(&self, error: &anyhow::Error) -> u8;
}

/// What this process was given by who started it.
#[derive(Debug, Clone, Default)]
pub struct ProcessEnv {
    /// What the process was called by.
    pub called_by: Option<OsString>,
    /// PATH.
    pub path: Option<OsString>,
    /// Where the system keeps temporary files.
    pub temp_dir: PathBuf,
    /// Directories of the user that must stay reachable.
    pub user_dirs: Vec<PathBuf>,
    /// The socket of the mount helper, if it is not the usual one.
    pub mount_helper: Option<PathBuf>,
    /// Variables that are left to others.
    pub unmanaged: Unmanaged,
    /// How files are to be placed, as a word.
    pub strategy: Option<OsString>,
    /// What is added to the variables of spaces, and left out of them.
    pub extra: Extra,
    /// Variables that are not as this process was given them: for the processes that it starts.
    pub replaced: Vec<(&'static str, OsString)>,
}

/// What one invocation works with.
#[derive(Clone)]
pub struct Context {
    /// Where RCC keeps things.
    pub home: Home,
    /// What every command is given.
    pub given: Given,
    /// What this process was given.
    pub process: ProcessEnv,
    /// Who is told.
    pub front: Arc<dyn FrontEnd>,
    unkept: OnceLock<Option<String>>,
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
        Context { home, given, process, front, unkept: OnceLock::new() }
    }

    /// The same, but waiting so long.
    pub fn with_wait(&self, wait: Wait) -> Context {
        Context { given: Given { wait, ..self.given.clone() }, ..self.clone() }
    }

    /// Why nothing can be kept that would save time the next time, in one line; `None` if it can be. Who finds it out tells it
    /// once, and what fails by it is no news any more.
    pub fn unkept(&self) -> Option<&str> {
        let ours = self.home.holofs();
        let why = || {
            let there = ours.ancestors().find(|above| above.is_dir())?;
            let error = crate::sys::fs::dir::may_write(there).err()?;
            let why = error.to_string();
            let why = why.split(" (os error").next().unwrap_or(&why);
            Some(format!(
                "nothing is kept for the next time, since {} cannot be written: {why}",
                ours.display()
            ))
        };
        self.unkept.get_or_init(why).as_deref()
    }

    /// Counts what the store does, and logs what it does worse than it could, but for what is told of [`Self::unkept`].
    #[cfg(unix)]
    pub fn tally(&self) -> Tally {
        if self.unkept().is_some() { Tally::new() } else { Tally::logging() }
    }

    /// The Index of the catalog that `what` names: a hash, a unique prefix, a file name, a path.
    pub fn index(&self, what: &str) -> anyhow::Result<(Index, Made, PathBuf)> {
        let path = self.home.find_catalog(what)?;
        self.refuse_foreign(&path)?;
        let (index, made) = self.index_at(&path)?;
        match &made {
            Made::Opened | Made::Compiled(None) => {}
            Made::Compiled(Some(why)) => log::warn!("{why}: compiled anew"),
            Made::NotKept(why) if self.unkept().is_some() => log::debug!("{why}: compiled in memory"),
            Made::NotKept(why) => log::warn!("{why}: compiled in memory"),
        }
        Ok((index, made, path))
    }

    /// The Index of the catalog at `path`; compiled from it now if nothing that is kept is to be believed.
    pub(super) fn index_at(&self, path: &Path) -> Result<(Index, Made), IndexError> {
        let make = if self.given.paranoid { Index::compiled } else { Index::ensure };
        make(self.home.index_dir(), path)
    }

    /// A catalog of another platform is fine to keep, but nothing here can use it.
    fn refuse_foreign(&self, path: &Path) -> anyhow::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let ours = crate::rcc::home::platform();
        match name.split_once("v12.") {
            Some((_, platform)) if platform != ours => {
                Err(ForeignPlatform { catalog: name.clone().into_owned(), ours }.into())
            }
            _ => Ok(()),
        }
    }

    /// The space of that name, for a catalog whose base is `base`.
    pub fn space(&self, base: &Path, name: &SpaceName) -> Space {
        Space::new(&self.home, base, &name.controller, &name.space)
    }

    /// Takes RCC's lock of `space`, and tells if that takes longer than a moment.
    pub fn lock(&self, space: &Space) -> anyhow::Result<Lock> {
        Ok(space.lock(self.given.wait, &|waiting| self.front.waiting(waiting))?)
    }

    /// RCC's lock of the whole hololib: for whoever changes it.
    pub fn lock_hololib(&self) -> anyhow::Result<Lock> {
        let nobody = Space::new(&self.home, self.home.holotree(), "user", "user");
        Ok(nobody.lock_hololib(self.given.wait, &|waiting| self.front.waiting(waiting))?)
    }

    /// The store of this home.
    pub fn store(&self, observer: Arc<dyn Observer>) -> anyhow::Result<Arc<Store>> {
        Ok(Arc::new(self.store_over(Library::open(&self.home.library())?, observer)))
    }

    /// As [`Context::store`], for work that ends soon and opens many blobs.
    pub fn store_for_now(&self, observer: Arc<dyn Observer>) -> anyhow::Result<Arc<Store>> {
        Ok(Arc::new(self.store_over(Library::open(&self.home.library())?.hold()?, observer)))
    }

    pub(super) fn store_over(&self, library: Library, observer: Arc<dyn Observer>) -> Store {
        let usual = Limits::default();
        let limits = Limits { raw_bytes: self.given.raw_bytes.unwrap_or(usual.raw_bytes), ..usual };
        let store = Store::open(library, self.home.raw_dir(), limits, observer);
        store.with_paranoia(self.given.paranoid)
    }

    /// What can mount for us.
    #[cfg(unix)]
    pub fn mounters(&self) -> super::mounters::Mounters {
        let helper_socket = self.process.mount_helper.clone();
        let helper_socket = helper_socket.unwrap_or_else(|| PathBuf::from("/run/holofs/mount.sock"));
        super::mounters::Mounters { helper_socket }
    }

    /// This program, to be started again; never under the name of the mount(8) helper.
    pub fn this_program(&self) -> anyhow::Result<Command> {
        let ProcessEnv { called_by, path, .. } = &self.process;
        let program = crate::sys::process::program(called_by.as_deref(), path.as_deref());
        let program = program.context("Cannot find the program itself")?;
        let mut command = Command::new(&program);
        command.envs(self.process.replaced.iter().map(|(name, value)| (name, value)));
        #[cfg(unix)]
        if program.file_name().is_some_and(|name| name == "mount.holofs") {
            std::os::unix::process::CommandExt::arg0(&mut command, "holofs");
        }
        Ok(command)
    }
}
