//! Makes small SQLite transactions cheap: all pages of a transaction are appended to the log with one system call, and the writing
//! connection keeps a read transaction open between them ([`Reading`]).
//!
//! SQLite appends a changed page with two writes: a header of 24 bytes, then the page. This layer below SQLite collects them, and
//! writes them when the last page of the transaction arrives. Before that it is not committed, so nothing is lost if the process is
//! killed; and an error is the result of the last write, which fails the transaction. Everything else goes to the file at once, after
//! what was collected.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::OnceLock;

use rusqlite::Connection;
use rusqlite::ffi::{
    self, SQLITE_CANTOPEN, SQLITE_IOERR, SQLITE_IOERR_WRITE, SQLITE_OK, SQLITE_OPEN_WAL, SQLITE_ROW,
    sqlite3_file, sqlite3_io_methods, sqlite3_vfs,
};

/// The bytes of a header; a page is longer.
const HEADER: usize = 24;
/// Where the header has the size of the database, if its page is the last one of a transaction; otherwise zeros.
const LAST: Range<usize> = 4..8;
/// More than this is not collected.
const MOST: usize = 64 << 10;
const NAME: &CStr = c"collected-log";

/// Registers this layer with SQLite, once, and returns its name; `None` if that fails.
pub fn collected_log() -> Option<&'static CStr> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    REGISTERED.get_or_init(register).then_some(NAME)
}

/// Writes bytes at an offset; returns the result code.
type Write<'a> = dyn FnMut(&[u8], i64) -> c_int + 'a;

/// What was collected for one file.
#[derive(Default)]
struct Collected {
    start: i64,
    bytes: Vec<u8>,
    /// The last part is a header, so its page comes next.
    is_header: bool,
    /// The last header said that its page is the last one.
    is_last: bool,
    /// Where the current or the last transaction is in the file.
    transaction: Range<i64>,
    /// A write failed: from then on, nothing is collected.
    is_off: bool,
}

impl Collected {
    fn end(&self) -> i64 {
        self.start + self.bytes.len() as i64
    }

    /// Takes a write of `data` at the offset `at`.
    fn put(&mut self, at: i64, data: &[u8], write: &mut Write<'_>) -> c_int {
        if !self.bytes.is_empty() && at != self.end() {
            match self.flush(write) {
                SQLITE_OK => {}
                failed => return failed,
            }
        }
        if data.len() == HEADER && self.begins(at) {
            self.add(at, data);
            (self.is_header, self.is_last) = (true, data[LAST].iter().any(|&byte| byte != 0));
            return SQLITE_OK;
        }
        if !std::mem::take(&mut self.is_header) {
            return match self.flush(write) {
                SQLITE_OK => write(data, at),
                failed => failed,
            };
        }
        self.add(at, data);
        if self.is_last || self.bytes.len() >= MOST { self.flush(write) } else { SQLITE_OK }
    }

    /// True for the header of a new page. A header may also be rewritten in its place when the transaction ends, without its page.
    fn begins(&mut self, at: i64) -> bool {
        if self.is_off || self.transaction.contains(&at) {
            return false;
        }
        if self.is_last || at != self.transaction.end {
            self.transaction = at..at;
        }
        true
    }

    fn add(&mut self, at: i64, data: &[u8]) {
        if self.bytes.is_empty() {
            self.start = at;
        }
        self.bytes.extend_from_slice(data);
        self.transaction.end = self.end();
    }

    /// Writes what was collected.
    fn flush(&mut self, write: &mut Write<'_>) -> c_int {
        self.is_header = false;
        if self.bytes.is_empty() {
            return SQLITE_OK;
        }
        let written = write(&self.bytes, self.start);
        self.bytes.clear();
        self.is_off |= written != SQLITE_OK;
        written
    }
}

/// The methods of an open log. SQLite finds them through the file, and they find the rest here.
#[repr(C)]
struct Log {
    /// First, so that a pointer to it is one to the whole.
    ours: sqlite3_io_methods,
    /// Those of the layer below, for the same file.
    below: sqlite3_io_methods,
    collected: Collected,
}

