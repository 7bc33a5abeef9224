//! The rows on disk: committed before an operation returns, durable after a sync.
//!
//! A commit is appended to SQLite's write-ahead log without waiting for the disk (`synchronous=NORMAL`): it survives the death of
//! this process, but not a power cut. [`Journal::sync`] makes all commits so far durable. The log is copied into the database through
//! a separate connection, so that no operation waits for it. A commit is one write (see [`crate::sys::sqlite`]).
//!
//! Concurrent commits share a transaction: the thread that gets the connection writes everything that is queued. The commits change
//! different inodes (see `locks`), so their order does not matter. If the transaction fails, all of them fail.
//!
//! An epoch is the time between two syncs of file names. A row that gives an inode bytes contains the epoch in which its file was
//! created, until that epoch is over.
//!
//! Lock order: `rows`, then `queue`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use crate::sys::fs::place::Place;
use crate::sys::fs::stat::open_to_read;
use crate::sys::sqlite::{self, Reading};

use super::on_disk::{self, DATABASE, remove};
use super::open_mark::{self, OpenMark};
use super::schema::{self, APPLICATION, FORMAT, LoadError, Loaded, OUTLIVING, Writing};
use super::tables::Change;
use super::{Access, UpperError};
use crate::error::chain;

/// The database while it is created: it is renamed when complete, so an empty database is always damage.
const UNFINISHED: &str = "state.db.new";
/// Small pages: a commit appends whole pages to the log, however little they hold.
const PAGE_BYTES: u32 = 1024;
/// Transactions between two checkpoints: some 40 MB of log. A checkpoint waits for the disk, and on ext4 file creation waits with it,
/// so it is rare: reading such a log after a crash takes some 50 ms.
const CHECKPOINT_EVERY: u64 = 16_000;
/// At this many pages in the log (128 MiB) a writer does the checkpoint itself, because the other thread does not keep up.
const LOG_PAGES_MAX: i64 = 128 << 10;

/// How long to wait for a lock. Only this process writes, and readers hold no lock for long.
const BUSY: Duration = Duration::from_millis(500);

type Outcome = Result<(), Arc<rusqlite::Error>>;

struct Queued {
    changes: Arc<[Change]>,
    outcome: Arc<OnceLock<Outcome>>,
}

/// The open database.
pub(super) struct Journal {
    // In drop order: the session ends before the connections close.
    session: Option<OpenMark>,
    path: PathBuf,
    rows: Mutex<Rows>,
    queue: Mutex<Vec<Queued>>,
    committed: AtomicU64,
    synced: Mutex<u64>,
    /// For copying the log; opened at the first use.
    copying: Mutex<Option<Connection>>,
    is_long: AtomicBool,
    log_pages: AtomicI64,
}

/// The state of the writer.
struct Rows {
    /// Begun before a commit, dropped before the log is copied and after a failure; always before the connection.
    reading: Option<Reading>,
    /// `None` if it was closed after a failure and could not be reopened yet.
    connection: Option<Connection>,
    /// A commit failed, but its rows may be in the log.
    is_unsure: bool,
    writing: Writing,
    /// The current epoch.
    epoch: u64,
}

impl Journal {
    /// Creates the database of a space that was never written.
    pub fn create(dir: &Place, catalog: &str, next_ino: u64, access: Access) -> Result<Journal, UpperError> {
        let (path, unfinished) = (dir.join(DATABASE), dir.join(UNFINISHED));
        for leftover in [
            "state.db.new",
            "state.db.new-wal",
            "state.db.new-shm",
            on_disk::OPEN,
            "state.db-wal",
            "state.db-shm",
        ] {
            remove(&dir.join(leftover))?;
        }
        let failed = |source| database("create", &unfinished, source);
        let connection = Connection::open(&unfinished).map_err(failed)?;
        on_disk::private(&unfinished)?;
        let settings = format!(
            "PRAGMA page_size={PAGE_BYTES}; PRAGMA application_id={APPLICATION}; PRAGMA user_version={FORMAT};
             PRAGMA journal_mode=WAL; BEGIN; {}",
            schema::CREATE
        );
        connection.execute_batch(&settings).map_err(failed)?;
        let row = (catalog, next_ino.cast_signed());
        connection.execute("INSERT INTO space(catalog, next_ino) VALUES(?1, ?2)", row).map_err(failed)?;
        connection.execute_batch("COMMIT").map_err(failed)?;
        // Closing would copy it too, but would not report a failure: then most of the database would remain in the log.
        copy_log(&connection, "TRUNCATE").map_err(failed)?;
        connection.close().map_err(|(_, source)| failed(source))?;
        // Durable before any bytes exist: bytes without a database are damage.
        let published =
            std::fs::rename(&unfinished, &path).and_then(|()| File::open(dir)).and_then(|dir| dir.sync_all());
        published.map_err(|source| UpperError::Io { doing: "publish", path, source })?;
        Journal::open(dir, access)
    }

