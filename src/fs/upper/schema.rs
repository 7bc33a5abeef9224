//! The database: its tables, and conversion between rows and values.
//!
//! One row for each changed inode and one for each changed name; nothing is derived, so a change is one `INSERT OR REPLACE` or one
//! `DELETE`. An impossible row is damage; it is never skipped.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement};

use crate::sys::fs::name::Name;

use super::inode::Xattrs;
use super::tables::{Change, Tables};
use super::{Entry, FIRST_CREATED, Ino, Inode, Kind, Present, Time};

/// The format that this program writes. When you extend a table, raise it, and handle older formats in `load`.
pub(super) const FORMAT: u32 = 1;
/// The format while a mount outlives its server: it also has rows for inodes without names, and for requests that were done.
pub(super) const OUTLIVING: u32 = 2;
/// Marks a database as ours: "HoFS".
pub(super) const APPLICATION: u32 = 0x486f_4653;

/// Makes the tables.
pub(super) const CREATE: &str = "
CREATE TABLE space(catalog TEXT NOT NULL, next_ino INTEGER NOT NULL,
    named INTEGER NOT NULL DEFAULT 0) STRICT;
CREATE TABLE inode(ino INTEGER PRIMARY KEY, kind INTEGER NOT NULL, mode INTEGER NOT NULL, uid INTEGER NOT NULL,
    gid INTEGER NOT NULL, rdev INTEGER NOT NULL, nlink INTEGER NOT NULL, parent INTEGER NOT NULL,
    has_bytes INTEGER NOT NULL, atime INTEGER NOT NULL, atime_ns INTEGER NOT NULL, mtime INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, ctime INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, target BLOB, xattrs BLOB) STRICT;
CREATE TABLE entry(dir INTEGER NOT NULL, name BLOB NOT NULL, ino INTEGER, kind INTEGER, place INTEGER,
    PRIMARY KEY(dir, name)) STRICT, WITHOUT ROWID;";

const PUT_INODE: &str =
    "INSERT OR REPLACE INTO inode VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)";
const PUT_ENTRY: &str = "INSERT OR REPLACE INTO entry VALUES(?1,?2,?3,?4,?5)";

/// The column missing in databases of programs without epochs.
pub(super) const ADD_NAMED: &str = "ALTER TABLE space ADD COLUMN named INTEGER NOT NULL DEFAULT 0";
/// `has_bytes` of a file whose bytes must exist. For a file created in an epoch, the number of the epoch is added, until the row
/// is rewritten after the end of that epoch.
const MUST_BE_THERE: i64 = 1;

/// The row of `done` that contains a random number for this mount, which marks its requests in the rows of directories.
const MOUNT_ROW: i64 = -1;
/// Creates the table for a mount that outlives its server, and removes the rows of the mount before.
pub(super) const OUTLIVE: &str = "
CREATE TABLE IF NOT EXISTS done(thread INTEGER PRIMARY KEY, request INTEGER NOT NULL) STRICT;
DELETE FROM done;
INSERT INTO done VALUES(-1, random());
PRAGMA user_version=2;";
/// Removes requests of threads of servers that ended long ago. Also creates the table: a server may have died before it wrote
/// anything, or while it created the table; then there is nothing to take over yet.
pub(super) const PRUNE: &str = "
CREATE TABLE IF NOT EXISTS done(thread INTEGER PRIMARY KEY, request INTEGER NOT NULL) STRICT;
DELETE FROM done WHERE thread>=0 AND thread+256 < (SELECT max(thread) FROM done);
INSERT OR IGNORE INTO done VALUES(-1, random());
PRAGMA user_version=2;";
/// Returns to the format that every program with this format number reads.
pub(super) const END_OUTLIVING: &str = "DROP TABLE IF EXISTS done; PRAGMA user_version=1;";

/// Context for writing rows.
#[derive(Default)]
pub(super) struct Writing {
    /// Files whose names may not be durable.
    pub young: Young,
    /// Inodes without names keep their row until they are removed for good.
    pub outlives: bool,
    /// The number of the mount, if it outlives its server.
    pub mount: i64,
}

