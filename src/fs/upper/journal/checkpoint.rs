//! Copying the log into the database, behind the back of those who write.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use rusqlite::{Connection, Row};

use super::{Access, connect};

/// Copies the log into the database; how many pages the log has.
pub(super) fn copy_log(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    let pages = |row: &Row<'_>| row.get::<_, i64>(1);
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], pages)
}

/// The thread that does it. It waits for the disk, and nobody for it; dropped, it ends after what it is doing.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    log_pages: Arc<AtomicI64>,
}

impl Checkpointer {
    /// Starts it for the database at `path`. Without a thread, writers copy the log themselves.
    pub fn start(path: PathBuf) -> Checkpointer {
        let (wake, woken) = sync_channel(1);
        let log_pages = Arc::new(AtomicI64::new(0));
        let left = Arc::clone(&log_pages);
        let thread =
            std::thread::Builder::new().name("checkpoint".into()).spawn(move || serve(&path, &woken, &left));
        if thread.is_err() {
            log_pages.store(i64::MAX, Ordering::Relaxed);
        }
        Checkpointer { wake: Some(wake), thread: thread.ok(), log_pages }
    }

    /// How many pages the log had when it was last copied.
    pub fn log_pages(&self) -> i64 {
        self.log_pages.load(Ordering::Relaxed)
    }

    /// Has the log copied, soon.
    pub fn wake(&self) {
        if let Some(wake) = &self.wake
            && let Err(TrySendError::Disconnected(())) = wake.try_send(())
        {
            self.log_pages.store(i64::MAX, Ordering::Relaxed);
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("The thread that copies the log has panicked");
        }
    }
}

fn serve(path: &Path, woken: &Receiver<()>, log_pages: &AtomicI64) {
    let mut connection = None;
    while woken.recv().is_ok() {
        if connection.is_none() {
            connection = connect(path, Access::Writable).inspect_err(|error| log::warn!("{error}")).ok();
        }
        let Some(connection) = &connection else { return };
        match copy_log(connection, "PASSIVE") {
            Ok(pages) => log_pages.store(pages, Ordering::Relaxed),
            Err(error) => log::warn!("Cannot copy the log into {}: {error}", path.display()),
        }
    }
}
