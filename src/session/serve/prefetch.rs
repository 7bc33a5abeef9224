//! The profile of a mount: where it is stored, when it is walked, when it is saved.

use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::fs::fuse::priming::{self, Primer, Recorder};
use crate::fs::fuse::profile::Profile;
use crate::rcc::catalog::CatalogId;
use crate::session::context::Context;
use crate::session::error::{SessionError, Tried as _};
use crate::session::request::{MountRequest, ProfileAt};
use crate::sys::fs::dir;
use crate::sys::fs::place::Place;
use crate::sys::fs::stat;
use crate::sys::mount;
use crate::sys::mount::view::View;
use crate::sys::process::daemon;
use crate::sys::process::sandbox::Sandbox;

use super::establish::Mounted;
use super::quiet::Quiet;

/// The interval of the check whether the mount still exists.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where a profile is stored.
enum Kept {
    /// In our own state.
    Ours(Place),
    /// In a file given by the user.
    Given(PathBuf),
}

/// The profile handling of a mount.
pub struct Prefetch {
    recorder: Arc<Recorder>,
    catalog: CatalogId,
    /// Where the profile is stored; `None` with `--profile off`.
    file: Option<Kept>,
    profile: Profile,
    reads_ahead: bool,
    walker: Walker,
}

impl Prefetch {
    /// Reads the profile of the mount's catalog, if there is one.
    pub fn new(
        context: &Context,
        request: &MountRequest,
        mounted: &Mounted,
        recorder: Arc<Recorder>,
    ) -> Prefetch {
        let catalog = mounted.index.id();
        let file = match &request.profile {
            ProfileAt::Off => None,
            ProfileAt::Auto | ProfileAt::Noted => {
                Some(Kept::Ours(context.home.profiles_dir().below(catalog.to_string())))
            }
            ProfileAt::File(path) => Some(Kept::Given(path.clone())),
        };
        let profile = file.as_ref().map(|file| file.read(&catalog)).unwrap_or_default();
        let reads_ahead = request.profile != ProfileAt::Noted;
        Prefetch { recorder, catalog, file, profile, reads_ahead, walker: Walker::default() }
    }

    /// Starts a process that walks the profile, unless it is empty.
    pub fn start(&self, context: &Context, mounted: &Mounted, quiet: &Quiet) -> Result<(), SessionError> {
        if self.profile.items().is_empty() || !self.reads_ahead {
            return Ok(());
        }
        let (recorder, profile) = (Arc::clone(&self.recorder), self.profile.clone());
        let (index, root) = (Arc::clone(&mounted.index), mounted.space.root.clone());
        let quiet = quiet.clone();
        let command = context.this_program()?;
        let device = mount::seen(&root).map(|seen| seen.device)?;
        let walker = self.walker.clone();
        let guide = move || {
            let guided = walker.start(command).and_then(|primer| {
                let Some(primer) = primer else { return Ok(()) };
                walker.end_with_mount(root.clone(), device, quiet.clone())?;
                let guided = recorder.guide(&profile, &index, &root, quiet.flag(), primer);
                walker.wait().and(guided)
            });
            if let Err(error) = guided {
                log::debug!("Priming ended early: {error}");
            }
        };
        std::thread::Builder::new().name("prime".into()).spawn(guide).map(drop).tried("Cannot start a thread")
    }

    /// Ends the priming process: no process of a mount outlives its server.
    pub fn end(&self) {
        self.walker.end();
    }

    /// Saves new requests after the known ones. Losing them costs only time.
    pub fn save(&self) {
        let Some(file) = &self.file else { return };
        let mut merged = self.profile.clone();
        merged.merge(&self.recorder.profile());
        if merged == self.profile {
            return;
        }
        if let Err(error) = file.write(&merged.to_text(&self.catalog)) {
            log::warn!("Cannot keep the profile {}: {error}", file.path().display());
        }
    }
}

/// The priming process, which has low priority: on a busy machine it takes long to end by itself.
#[derive(Clone, Default)]
struct Walker(Arc<Mutex<State>>);

/// What there is of it.
#[derive(Default)]
enum State {
    #[default]
    NotStarted,
    Running(Child),
    /// It was waited for, and no other one may start.
    Over,
}