/// The number of the mount that the database is open for; 0 if it does not outlive its server.
pub(super) fn mount_of(connection: &Connection) -> rusqlite::Result<i64> {
    if !outlives(connection)? {
        return Ok(0);
    }
    let sql = "SELECT coalesce(max(request), 0) FROM done WHERE thread=?1";
    connection.query_row(sql, [MOUNT_ROW], |row| row.get(0))
}

/// True if the database has the table for a mount that outlives its server.
fn outlives(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name='done'";
    connection.query_row(sql, [], |row| row.get(0))
}

/// The epoch in which each file was created whose name may not be durable.
pub(super) type Young = HashMap<Ino, u64>;

/// True if the database has epochs.
pub(super) fn has_epochs(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) FROM pragma_table_info('space') WHERE name='named'";
    connection.query_row(sql, [], |row| row.get(0))
}

/// The format of a database.
pub(super) fn format(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Writes one change.
pub(super) fn write(connection: &Connection, change: &Change, writing: &Writing) -> rusqlite::Result<()> {
    let prepare = |sql| connection.prepare_cached(sql);
    match change {
        Change::Inode(ino, inode) if inode.nlink > 0 || writing.outlives => {
            let epoch = writing.young.get(ino).copied().unwrap_or_default();
            put_inode(&mut *prepare(PUT_INODE)?, *ino, inode, epoch, None)
        }
        Change::Asked(ino, inode, request) => {
            let asked = Asked { mount: writing.mount, request: *request };
            put_inode(&mut *prepare(PUT_INODE)?, *ino, inode, 0, Some(asked))
        }
        Change::Inode(ino, _) | Change::Gone(ino) => {
            run(&mut *prepare("DELETE FROM inode WHERE ino=?1")?, (number(ino.0),))
        }
        Change::Entry(dir, name, Some(entry)) => put_entry(&mut *prepare(PUT_ENTRY)?, *dir, name, *entry),
        Change::Entry(dir, name, None) => {
            run(&mut *prepare("DELETE FROM entry WHERE dir=?1 AND name=?2")?, (number(dir.0), &name[..]))
        }
        Change::Clear(dir) => run(&mut *prepare("DELETE FROM entry WHERE dir=?1")?, (number(dir.0),)),
        Change::NextIno(next) => run(&mut *prepare("UPDATE space SET next_ino=?1")?, (number(*next),)),
        Change::Born(_) => Ok(()),
        Change::Done(thread, request) => {
            let row = (number(*thread), number(*request));
            run(&mut *prepare("INSERT OR REPLACE INTO done VALUES(?1, ?2)")?, row)
        }
        Change::Named(epoch) => run(&mut *prepare("UPDATE space SET named=?1")?, (number(*epoch),)),
    }
}

fn run(statement: &mut Statement<'_>, values: impl rusqlite::Params) -> rusqlite::Result<()> {
    statement.execute(values).map(|_| ())
}

/// Inode numbers and positions stay below 2^63: they count up from 2^32.
fn number(value: u64) -> i64 {
    value.cast_signed()
}

/// The request that last changed a directory. Stored in the column that contains the target of a symbolic link.
struct Asked {
    mount: i64,
    request: u64,
}

impl Asked {
    fn encode(&self) -> [u8; 16] {
        (u128::from(self.request) << 64 | u128::from(self.mount.cast_unsigned())).to_le_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Asked> {
        let both = u128::from_le_bytes(bytes.try_into().ok()?);
        Some(Asked { mount: (both as u64).cast_signed(), request: (both >> 64) as u64 })
    }
}

fn put_inode(
    statement: &mut Statement<'_>,
    ino: Ino,
    inode: &Inode,
    epoch: u64,
    asked: Option<Asked>,
) -> rusqlite::Result<()> {
    let asked = asked.map(|asked| asked.encode());
    let target = asked.as_ref().map_or(&inode.target[..], |asked| &asked[..]);
    let target = (!target.is_empty()).then_some(target);
    let xattrs = Some(inode.xattrs.encode()).filter(|xattrs| !xattrs.is_empty());
    let numbers = [
        number(ino.0),
        inode.kind as i64,
        inode.mode.into(),
        inode.uid.into(),
        inode.gid.into(),
        inode.rdev.into(),
        inode.nlink.into(),
        number(inode.parent.0),
        if inode.has_bytes { MUST_BE_THERE + number(epoch) } else { 0 },
        inode.atime.seconds,
        inode.atime.nanos.into(),
        inode.mtime.seconds,
        inode.mtime.nanos.into(),
        inode.ctime.seconds,
        inode.ctime.nanos.into(),
    ];
    for (at, value) in (1..).zip(numbers) {
        statement.raw_bind_parameter(at, value)?;
    }
    statement.raw_bind_parameter(16, target)?;
    statement.raw_bind_parameter(17, xattrs)?;
    statement.raw_execute().map(|_| ())
}

fn put_entry(statement: &mut Statement<'_>, dir: Ino, name: &[u8], entry: Entry) -> rusqlite::Result<()> {
    match entry {
        Entry::Present(present) => {
            let (ino, place) = (number(present.ino.0), number(present.order));
            run(statement, (number(dir.0), name, ino, present.kind as i64, place))
        }
        Entry::Whiteout => run(statement, (number(dir.0), name, None::<i64>, None::<i64>, None::<i64>)),
    }
}

/// The content of the database.
pub(super) struct Loaded {
    /// The catalog it belongs to.
    pub catalog: String,
    /// Numbers below this one may be in use.
    pub next_ino: u64,
    /// The rows.
    pub tables: Tables,
    /// The files whose names may not be durable.
    pub young: Young,
    /// The last epoch found in a row.
    pub epoch: u64,
    /// The last request of each thread of earlier servers of this mount.
    pub requests: HashMap<u64, u64>,
    /// The last request that changed each directory, of the same servers.
    pub asked: HashSet<u64>,
}

/// Why a database could not be loaded.
pub(super) enum LoadError {
    /// An error of SQLite.
    Sqlite(rusqlite::Error),
    /// An impossible row.
    Row(String),
}

impl From<rusqlite::Error> for LoadError {
    fn from(error: rusqlite::Error) -> LoadError {
        LoadError::Sqlite(error)
    }
}

/// Reads every row in one transaction, and checks that they are consistent.
pub(super) fn load(connection: &Connection) -> Result<Loaded, LoadError> {
    connection.execute_batch("BEGIN")?;
    let named = if has_epochs(connection)? { "named" } else { "0" };
    let space = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let sql = format!("SELECT catalog, next_ino, {named} FROM space");
    let (catalog, next_ino, named) = connection.query_row(&sql, [], space)?;
    let (next_ino, named) = (next_ino.cast_unsigned(), named.cast_unsigned());
    let mut tables = Tables::default();
    let Inodes { mut young, asked } = load_inodes(connection, &mut tables)?;
    load_entries(connection, &mut tables)?;
    let requests = load_requests(connection)?;
    connection.execute_batch("COMMIT")?;
    let outlives = format(connection)? == OUTLIVING;
    check(&tables, next_ino, outlives).map_err(LoadError::Row)?;
    let epoch = young.values().copied().fold(named, u64::max);
    young.retain(|_, epoch| *epoch > named);
    Ok(Loaded { catalog, next_ino, tables, young, epoch, requests, asked })
}

fn load_requests(connection: &Connection) -> rusqlite::Result<HashMap<u64, u64>> {
    if !outlives(connection)? {
        return Ok(HashMap::new());
    }
    let mut statement = connection.prepare("SELECT thread, request FROM done WHERE thread>=0")?;
    let pair =
        |row: &Row<'_>| Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()));
    statement.query_map([], pair)?.collect()
}

/// What else is in the rows of inodes.
struct Inodes {
    /// The files that were created in an epoch, with that epoch.
    young: Young,
    asked: HashSet<u64>,
}

/// Reads the inodes.
fn load_inodes(connection: &Connection, tables: &mut Tables) -> Result<Inodes, LoadError> {
    let (mut young, mut asked) = (Young::new(), HashSet::new());
    let mount = mount_of(connection)?;
    let mut statement = connection.prepare("SELECT * FROM inode")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let ino = Ino(row.get::<_, i64>(0)?.cast_unsigned());
        let mut inode = read_inode(row)?.ok_or_else(|| LoadError::Row(format!("the row of inode {ino}")))?;
        if inode.kind == Kind::Dir {
            let of_this_mount = |asked: &Asked| asked.mount == mount && mount != 0;
            asked.extend(
                Asked::decode(&std::mem::take(&mut inode.target))
                    .filter(of_this_mount)
                    .map(|asked| asked.request),
            );
        }
        let bytes: i64 = row.get(8)?;
        if bytes > MUST_BE_THERE {
            young.insert(ino, (bytes - MUST_BE_THERE).cast_unsigned());
        }
        tables.put(ino, inode);
    }
    Ok(Inodes { young, asked })
}

fn read_inode(row: &Row<'_>) -> rusqlite::Result<Option<Inode>> {
    let blob =
        |at| -> rusqlite::Result<Vec<u8>> { Ok(row.get::<_, Option<Vec<u8>>>(at)?.unwrap_or_default()) };
    let time = |at| -> rusqlite::Result<Time> { Ok(Time { seconds: row.get(at)?, nanos: row.get(at + 1)? }) };
    let (Some(kind), Some(xattrs)) = (Kind::from_number(row.get(1)?), Xattrs::decode(&blob(16)?)) else {
        return Ok(None);
    };
    let inode = Inode {
        kind,
        mode: row.get(2)?,
        uid: row.get(3)?,
        gid: row.get(4)?,
        rdev: row.get(5)?,
        nlink: row.get(6)?,
        parent: Ino(row.get::<_, i64>(7)?.cast_unsigned()),
        has_bytes: row.get::<_, i64>(8)? != 0,
        atime: time(9)?,
        mtime: time(11)?,
        ctime: time(13)?,
        target: blob(15)?.into(),
        xattrs,
    };
    let nanos = [inode.atime, inode.mtime, inode.ctime].iter().all(|time| time.nanos < 1_000_000_000);
    let bytes = inode.kind == Kind::File || !inode.has_bytes;
    Ok((nanos && bytes && inode.mode <= 0o7777).then_some(inode))
}

fn load_entries(connection: &Connection, tables: &mut Tables) -> Result<(), LoadError> {
    let mut statement = connection.prepare("SELECT * FROM entry")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let dir = Ino(row.get::<_, i64>(0)?.cast_unsigned());
        let name = row.get_ref(1)?.as_blob().ok().filter(|name| Name::new(name).is_ok()).map(Arc::from);
        let (Some(name), Some(entry)) = (name, read_entry(row)?) else {
            return Err(LoadError::Row(format!("an entry of directory {dir}")));
        };
        tables.apply(&Change::Entry(dir, name, Some(entry)));
    }
    Ok(())
}

