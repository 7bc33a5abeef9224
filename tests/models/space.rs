//! The parts of `space` that the protocol of its own lock needs: files in memory that can be locked and removed, processes that are
//! threads of the model, and a clock that advances each time it is read.

use std::path::{Path, PathBuf};

#[derive(Debug)]
pub enum SpaceError {
    Live {
        #[expect(dead_code, reason = "it is for a message")]
        root: PathBuf,
        holder: Option<crate::sys::process::Process>,
    },
    Io(std::io::Error),
}

impl SpaceError {
    pub fn io(_doing: &'static str, _path: &Path) -> impl Fn(std::io::Error) -> SpaceError {
        SpaceError::Io
    }
}

pub mod sync {
    use std::io::{Error, ErrorKind, Result, Seek, SeekFrom, Write};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use shuttle::sync::Mutex;
    use shuttle::sync::atomic::{AtomicU64, Ordering};

    pub use std::fs::TryLockError;

    /// A file, independent of its name: its lock, and its content.
    #[derive(Debug, Default)]
    pub struct Inode {
        locked: Mutex<bool>,
        content: Mutex<Vec<u8>>,
    }

    shuttle::lazy_static! {
        /// The only name in this model.
        static ref NAME: Mutex<Option<Arc<Inode>>> = Mutex::new(None);
        static ref TICKS: AtomicU64 = AtomicU64::new(0);
    }

    /// An open file; its lock is released when it is closed.
    #[derive(Debug)]
    pub struct File {
        inode: Arc<Inode>,
        locks: std::sync::atomic::AtomicBool,
    }

    impl File {
        fn of(inode: Arc<Inode>) -> File {
            File { inode, locks: false.into() }
        }

        pub fn open(_path: &Path) -> Result<File> {
            NAME.lock().unwrap().clone().map(File::of).ok_or_else(|| ErrorKind::NotFound.into())
        }

        pub fn open_or_make() -> File {
            File::of(Arc::clone(NAME.lock().unwrap().get_or_insert_default()))
        }

        pub fn is_still_there(&self) -> bool {
            NAME.lock().unwrap().as_ref().is_some_and(|inode| Arc::ptr_eq(inode, &self.inode))
        }

        pub fn try_lock(&self) -> std::result::Result<(), TryLockError> {
            let mut locked = self.inode.locked.lock().unwrap();
            if std::mem::replace(&mut *locked, true) {
                return Err(TryLockError::WouldBlock);
            }
            self.locks.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        }

        /// A query takes it for a moment, too.
        pub fn try_lock_shared(&self) -> std::result::Result<(), TryLockError> {
            self.try_lock()
        }

        pub fn try_clone(&self) -> Result<File> {
            Ok(File::of(Arc::clone(&self.inode)))
        }

        pub fn set_len(&self, len: u64) -> Result<()> {
            self.inode.content.lock().unwrap().truncate(usize::try_from(len).map_err(Error::other)?);
            Ok(())
        }
    }

    impl Write for File {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.inode.content.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    impl Seek for File {
        fn seek(&mut self, _to: SeekFrom) -> Result<u64> {
            Ok(0) // only ever to the start of a file that was just emptied
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            if *self.locks.get_mut() {
                *self.inode.locked.lock().unwrap() = false;
            }
        }
    }

    pub fn read(path: &Path) -> Result<Vec<u8>> {
        Ok(File::open(path)?.inode.content.lock().unwrap().clone())
    }

    pub fn remove() {
        *NAME.lock().unwrap() = None;
    }

    /// Each reading advances the clock by half a second.
    #[derive(Debug, Clone, Copy)]
    pub struct Instant(u64);

    impl Instant {
        pub fn now() -> Instant {
            Instant(TICKS.fetch_add(1, Ordering::SeqCst))
        }

        pub fn elapsed(&self) -> Duration {
            Duration::from_millis(500 * (Instant::now().0 - self.0))
        }
    }

    pub fn sleep(_time: Duration) {
        shuttle::thread::yield_now();
    }
}

#[allow(dead_code, reason = "no process of this model passes its lock on")]
#[path = "../../src/space/live.rs"]
pub mod live;