    /// Opens an existing database.
    pub fn open(dir: &Place, access: Access) -> Result<Journal, UpperError> {
        let path = open_mark::real(dir)?.join(DATABASE);
        on_disk::check_not_empty(&path)?;
        open_mark::check_log(dir)?;
        let connection = connect(&path, access)?;
        check_format(&connection, &path)?;
        let session = access.is_writable().then(|| OpenMark::begin(dir)).transpose()?;
        let is_long = session.as_ref().is_some_and(|session| session.left_much);
        let journal = Journal {
            session,
            path,
            rows: Mutex::new(Rows::new(connection)),
            queue: Mutex::default(),
            committed: AtomicU64::new(1), // what an earlier process left in the log may not be durable
            synced: Mutex::new(0),
            copying: Mutex::default(),
            is_long: AtomicBool::new(is_long),
            log_pages: AtomicI64::new(0),
        };
        if access.is_writable() {
            journal.upgrade(access)?;
        }
        Ok(journal)
    }

    /// Adds the column that databases of older programs lack, and that those programs ignore; prepares the table of a mount that
    /// outlives its server.
    fn upgrade(&self, access: Access) -> Result<(), UpperError> {
        let mut rows = self.rows();
        rows.writing.outlives = access.outlives();
        let failed = |source| damage_or("upgrade", &self.path, source);
        let connection = rows.connection().map_err(failed)?;
        if !schema::has_epochs(connection).map_err(failed)? {
            connection.execute_batch(schema::ADD_NAMED).map_err(failed)?;
        }
        match access {
            Access::Outliving => connection.execute_batch(schema::OUTLIVE).map_err(failed)?,
            Access::TakenOver => connection.execute_batch(schema::PRUNE).map_err(failed)?,
            Access::Writable | Access::ReadOnly => return Ok(()),
        }
        rows.writing.mount = schema::mount_of(connection).map_err(failed)?;
        Ok(())
    }

    /// True if the previous process that had it open for writing closed it.
    pub fn ended_well(&self) -> bool {
        self.session.as_ref().is_none_or(|session| session.ended_well)
    }

    /// Loads every row.
    pub fn load(&self) -> Result<Loaded, UpperError> {
        let mut rows = self.rows();
        let loaded = rows.connection().map_err(LoadError::Sqlite).and_then(schema::load);
        let loaded = loaded.map_err(|error| match error {
            LoadError::Row(what) => UpperError::Damaged { path: self.path.clone(), what },
            LoadError::Sqlite(source) => damage_or("read", &self.path, source),
        })?;
        rows.writing.young.clone_from(&loaded.young);
        rows.epoch = loaded.epoch + 1;
        Ok(loaded)
    }

    /// Commits `changes` atomically, together with queued commits of other threads.
    pub fn commit(&self, changes: Arc<[Change]>) -> Result<(), UpperError> {
        let outcome = Arc::new(OnceLock::new());
        self.queue().push(Queued { changes, outcome: Arc::clone(&outcome) });
        let mut rows = self.rows();
        if outcome.get().is_none() {
            self.commit_queue(&mut rows);
        }
        drop(rows);
        match outcome.get() {
            Some(Ok(())) => Ok(()),
            Some(Err(source)) => Err(UpperError::Database {
                doing: "commit to",
                path: self.path.clone(),
                source: Arc::clone(source),
            }),
            None => unreachable!("the thread that empties the queue sets the outcome of everything in it"),
        }
    }

    fn commit_queue(&self, rows: &mut Rows) {
        let queued = std::mem::take(&mut *self.queue());
        let outcome = self.write(rows, &queued).map_err(Arc::new);
        for waiting in queued {
            waiting.outcome.get_or_init(|| outcome.clone());
        }
        let committed = self.committed.fetch_add(1, Ordering::Relaxed) + 1;
        if committed.is_multiple_of(CHECKPOINT_EVERY) {
            rows.reading = None;
            if let Ok(connection) = rows.connection() {
                self.bound_log(connection);
            }
        }
    }

