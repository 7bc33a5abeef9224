//! The thread that makes durable what nobody asked to be, a few seconds after it was changed.
//!
//! So a power cut costs seconds, the room of removed files comes back, and the kernel, which writes what is some 30 seconds old in an
//! order of its own, finds nothing to write. It waits for the disk, and nobody waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::Disk;
use crate::error::chain;

/// How long a change waits: what ext4 does with its own.
const AFTER: Duration = Duration::from_secs(5);

/// The thread; dropped, it ends after what it is doing.
pub(super) struct Keeper {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    is_awake: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts it. Without a thread only what is asked for becomes durable, which is told.
    pub fn start(disk: Arc<Disk>) -> Keeper {
        let (wake, woken) = sync_channel(1);
        let is_awake = Arc::new(AtomicBool::new(false));
        let awake = Arc::clone(&is_awake);
        let thread =
            std::thread::Builder::new().name("keeper".into()).spawn(move || serve(&disk, &woken, &awake));
        let thread = thread.inspect_err(|error| log::warn!("Only fsync makes changes durable: {error}")).ok();
        Keeper { wake: Some(wake), thread, is_awake }
    }

    /// Something was changed.
    pub fn changed(&self) {
        if !self.is_awake.load(Ordering::Relaxed) && !self.is_awake.swap(true, Ordering::AcqRel) {
            self.hurry();
        }
    }

    /// Something was changed, and there is no time to wait.
    pub fn hurry(&self) {
        if let Some(wake) = &self.wake {
            // Full: it was woken and has not looked yet. Disconnected: there is no thread, which was told.
            wake.try_send(()).unwrap_or_default();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.wake = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("The thread that makes changes durable has panicked");
        }
    }
}

fn serve(disk: &Disk, woken: &Receiver<()>, is_awake: &AtomicBool) {
    while woken.recv().is_ok() {
        if let Err(RecvTimeoutError::Disconnected) = woken.recv_timeout(AFTER) {
            return; // whoever ends the upper has synced it, if they wished to
        }
        is_awake.store(false, Ordering::Release);
        let is_long = disk.journal.get().is_some_and(|journal| journal.log_is_long());
        if let Err(error) = disk.sync(is_long) {
            log::warn!("{}: what was changed is not durable yet", chain(&error));
        }
    }
}