impl Log {
    /// The log of `file`.
    ///
    /// # Safety
    /// [`open`] opened `file` as a log, and it is not closed. No other reference to its log is in use: SQLite serializes the calls for
    /// one connection.
    #[allow(unsafe_code)]
    unsafe fn of<'a>(file: *mut sqlite3_file) -> &'a mut Log {
        // SAFETY: the methods of such a file are the first part of a `Log`, which lives until the file is closed.
        unsafe { &mut *(*file).pMethods.cast_mut().cast::<Log>() }
    }

    fn flush(&mut self, file: *mut sqlite3_file) -> c_int {
        let below = self.below;
        self.collected.flush(&mut |bytes, at| write_below(&below, file, bytes, at))
    }
}

fn write_below(below: &sqlite3_io_methods, file: *mut sqlite3_file, bytes: &[u8], at: i64) -> c_int {
    let (Some(write), Ok(len)) = (below.xWrite, c_int::try_from(bytes.len())) else {
        return SQLITE_IOERR_WRITE;
    };
    // SAFETY: the layer below opened `file`, which is not closed: `Log::of` requires it.
    #[allow(unsafe_code)]
    unsafe {
        write(file, bytes.as_ptr().cast(), len, at)
    }
}

#[allow(unsafe_code)]
unsafe extern "C" fn write(file: *mut sqlite3_file, data: *const c_void, len: c_int, at: i64) -> c_int {
    // SAFETY: SQLite calls this for a log that `open` opened, with `len` bytes at `data`.
    let (log, data) = unsafe {
        (Log::of(file), std::slice::from_raw_parts(data.cast::<u8>(), len.unsigned_abs() as usize))
    };
    let below = log.below;
    log.collected.put(at, data, &mut |bytes, at| write_below(&below, file, bytes, at))
}

/// A method that calls the one below after everything collected was written.
macro_rules! after_writing {
    ($name:ident, $method:ident, $($arg:ident: $kind:ty),*) => {
        #[allow(unsafe_code)]
        unsafe extern "C" fn $name(file: *mut sqlite3_file, $($arg: $kind),*) -> c_int {
            // SAFETY: SQLite calls this for a log that `open` opened, with the arguments of the method below.
            unsafe {
                let log = Log::of(file);
                match (log.flush(file), log.below.$method) {
                    (SQLITE_OK, Some(method)) => method(file, $($arg),*),
                    (SQLITE_OK, None) => SQLITE_IOERR,
                    (failed, _) => failed,
                }
            }
        }
    };
}

after_writing!(read, xRead, to: *mut c_void, len: c_int, at: i64);
after_writing!(truncate, xTruncate, size: i64);
after_writing!(sync, xSync, flags: c_int);
after_writing!(size, xFileSize, size: *mut i64);
after_writing!(close_below, xClose,);

#[allow(unsafe_code)]
unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: SQLite calls this once, for a log that `open` opened from a `Box`; after it, nothing uses the methods of the file.
    unsafe {
        let log = (*file).pMethods.cast_mut().cast::<Log>();
        let closed = close_below(file);
        drop(Box::from_raw(log));
        closed
    }
}

#[allow(unsafe_code)]
unsafe extern "C" fn open(
    ours: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: `register` put the layer below into `ours`, and SQLite made room for a file of that layer.
    unsafe {
        let below = (*ours).pAppData.cast::<sqlite3_vfs>();
        let Some(open) = (*below).xOpen else { return SQLITE_CANTOPEN };
        let opened = open(below, name, file, flags, out_flags);
        if opened == SQLITE_OK
            && flags & SQLITE_OPEN_WAL != 0
            && let Some(&below) = (*file).pMethods.as_ref()
        {
            let ours = sqlite3_io_methods {
                xClose: Some(close),
                xRead: Some(read),
                xWrite: Some(write),
                xTruncate: Some(truncate),
                xSync: Some(sync),
                xFileSize: Some(size),
                ..below
            };
            let log = Box::new(Log { ours, below, collected: Collected::default() });
            (*file).pMethods = Box::into_raw(log).cast_const().cast();
        }
        opened
    }
}

