//! The thread that makes changes durable a few seconds after they were made, without an explicit sync.
//!
//! So a power cut loses at most a few seconds of changes, the space of removed files is freed, and the kernel, which writes data
//! that is 30 s old in its own order, finds nothing to write. Only this thread waits for the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::disk::Disk;
use crate::error::chain;

/// How long a change waits: the commit interval of ext4.
const AFTER: Duration = Duration::from_secs(5);

/// The thread; when dropped, it finishes its current work and ends.
pub(super) struct Keeper {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    is_awake: Arc<AtomicBool>,
}

impl Keeper {
    /// Starts the thread. If that fails, a warning is logged, and only explicit syncs make changes durable.
    pub fn start(disk: Arc<Disk>) -> Keeper {
        let (wake, woken) = sync_channel(1);
        let is_awake = Arc::new(AtomicBool::new(false));
        let awake = Arc::clone(&is_awake);
        let thread =
            std::thread::Builder::new().name("keeper".into()).spawn(move || serve(&disk, &woken, &awake));
        let thread = thread.inspect_err(|error| log::warn!("Only fsync makes changes durable: {error}")).ok();
        Keeper { wake: Some(wake), thread, is_awake }
    }

    /// Reports a change.
    pub fn changed(&self) {
        if !self.is_awake.load(Ordering::Relaxed) && !self.is_awake.swap(true, Ordering::AcqRel) {
            self.hurry();
        }
    }

    /// Reports a change that should be synced at once.
    pub fn hurry(&self) {
        if let Some(wake) = &self.wake {
            // Full: already woken, but has not run yet. Disconnected: there is no thread, which was logged.
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
    let log_is_long = || disk.journal.get().is_some_and(|journal| journal.log_is_long());
    // The log of a killed process does not wait.
    let mut after = if log_is_long() { Duration::ZERO } else { AFTER };
    while woken.recv().is_ok() {
        if let Err(RecvTimeoutError::Disconnected) = woken.recv_timeout(after) {
            return; // the code that closes the upper has synced it, if wanted
        }
        after = AFTER;
        is_awake.store(false, Ordering::Release);
        disk.drop_prepared();
        let is_long = log_is_long();
        if let Err(error) = disk.sync(is_long) {
            log::warn!("{}: what was changed is not durable yet", chain(&error));
        }
    }
}
