//! The process that starts a mount, as its server sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

use crate::space::Space;
use crate::sys::mount::MountId;
use crate::sys::process::daemon;

use super::context::Context;
use super::detach;

/// Tracks the starter: if it ends before it has its answer, nothing stays mounted.
#[derive(Debug, Default)]
pub struct Starter(Mutex<Stage>);

/// The progress of the start.
#[derive(Debug, Default)]
enum Stage {
    /// Nothing is mounted yet.
    #[default]
    Claiming,
    /// It is mounted.
    Mounted(Box<Space>, MountId),
    /// The answer is on its way.
    Answered,
}

impl Starter {
    /// Watches stdin, which closes when the starter ends.
    pub fn watch(context: &Context) -> anyhow::Result<Arc<Starter>> {
        let starter = Arc::new(Starter::default());
        let (watched, mounters) = (Arc::clone(&starter), context.mounters());
        let watch = move || {
            let ended = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
            log::debug!("Who started this process is done: {ended:?}");
            match &*watched.stage() {
                Stage::Answered => return,
                Stage::Claiming => {}
                Stage::Mounted(space, id) => {
                    let gone = detach::detach_own(&mounters, &space.root, *id);
                    log::debug!("{} is unmounted, since nobody waits for it: {gone:?}", space.root.display());
                    let cleared = space.clear_mount_state();
                    log::debug!("Its record is removed: {cleared:?}");
                }
            }
            daemon::end()
        };
        std::thread::Builder::new().name("starter".into()).spawn(watch).context("Cannot start a thread")?;
        Ok(starter)
    }

    /// Mounts, unless the starter has ended.
    pub fn mount<T>(
        &self,
        space: &Space,
        mount: impl FnOnce() -> anyhow::Result<(T, MountId)>,
    ) -> anyhow::Result<T> {
        let mut stage = self.stage();
        let (mounted, id) = mount()?;
        *stage = Stage::Mounted(Box::new(space.clone()), id);
        Ok(mounted)
    }

    /// The starter has its answer.
    pub fn has_answered(&self) {
        *self.stage() = Stage::Answered;
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