fn register() -> bool {
    // SAFETY: the layer below is static, and so is the copy of it that is registered here: it is never freed.
    #[allow(unsafe_code)]
    unsafe {
        let below = ffi::sqlite3_vfs_find(std::ptr::null());
        let Some(&copy) = below.as_ref() else { return false };
        let ours = sqlite3_vfs {
            pNext: std::ptr::null_mut(),
            zName: NAME.as_ptr(),
            pAppData: below.cast(),
            xOpen: Some(open),
            ..copy
        };
        ffi::sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 0) == SQLITE_OK
    }
}

/// A read that a connection does not end, so that its transactions neither begin nor end one: that saves four of the six calls for
/// locks, and the search for changes by others. Its own writes do not need to wait for it.
///
/// While it lasts, checkpoints copy the log into the database only up to the last transaction before it began, and the log is not
/// restarted. A write by another connection makes the next write of this one fail. Drop it before the connection is closed; closing
/// fails otherwise.
#[derive(Debug)]
pub struct Reading(NonNull<ffi::sqlite3_stmt>);

// SAFETY: a statement is bound to its connection, not to a thread; its owner uses both under one lock.
#[allow(unsafe_code)]
unsafe impl Send for Reading {}

impl Reading {
    /// Begins a read.
    pub fn begin(connection: &Connection) -> rusqlite::Result<Reading> {
        const ANYTHING: &CStr = c"SELECT 1 FROM sqlite_schema";
        let failed = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let (mut statement, rest) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the connection is open while it is borrowed; the text ends with a zero; the rest of it is not wanted.
        #[allow(unsafe_code)]
        let prepared = unsafe {
            ffi::sqlite3_prepare_v2(connection.handle(), ANYTHING.as_ptr(), -1, &raw mut statement, rest)
        };
        let reading = NonNull::new(statement).map(Reading).ok_or_else(|| failed(prepared))?;
        // SAFETY: the statement was just prepared. If there is no row, it is finalized by `drop`.
        #[allow(unsafe_code)]
        match unsafe { ffi::sqlite3_step(statement) } {
            SQLITE_ROW => Ok(reading),
            code => Err(failed(code)),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // SAFETY: the statement was prepared by `begin` and is not finalized yet. Its connection cannot be freed before it: SQLite
        // refuses to close a connection with statements.
        #[allow(unsafe_code)]
        unsafe {
            ffi::sqlite3_finalize(self.0.as_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::OpenFlags;

    use super::*;

    const PAGE: usize = 100;

    /// The file after writes, and where each one began and how long it was.
    #[derive(Default)]
    struct Sink {
        collected: Collected,
        writes: Vec<(i64, usize)>,
        fails: bool,
    }

    impl Sink {
        fn put(&mut self, at: i64, data: &[u8]) -> c_int {
            let (writes, fails) = (&mut self.writes, self.fails);
            self.collected.put(at, data, &mut |bytes, at| {
                writes.push((at, bytes.len()));
                if fails { SQLITE_IOERR } else { SQLITE_OK }
            })
        }

        /// Writes the header and the page of frame number `nth`.
        fn frame(&mut self, nth: i64, is_last: bool) -> c_int {
            let at = 32 + nth * (HEADER + PAGE) as i64;
            match self.put(at, &header(is_last)) {
                SQLITE_OK => self.put(at + HEADER as i64, &[1; PAGE]),
                failed => failed,
            }
        }
    }

    fn header(is_last: bool) -> [u8; HEADER] {
        let mut header = [1; HEADER];
        header[LAST].fill(u8::from(is_last));
        header
    }

    #[test]
    fn a_transaction_is_one_write_also_after_the_log_began_again() {
        let mut sink = Sink::default();
        for nth in [0, 1, 2, 3, 0, 1] {
            assert_eq!(sink.frame(nth, [1, 3].contains(&nth)), SQLITE_OK);
        }
        assert_eq!(sink.writes, [(32, 248), (280, 248), (32, 248)]);
    }

    #[test]
    fn a_header_that_is_written_again_is_written_at_once() {
        let mut sink = Sink::default();
        assert_eq!((sink.frame(0, false), sink.frame(1, true)), (SQLITE_OK, SQLITE_OK));
        assert_eq!((sink.put(32, &header(false)), sink.put(156, &header(true))), (SQLITE_OK, SQLITE_OK));
        assert_eq!(sink.writes, [(32, 248), (32, HEADER), (156, HEADER)]);
    }

    #[test]
    fn a_failed_write_fails_the_transaction_and_later_ones_are_not_collected() {
        let mut sink = Sink { fails: true, ..Sink::default() };
        assert_eq!((sink.frame(0, false), sink.frame(1, true)), (SQLITE_OK, SQLITE_IOERR));
        sink.fails = false;
        assert_eq!(sink.frame(0, true), SQLITE_OK);
        assert_eq!(sink.writes, [(32, 248), (32, HEADER), (56, PAGE)]);
    }

    /// What a database holds: whether it is sound, and how many of its rows have which value.
    fn content(database: &Connection) -> String {
        let sql = "SELECT count(*) || ' ' || sum(b=a) || ' ' || (SELECT b FROM t WHERE a=1) || ' ' ||
            (SELECT * FROM pragma_integrity_check) FROM t";
        database.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_database_is_the_same_for_others_also_if_pages_are_written_twice_or_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let [path, killed] = ["db", "killed"].map(|name| dir.path().join(name));
        let layer = collected_log().unwrap();
        let ours = Connection::open_with_flags_and_vfs(&path, OpenFlags::default(), layer).unwrap();
        // A cache this small writes pages before the end of the transaction, and some of them again at its end.
        let settings =
            "PRAGMA journal_mode=WAL; PRAGMA cache_size=2; CREATE TABLE t(a INTEGER PRIMARY KEY, b);";
        ours.execute_batch(settings).unwrap();
        let fill = "WITH RECURSIVE n(a) AS (VALUES(1) UNION ALL SELECT a+1 FROM n WHERE a<500)
            INSERT OR REPLACE INTO t SELECT a, randomblob(300) FROM n; UPDATE t SET b=a WHERE a%7=0;";
        let others = Connection::open(&path).unwrap();
        for round in 1000..1003 {
            let change =
                format!("BEGIN; {fill} ROLLBACK; BEGIN; {fill} UPDATE t SET b={round} WHERE a=1; COMMIT");
            ours.execute_batch(&change).unwrap();
            let expected = format!("500 71 {round} ok");
            assert_eq!(content(&others), expected);
            for suffix in ["", "-wal"] {
                let name = |path: &std::path::Path| format!("{}{suffix}", path.display());
                std::fs::copy(name(&path), name(&killed)).unwrap();
            }
            assert_eq!(content(&Connection::open(&killed).unwrap()), expected);
            if round == 1001 {
                ours.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).unwrap();
            }
        }
    }

    #[test]
    fn a_connection_that_reads_can_write_and_the_log_is_copied_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let [ours, others] = [(), ()].map(|()| Connection::open(dir.path().join("db")).unwrap());
        ours.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a)").unwrap();
        let copied = || {
            let left = |row: &rusqlite::Row<'_>| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?);
            others.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], left).unwrap()
        };
        let reading = Reading::begin(&ours).unwrap();
        for count in 1..=3 {
            ours.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(1); COMMIT").unwrap();
            let seen = others.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0));
            assert_eq!(seen, Ok(count));
        }
        ours.execute_batch("BEGIN IMMEDIATE; INSERT INTO t VALUES(2); ROLLBACK").unwrap();
        assert_eq!(copied(), 3);
        drop(reading);
        assert_eq!(copied(), 0);
        ours.close().unwrap();
    }
}