impl Walker {
    /// Starts the process; `None` if the server ends.
    fn start(&self, mut command: Command) -> std::io::Result<Option<Primer<ChildStdin, ChildStdout>>> {
        let mut state = self.state();
        if let State::Over = *state {
            return Ok(None);
        }
        let mut child = command.arg("prime").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (pid, pipes) = (child.id(), (child.stdin.take(), child.stdout.take()));
        *state = State::Running(child);
        match pipes {
            (Some(requests), Some(answers)) => Ok(Some(Primer { pid, requests, answers })),
            _ => Err(std::io::Error::other("the primer has no pipes")),
        }
    }

    /// Ends the process when the mount of `device` is gone from `root`, or on request: its view keeps the file system alive.
    fn end_with_mount(&self, root: PathBuf, device: u64, quiet: Quiet) -> std::io::Result<()> {
        let walker = self.clone();
        let is_there = move || mount::seen(&root).is_ok_and(|seen| seen.device == device);
        let watch = move || {
            while !quiet.wait(LOOK_EVERY) && is_there() {
                if let State::Over = *walker.state() {
                    return;
                }
            }
            log::debug!("Prefetching is stopped");
            walker.end();
        };
        std::thread::Builder::new().name("prime-watch".into()).spawn(watch).map(drop)
    }

    /// Waits for the process, after all requests were sent.
    fn wait(&self) -> std::io::Result<()> {
        loop {
            let mut state = self.state();
            let State::Running(child) = &mut *state else { return Ok(()) };
            if child.try_wait()?.is_some() {
                *state = State::Over;
                return Ok(());
            }
            drop(state);
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Kills the process, waits for it, and starts no other one.
    fn end(&self) {
        let mut state = self.state();
        if let State::Running(child) = &mut *state
            && let Err(error) = child.kill().and_then(|()| child.wait().map(drop))
        {
            log::debug!("The priming process ended before: {error}");
        }
        *state = State::Over;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The priming process: see [`priming::prime`].
pub fn main() -> Result<(), SessionError> {
    daemon::lower_priority();
    let mut held = None;
    let view = |root: &Path| {
        let path = View::of(root).map(|view| held.insert(view).path()).unwrap_or_else(|error| {
            log::debug!("{} is busy while it is read ahead: {error}", root.display());
            root.to_owned()
        });
        // From here on it can read only below the mount.
        let closed = Sandbox { read: vec![path.clone()], ..Sandbox::default() }.close();
        if !closed.is_complete() {
            log::debug!("The sandbox of reading ahead is not complete: {}", closed.missing.join("; "));
        }
        path
    };
    if let Err(error) = priming::prime(std::io::stdin().lock(), std::io::stdout(), view) {
        log::debug!("Reading ahead ended: {error}");
    }
    Ok(())
}

/// The maximum size of a profile in bytes.
const MOST: u64 = 16 << 20;

impl Kept {
    fn path(&self) -> &Path {
        match self {
            Kept::Ours(place) => place,
            Kept::Given(path) => path,
        }
    }

    /// The profile; empty if it is missing or unusable.
    fn read(&self, catalog: &CatalogId) -> Profile {
        let bytes = match self {
            Kept::Ours(place) => place.read(MOST),
            Kept::Given(path) => stat::read_regular(path, MOST),
        };
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(error) => {
                log::debug!("No profile {}: {error}", self.path().display());
                return Profile::default();
            }
        };
        let known = std::str::from_utf8(&bytes).ok().and_then(|text| Profile::from_text(text, catalog));
        known.unwrap_or_else(|| {
            log::warn!("{} is not a profile of catalog {catalog}; ignored", self.path().display());
            Profile::default()
        })
    }

    fn write(&self, text: &str) -> std::io::Result<()> {
        match self {
            Kept::Ours(place) => place.publish(text.as_bytes()),
            Kept::Given(path) => {
                dir::ensure_private(path.parent().unwrap_or(Path::new("")))?;
                dir::publish(path, text.as_bytes())
            }
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::sys::process::Process;

    #[test]
    fn ended_process_is_gone_and_no_other_one_starts() {
        let walker = Walker::default();
        // Ends when its input does, so it does not end by itself.
        let mut wait = Command::new("sh");
        wait.args(["-c", "cat; exec sleep 600"]);
        let primer = walker.start(wait).unwrap().unwrap();
        let process = Process::with_id(primer.pid);
        assert!(process.is_alive());
        walker.end();
        assert!(!process.is_alive());
        assert!(walker.start(Command::new("sh")).unwrap().is_none());
        walker.wait().unwrap();
    }
}
