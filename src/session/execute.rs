//! Runs a command in an available space: RCC's variables, a place for bytecode, signals and exit status.
//!
//! The status of the command is final: failures after it has ended are warnings.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use crate::error::chain;
use crate::rcc::home::Settings;
use crate::remote::lazy;
use crate::space::Space;
use crate::space::bytecode::{Prefix, idle_place, inherit, pack_place, seed};
use crate::space::temp::{self, RunTemp};
use crate::store::index::{Head, Index};
use crate::store::observe::Unread;
use crate::sys::fs::place::Place;
use crate::sys::process::{command, this_process};

use super::compile;
use super::context::Context;
use super::error::{CannotStart, SessionError, Tried as _};
use super::variables::{self, Variable};

/// Set by RCC to keep Python from writing bytecode.
const NO_BYTECODE: &str = "PYTHONDONTWRITEBYTECODE";
/// Where Python stores bytecode, if not next to the sources.
const BYTECODE_PREFIX: &str = "PYTHONPYCACHEPREFIX";

/// How long the bytecode of a remote environment may take to arrive, and how often to look.
const ARRIVING: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A shorter command has compiled almost nothing.
const SHORT: Duration = Duration::from_millis(50);

/// How Python handles bytecode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bytecode {
    /// It writes none, as with RCC.
    Off,
    /// Bytecode of the space's files stays with the space.
    OfSpace,
    /// All bytecode is deleted after the run; the space cannot change meanwhile.
    OfRun,
}

/// An available space, and how to run in it.
pub struct Execution<'a> {
    /// The invocation.
    pub context: &'a Context,
    /// The space.
    pub space: &'a Space,
    /// Its catalog.
    pub head: &'a Head,
    /// The catalog as named by the user.
    pub catalog: &'a str,
    /// How Python handles bytecode.
    pub bytecode: Bytecode,
    /// Commands that must succeed before the command.
    pub before: &'a [Vec<OsString>],
    /// The working directory of all commands, if not the current one.
    pub directory: Option<&'a Path>,
    /// The reads that failed in its mount before the command, if they are known.
    pub unread: Option<Unread>,
    /// The entries of the catalog, once they were needed.
    pub index: OnceLock<Arc<Index>>,
}

