//! The process that starts a mount, as its server sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::space::{Space, lease};
use crate::sys::mount::{self, MountId};
use crate::sys::process::{daemon, mailbox};

use super::context::Context;
use super::detach;
use super::error::{SessionError, Tried as _};
use super::mounters::Mounters;
use super::start::Start;

/// The interval of retries while another command holds the start lock.
const RETRY_EVERY: Duration = Duration::from_millis(5);

/// Tracks the starter: if it ends before it has its answer, nothing stays mounted, unless another command uses it already.
#[derive(Debug)]
pub struct Starter {
    stage: Mutex<Stage>,
    mounters: Mounters,
}

/// The progress of the start.
#[derive(Debug, Default)]
enum Stage {
    /// Nothing is mounted yet.
    #[default]
    Claiming,
    /// It is mounted.
    Mounted(Box<Space>, MountId),
    /// The answer is on its way, or is no longer needed.
    Answered,
}

impl Starter {
    /// Watches stdin, which closes when the starter ends.
    pub fn watch(context: &Context) -> Result<Arc<Starter>, SessionError> {
        let starter = Arc::new(Starter { stage: Mutex::default(), mounters: context.mounters() });
        let watched = Arc::clone(&starter);
        let watch = move || {
            let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            log::debug!("The starter of this process is done: {ended:?}");
            watched.is_gone();
        };
        std::thread::Builder::new().name("starter".into()).spawn(watch).tried("Cannot start a thread")?;
        Ok(starter)
    }

    /// Mounts, unless the starter has ended. The space is claimed already. A starter that still exists has held the start lock
    /// until now, since its end of the pipe closes before the lock is released ([`Start`]): so every later command sees the
    /// claim, and no earlier command can have begun to use what is at the path.
    pub fn mount<T>(
        &self,
        space: &Space,
        mount: impl FnOnce() -> Result<(T, MountId), SessionError>,
    ) -> Result<T, SessionError> {
        let mut stage = self.stage();
        if !mailbox::is_whole(std::io::stdin()) {
            return Err(SessionError::State("The command that requested the mount has ended".into()));
        }
        let (mounted, id) = mount()?;
        *stage = Stage::Mounted(Box::new(space.clone()), id);
        Ok(mounted)
    }

    /// Answers the starter with `answer`. As soon as it can read the answer, it may end.
    pub fn answer(&self, answer: impl FnOnce() -> Result<(), SessionError>) {
        let mut stage = self.stage();
        match answer() {
            Ok(()) => *stage = Stage::Answered,
            Err(error) => {
                log::debug!("{error}");
                drop(stage);
                self.is_gone();
            }
        }
    }

    /// The starter has ended. Without an answer, the mount is removed and this process ends, unless the mount is in use by now.
    fn is_gone(&self) {
        let mut stage = self.stage();
        match &*stage {
            Stage::Answered => return,
            Stage::Claiming => {}
            Stage::Mounted(space, id) => {
                let start = start_lock(space, *id);
                if !lease::users(&space.state_dir).is_empty() {
                    log::debug!("{} is in use by another command and stays", space.root.display());
                    *stage = Stage::Answered;
                    return;
                }
                let gone = detach::detach_own(&self.mounters, &space.root, *id);
                log::debug!("{} is unmounted, since no command waits for it: {gone:?}", space.root.display());
                let cleared = space.clear_mount_state();
                log::debug!("Its record is removed: {cleared:?}");
                drop(start);
            }
        }
        daemon::end()
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The start lock, so that no command joins meanwhile; `None` once the mount is gone, because the holder of the lock may wait for
/// that.
fn start_lock(space: &Space, id: MountId) -> Option<Start> {
    while mount::mount_at(&space.root).is_ok_and(|there| there == id) {
        match Start::attempt(space) {
            Ok(None) => std::thread::sleep(RETRY_EVERY),
            Ok(taken) => return taken,
            Err(error) => {
                log::debug!("{}: no start lock: {error}", space.root.display());
                return None;
            }
        }
    }
    None
}