    /// Writes the queued commits, and repairs recoverable failures. Rows are whole, so writing them twice does no harm.
    fn write(&self, rows: &mut Rows, queued: &[Queued]) -> rusqlite::Result<()> {
        let Err(error) = write_all(rows, queued) else { return Ok(()) };
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            // After a copy into the database, the log restarts in its existing blocks: room for deletions.
            let copied = rows.connection().and_then(|connection| copy_log(connection, "RESTART"));
            return if copied.is_ok() { write_all(rows, queued) } else { Err(error) };
        }
        // There is no other writer: a lock that is held is our own, from a failed release. Closing the connections frees it.
        log::warn!("Cannot commit to {}: {error}; opens it again", self.path.display());
        match self.reopen(rows) {
            Ok(()) => write_all(rows, queued),
            Err(failed) => {
                log::error!("{failed}");
                Err(error)
            }
        }
    }

    /// Closes every connection, so that SQLite drops its locks, and opens one again.
    fn reopen(&self, rows: &mut Rows) -> Result<(), UpperError> {
        rows.reading = None;
        let copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner).take();
        for connection in [copying, rows.connection.take()].into_iter().flatten() {
            // Keep the log: without it, a crash at this point would look like a removed log.
            let kept = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
            if let Err(error) = kept.and_then(|_| connection.close().map_err(|(_, error)| error)) {
                log::warn!("Cannot close {}: {error}", self.path.display());
            }
        }
        rows.connection = Some(connect(&self.path, Access::Writable)?);
        Ok(())
    }

    /// Requests a copy of the log, or copies it at once if it is too long.
    fn bound_log(&self, connection: &Connection) {
        if self.log_pages.load(Ordering::Relaxed) <= LOG_PAGES_MAX {
            self.is_long.store(true, Ordering::Relaxed);
        } else if let Err(error) = copy_log(connection, "RESTART") {
            log::warn!("Cannot copy the log into {}: {error}", self.path.display());
        }
    }

    /// True if the log should be copied.
    pub fn log_is_long(&self) -> bool {
        self.is_long.load(Ordering::Relaxed)
    }

    /// Returns to the format that every program can read: no inode without a name has a row any more, and no request is pending.
    pub fn end_outliving(&self) -> Result<(), UpperError> {
        let mut rows = self.rows();
        rows.reading = None;
        let ended = rows.connection().and_then(|connection| match schema::format(connection)? {
            OUTLIVING => connection.execute_batch(schema::END_OUTLIVING),
            _ => Ok(()),
        });
        ended.map_err(|source| database("end the mount in", &self.path, source))
    }

    /// Copies the log into the database while other threads commit. It waits for the disk; they do not.
    pub fn copy_log(&self) {
        self.rows().reading = None; // it limits how far the log is copied
        self.copy_log_now();
        self.rows().reading = None; // so that the next commit can begin the log again
    }

    fn copy_log_now(&self) {
        let mut copying = self.copying.lock().unwrap_or_else(PoisonError::into_inner);
        if copying.is_none() {
            *copying = connect(&self.path, Access::Writable)
                .inspect_err(|error| log::warn!("{}", chain(error)))
                .ok();
        }
        let Some(connection) = &*copying else { return };
        match copy_log(connection, "PASSIVE") {
            Ok(pages) => {
                self.log_pages.store(pages, Ordering::Relaxed);
                self.is_long.store(false, Ordering::Relaxed);
            }
            Err(error) => log::warn!("Cannot copy the log into {}: {error}", self.path.display()),
        }
    }

    /// Ends the epoch, if a file was created in it or a commit failed, and returns its number. Later commits belong to the next
    /// epoch.
    pub fn end_epoch(&self) -> Option<u64> {
        let mut rows = self.rows();
        if rows.writing.young.is_empty() && !rows.is_unsure {
            return None;
        }
        rows.epoch += 1;
        Some(rows.epoch - 1)
    }

    /// Records in the rows that the names of all files created up to the end of `epoch` are durable. If the disk is full, they stay
    /// young. Fails while it is unknown what a failed commit left in the log.
    pub fn names_are_durable(&self, epoch: u64) -> Result<(), UpperError> {
        match self.commit(Arc::new([Change::Named(epoch)])) {
            Ok(()) => self.rows().writing.young.retain(|_, born| *born > epoch),
            Err(error) if self.rows().is_unsure => return Err(error),
            Err(error) => {
                log::debug!("{}: the names of files are durable, but no row says so", chain(&error))
            }
        }
        Ok(())
    }

    /// Makes all commits durable.
    pub fn sync(&self) -> Result<(), UpperError> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let committed = self.committed.load(Ordering::Acquire);
        if *synced == committed {
            return Ok(());
        }
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        let path = PathBuf::from(path);
        // What the log no longer holds was made durable when it was copied.
        let failed = |source| UpperError::Io { doing: "make durable", path: path.clone(), source };
        match open_to_read(&path).and_then(|log| log.sync_data()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        if *synced == 0
            && let Some(dir) = self.path.parent()
        {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)?;
        }
        *synced = committed;
        Ok(())
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Queued>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Limits the database to `pages` pages: simulates a full disk in tests.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: u32) {
        let limit = |row: &Row<'_>| row.get::<_, i64>(0);
        self.rows()
            .connection()
            .unwrap()
            .query_row(&format!("PRAGMA max_page_count={pages}"), [], limit)
            .unwrap();
    }
}