impl Execution<'_> {
    /// Runs `command` to its end, and returns its status. Runs `meanwhile` while the command runs.
    pub fn command(
        &self,
        command: &[OsString],
        meanwhile: impl FnOnce(),
    ) -> Result<ExitStatus, SessionError> {
        let parents = [self.context.home.temp_dir(), self.context.process.temp_dir.clone()];
        let idle = self.keeps_bytecode().then(|| idle_place(self.space));
        let mut temp = RunTemp::take(idle.as_ref(), &parents)
            .tried_with(|| format!("Cannot make a temporary directory in {}", parents[0].display()))?;
        let remote = self.remote_bytecode();
        let prefix = self.prefix(remote.as_ref(), &mut temp);
        let variables = self.variables(&temp.files(), prefix.as_ref())?;
        let signals = command::catch().tried("Cannot handle signals")?;
        let before = self.unread.clone().or_else(|| unread(&self.space.root));
        if let Some(status) = self.scripts(&signals, &variables, prefix.is_some())? {
            return Ok(status);
        }
        let started = Instant::now();
        let mut child = self.start(command, variables, &signals, prefix.is_some())?;
        if temp::has_others(&parents[0], &temp) {
            sweep(parents[0].clone());
        }
        let ended = AtomicBool::new(false);
        let status = std::thread::scope(|scope| {
            if let Some(prefix) = prefix.as_ref().filter(|prefix| self.may_seed(prefix, remote.as_ref())) {
                let seed = || self.seed(prefix, remote.as_ref(), &ended);
                let started = std::thread::Builder::new().name("bytecode".into()).spawn_scoped(scope, seed);
                drop(started.inspect_err(|error| log::debug!("No shared bytecode: {error}")));
            }
            meanwhile();
            let status = command::wait(&mut child);
            ended.store(true, Ordering::Relaxed);
            status
        });
        let status = status.tried("Cannot wait for the command")?;
        tell_unread(before, unread(&self.space.root));
        // A shorter command compiled nothing worth sharing, and checking would take longer than the command; but what an isolated one
        // compiled is lost, and every other one would compile it again.
        if started.elapsed() > SHORT || self.bytecode == Bytecode::OfRun {
            self.share(prefix.as_ref(), remote);
        }
        Ok(status)
    }

    /// Runs what must succeed before the command; the status of what a signal ended, as if it were the command.
    fn scripts(
        &self,
        signals: &command::Caught,
        variables: &[Variable],
        keeps_bytecode: bool,
    ) -> Result<Option<ExitStatus>, SessionError> {
        for words in self.before {
            let mut child = self.start(words, variables.to_vec(), signals, keeps_bytecode)?;
            let status = command::wait(&mut child).tried("Cannot wait for the command")?;
            if command::that_ended(status).is_some() {
                return Ok(Some(status));
            }
            if !status.success() {
                let script = words.join(OsStr::new(" "));
                let what =
                    format!("The command {} failed, which runs before the task: {status}", script.display());
                return Err(SessionError::State(what.into()));
            }
        }
        Ok(None)
    }

    /// Starts a command, and forwards signals to it.
    fn start(
        &self,
        words: &[OsString],
        variables: Vec<Variable>,
        signals: &command::Caught,
        keeps_bytecode: bool,
    ) -> Result<Child, SessionError> {
        let child = start(words, variables, self.directory, keeps_bytecode)?;
        if let Err(error) = signals.pass_on(child.id()) {
            log::warn!("Signals are not forwarded to the command: {error}");
        }
        Ok(child)
    }

    /// RCC's variables; with bytecode enabled, also Python's variable for its directory.
    fn variables(&self, temp: &Path, prefix: Option<&Prefix>) -> Result<Vec<Variable>, SessionError> {
        let settings = Settings::read(&self.context.home)?;
        let sources = variables::Sources {
            home: &self.context.home,
            settings: &settings,
            root: &self.space.root,
            blueprint: self.head.blueprint(),
            temp,
            path: self.context.process.path.clone(),
            unmanaged: self.context.process.unmanaged,
            extra: &self.context.process.extra,
        };
        let mut variables = variables::of(&sources)?;
        if let Some(prefix) = prefix {
            variables.retain(|(key, _)| key != NO_BYTECODE && key != BYTECODE_PREFIX);
            variables.push((BYTECODE_PREFIX.to_owned(), prefix.path.clone().into_os_string()));
        }
        Ok(variables)
    }

    /// True if bytecode of the space's files stays with the space. Not if paranoid: stored bytecode cannot be verified.
    fn keeps_bytecode(&self) -> bool {
        let unmanaged = self.context.process.unmanaged.bytecode;
        self.bytecode == Bytecode::OfSpace && !unmanaged && !self.context.paranoid
    }

    /// Where Python finds and stores bytecode. This only saves time: without a directory of the space, one of the run is used.
    fn prefix(&self, remote: Option<&Place>, temp: &mut RunTemp) -> Option<Prefix> {
        if self.bytecode == Bytecode::Off || self.context.process.unmanaged.bytecode {
            return None;
        }
        let (root, frozen) = (&self.space.root, self.bytecode == Bytecode::OfRun);
        let own = self.keeps_bytecode().then(|| {
            let remote = remote.and_then(|place| place.path().parent()?.file_name()?.to_str());
            Prefix::of_space(self.space, self.head, remote, temp)
        });
        let prefix = own.unwrap_or_else(|| Prefix::of_run(root, temp, frozen)).or_else(|error| {
            log::debug!("Bytecode is lost with the run: {error}");
            Prefix::of_run(root, temp, frozen)
        });
        prefix
            .inspect_err(|error| {
                log::warn!("Cannot keep bytecode, so Python compiles what it imports: {error}")
            })
            .ok()
    }

    /// Where the bytecode is, or will be, that comes with a remote environment.
    fn remote_bytecode(&self) -> Option<Place> {
        let origin = lazy::origin(&self.context.home, Path::new(self.catalog))?;
        origin.has_bytecode.then(|| lazy::bytecode(&self.context.home, &origin.head))
    }

    /// Fills `prefix` with the shared bytecode of all spaces, and with that of the remote environment, until the command ends.
    fn seed(&self, prefix: &Prefix, remote: Option<&Place>, ended: &AtomicBool) {
        if self.context.paranoid {
            return;
        }
        let seeded = self.index().and_then(|index| {
            self.inherit(&index, ended);
            let mut copied = seed::seed(prefix, &self.pack(), &index, ended)?;
            if let Some(remote) = remote.filter(|remote| self.has_arrived(remote, ended)) {
                copied += seed::seed(prefix, remote, &index, ended)?;
            }
            Ok(copied)
        });
        match seeded {
            Ok(copied) => log::debug!("{copied} files of shared bytecode copied"),
            Err(error) => log::debug!("No shared bytecode: {}", chain(&error)),
        }
    }

    /// Waits for the fetcher to bring the bytecode; false if the command ends before.
    fn has_arrived(&self, remote: &Place, ended: &AtomicBool) -> bool {
        let started = Instant::now();
        while !matches!(remote.is_there(), Ok(true)) {
            if self.context.given.offline || ended.load(Ordering::Relaxed) || started.elapsed() > ARRIVING {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }

    /// Creates the shared bytecode from that of other catalogs, if there is none yet.
    fn inherit(&self, index: &Index, ended: &AtomicBool) {
        if self.context.cache_not_writable().is_some() || !inherit::may_inherit(&self.pack()) {
            return;
        }
        match inherit::inherit(&self.pack(), index, ended) {
            Ok(taken) => log::debug!("{taken} files of shared bytecode taken over from other catalogs"),
            Err(error) => log::debug!("No bytecode is taken over from other catalogs: {error}"),
        }
    }

    /// False if there is certainly no bytecode to copy.
    fn may_seed(&self, prefix: &Prefix, remote: Option<&Place>) -> bool {
        let pack = self.pack();
        let may_arrive =
            |remote: &Place| seed::may_seed(prefix, remote) || !matches!(remote.is_there(), Ok(true));
        seed::may_seed(prefix, &pack) || inherit::may_inherit(&pack) || remote.is_some_and(may_arrive)
    }

    fn pack(&self) -> Place {
        pack_place(&self.context.home, self.head, this_process::effective_uid())
    }

    /// Shares what was imported in this space with other spaces.
    fn share(&self, prefix: Option<&Prefix>, remote: Option<Place>) {
        let Some(prefix) = prefix.filter(|_| self.context.cache_not_writable().is_none()) else { return };
        let packs: Vec<Place> = std::iter::once(self.pack()).chain(remote).collect();
        match self.index().and_then(|index| Ok(seed::imported(prefix, &packs, &index)?)) {
            Ok(seen) => {
                let fewest = if self.bytecode == Bytecode::OfRun { 1 } else { compile::WORTH_IT };
                compile::after_run(self.context, self.catalog, &seen, fewest);
            }
            Err(error) => log::debug!("The imported modules are unknown: {}", chain(&error)),
        }
    }

    fn index(&self) -> Result<Arc<Index>, SessionError> {
        if let Some(index) = self.index.get() {
            return Ok(Arc::clone(index));
        }
        let index = Arc::new(self.context.index_of(self.catalog, &self.head.id())?);
        Ok(Arc::clone(self.index.get_or_init(|| index)))
    }
}

/// The reads of missing or damaged content in the mount at `root`; `None` if nothing is mounted there.
#[cfg(unix)]
fn unread(root: &Path) -> Option<Unread> {
    crate::fs::fuse::unread(root).ok()
}

/// Without mounts, all files are written before the command starts.
#[cfg(not(unix))]
fn unread(_root: &Path) -> Option<Unread> {
    None
}

/// Reports unreadable content: the program itself may not have reported it, or not clearly.
fn tell_unread(before: Option<Unread>, after: Option<Unread>) {
    let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
    let unsupplied = after.unsupplied.saturating_sub(before.unsupplied);
    let failed = after.reads.saturating_sub(before.reads).saturating_sub(unsupplied);
    if unsupplied > 0 {
        log::warn!(
            "{unsupplied} reads failed in this run, since the remote did not supply the content; the first failure: {}",
            after.why
        );
    }
    if failed > 0 {
        log::warn!(
            "{failed} reads failed in this run, since content is missing from the hololib or damaged; \
             `holofs check` lists it"
        );
    }
}

/// Removes directories left by killed runs, in the background.
fn sweep(parent: PathBuf) {
    let work = move || match temp::sweep(&parent, false) {
        Ok(left) => left.iter().for_each(|dir| log::info!("A run that was killed left {}", dir.display())),
        Err(error) => log::debug!("Cannot clean up {}: {error}", parent.display()),
    };
    if let Err(error) = std::thread::Builder::new().name("sweep".into()).spawn(work) {
        log::debug!("Cannot start the cleanup thread: {error}");
    }
}

/// Starts the command; with `keeps_bytecode`, an inherited variable that disables bytecode is removed.
fn start(
    words: &[OsString],
    variables: Vec<Variable>,
    directory: Option<&Path>,
    keeps_bytecode: bool,
) -> Result<Child, SessionError> {
    let (program, arguments) = words.split_first().tried("No command is given")?;
    let path = variables.iter().rev().find(|(key, _)| key == "PATH").map(|(_, value)| value.clone());
    let found = resolve(program, path.as_deref());
    let mut child = Command::new(&found);
    child.args(arguments).env_remove("VIRTUAL_ENV").envs(variables);
    if keeps_bytecode {
        child.env_remove(NO_BYTECODE);
    }
    directory.map(|directory| child.current_dir(directory));
    command::as_found(&mut child);
    let started = child.spawn();
    Ok(started.map_err(|source| CannotStart {
        program: program.clone(),
        is_there: found.exists(),
        source,
    })?)
}

/// Suffixes of program names, in the order in which they are searched in each directory.
const ENDINGS: &[&str] = if cfg!(windows) { &[".exe", ".com", ".bat", ".cmd", ""] } else { &[""] };

/// Finds the program in the space's PATH, which is not this process's PATH; one that cannot be executed only if there is no other.
fn resolve(program: &OsString, path: Option<&OsStr>) -> PathBuf {
    let named = Path::new(program);
    if named.components().count() > 1 {
        return named.to_owned();
    }
    let dirs = path.map(std::env::split_paths).into_iter().flatten();
    let places = dirs.flat_map(|dir| ENDINGS.iter().map(move |ending| with_ending(&dir, program, ending)));
    let mut unusable = None;
    for place in places.filter(|place| place.is_file()) {
        if is_executable(&place) {
            return place;
        }
        unusable.get_or_insert(place);
    }
    unusable.unwrap_or_else(|| named.to_owned())
}

#[cfg(unix)]
fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(_file: &Path) -> bool {
    true
}

fn with_ending(dir: &Path, program: &OsString, ending: &str) -> PathBuf {
    let mut name = program.clone();
    name.push(ending);
    dir.join(name)
}