fn read_entry(row: &Row<'_>) -> rusqlite::Result<Option<Entry>> {
    if row.get_ref(2)? == ValueRef::Null {
        return Ok(Some(Entry::Whiteout));
    }
    let ino = Ino(row.get::<_, i64>(2)?.cast_unsigned());
    let order = row.get::<_, i64>(4)?.cast_unsigned();
    Ok(Kind::from_number(row.get(3)?).map(|kind| Entry::Present(Present { ino, kind, order })))
}

/// Checks that every created inode with a name and every created directory with entries has a row, and a number that was handed out.
fn check(tables: &Tables, next_ino: u64, outlives: bool) -> Result<(), String> {
    let known = |ino: Ino, kind: Kind| match tables.inodes.get(&ino) {
        Some(inode) => inode.kind == kind,
        None => ino.0 < FIRST_CREATED,
    };
    let nameless = |(_, inode): &(&Ino, &Inode)| inode.nlink == 0 && !outlives;
    if let Some((ino, _)) = tables.inodes.iter().find(nameless) {
        return Err(format!("the row of inode {ino}"));
    }
    if let Some(ino) = tables.inodes.keys().find(|ino| ino.0 >= next_ino) {
        return Err(format!("inode {ino} has a number that was not assigned"));
    }
    for (&dir, directory) in &tables.directories {
        if !known(dir, Kind::Dir) {
            return Err(format!("entries in {dir}, which is no directory"));
        }
        for (name, entry) in directory.iter() {
            if let Entry::Present(present) = entry
                && !known(present.ino, present.kind)
            {
                let name = String::from_utf8_lossy(name);
                return Err(format!("entry {name:?} of directory {dir} points to inode {}", present.ino));
            }
        }
    }
    Ok(())
}