impl Rows {
    fn new(connection: Connection) -> Rows {
        Rows {
            reading: None,
            connection: Some(connection),
            is_unsure: false,
            writing: Writing::default(),
            epoch: 1,
        }
    }

    fn connection(&self) -> rusqlite::Result<&Connection> {
        let closed = || rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        self.connection.as_ref().ok_or_else(|| rusqlite::Error::SqliteFailure(closed(), None))
    }
}

fn write_all(rows: &mut Rows, queued: &[Queued]) -> rusqlite::Result<()> {
    let written = write_rows(rows, queued);
    if written.is_err() {
        rows.reading = None;
    }
    // A full disk is detected before the last row is in the log; other failures may come later.
    rows.is_unsure = match &written {
        Ok(()) => false,
        Err(error) => rows.is_unsure || error.sqlite_error_code() != Some(ErrorCode::DiskFull),
    };
    written
}

fn write_rows(rows: &mut Rows, queued: &[Queued]) -> rusqlite::Result<()> {
    let Rows { connection: Some(connection), reading, writing, epoch, .. } = rows else {
        return rows.connection().map(drop);
    };
    if reading.is_none() {
        *reading = Some(Reading::begin(connection)?);
    }
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
    let mut written = Ok(());
    for change in queued.iter().flat_map(|queued| queued.changes.iter()) {
        if let Change::Born(ino) = change {
            writing.young.insert(*ino, *epoch);
        }
        written = schema::write(connection, change, writing);
        if written.is_err() {
            break;
        }
    }
    if written.is_ok() {
        written = connection.prepare_cached("COMMIT")?.execute([]).map(|_| ());
    }
    // SQLite rolls back some failures by itself; after others, roll back here.
    if written.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    written
}

/// Copies the log into the database, and returns the number of pages in the log.
fn copy_log(connection: &Connection, mode: &str) -> rusqlite::Result<i64> {
    let pages = |row: &Row<'_>| row.get::<_, i64>(1);
    connection.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], pages)
}

fn connect(path: &Path, access: Access) -> Result<Connection, UpperError> {
    let (name, mode) = on_disk::how(path, access);
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let failed = |source| damage_or("open", path, source);
    let connection = match sqlite::collected_log().filter(|_| access.is_writable()) {
        Some(layer) => Connection::open_with_flags_and_vfs(name, flags, layer),
        None => Connection::open_with_flags(name, flags),
    };
    let connection = connection.map_err(failed)?;
    // SQLite falls back to read-only if it cannot open a file for writing, even for lack of descriptors, and stays so.
    if access.is_writable() && connection.is_readonly(rusqlite::MAIN_DB).map_err(failed)? {
        let source = std::io::Error::other("it can be opened for reading only");
        return Err(UpperError::Io { doing: "write to", path: path.to_owned(), source });
    }
    connection.set_prepared_statement_cache_capacity(32);
    connection.busy_timeout(BUSY).map_err(failed)?;
    // Only `Journal::copy_log` copies the log, never an operation.
    let settings = "PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint=0; PRAGMA temp_store=MEMORY;";
    connection.execute_batch(settings).map_err(failed)?;
    Ok(connection)
}

fn check_format(connection: &Connection, path: &Path) -> Result<(), UpperError> {
    let read = |pragma| {
        let value = connection.pragma_query_value(None, pragma, |row| row.get::<_, u32>(0));
        value.map_err(|source| damage_or("read", path, source))
    };
    let (application, found) = (read("application_id")?, read("user_version")?);
    match (application, found) {
        (APPLICATION, FORMAT | OUTLIVING) => Ok(()),
        (APPLICATION, _) if found > OUTLIVING => {
            Err(UpperError::NewerFormat { path: path.to_owned(), found, known: OUTLIVING })
        }
        _ => Err(UpperError::Damaged {
            path: path.to_owned(),
            what: format!("it is marked {application:#x}, format {found}"),
        }),
    }
}

fn database(doing: &'static str, path: &Path, source: rusqlite::Error) -> UpperError {
    UpperError::Database { doing, path: path.to_owned(), source: Arc::new(source) }
}

/// Damage is what SQLite calls corrupt, not a database, or not of the expected schema; other errors may be temporary.
fn damage_or(doing: &'static str, path: &Path, source: rusqlite::Error) -> UpperError {
    let damaged = match &source {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        }
        rusqlite::Error::SqlInputError { .. } => true,
        other => !matches!(other, rusqlite::Error::InvalidPath(_)),
    };
    if damaged {
        return UpperError::Damaged { path: path.to_owned(), what: source.to_string() };
    }
    database(doing, path, source)
}
