//! What a file is, and whether it is still the same: kinds, identity, and the times of its last changes.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::path::Path;

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// Something without content to read: its kind, for messages.
    Other(&'static str),
}

/// The facts of a file. If two are equal, the file, its mode and its owner did not change in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// The 12 permission bits.
    pub permissions: u16,
    /// The size in bytes.
    pub size: u64,
    /// Device and inode number: equal for two names of one file. None where the platform has none.
    pub id: Option<(u64, u64)>,
    /// Seconds and nanoseconds of the last content change, then of the last status change.
    times: [i64; 4],
}

impl Stat {
    /// The facts in `meta`.
    #[cfg(unix)]
    pub fn of(meta: &Metadata) -> Stat {
        use std::os::unix::fs::MetadataExt;
        Stat {
            kind: kind(meta),
            permissions: (meta.mode() & 0o7777) as u16,
            size: meta.len(),
            id: Some((meta.dev(), meta.ino())),
            times: [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()],
        }
    }

    /// The facts in `meta`, with the modes that RCC records on platforms without modes.
    #[cfg(not(unix))]
    pub fn of(meta: &Metadata) -> Stat {
        let kind = kind(meta);
        let permissions = match (kind, meta.permissions().readonly()) {
            (FileKind::Directory, _) => 0o777,
            (_, true) => 0o444,
            (_, false) => 0o666,
        };
        let since = meta.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let since = since.unwrap_or_default();
        let times = [since.as_secs().cast_signed(), since.subsec_nanos().into(), 0, 0];
        Stat { kind, permissions, size: meta.len(), id: None, times }
    }
}

/// Device and inode of `path`, without following a link: equal for two names of one file.
#[cfg(unix)]
pub fn id_at(path: &Path) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    path.symlink_metadata().map(|meta| (meta.dev(), meta.ino()))
}

/// True if this user owns what is at `path`, links not followed.
#[cfg(unix)]
pub fn is_own(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let me = crate::sys::process::this_process::effective_uid();
    path.symlink_metadata().is_ok_and(|found| found.uid() == me)
}

/// Access lists decide who may remove something.
#[cfg(not(unix))]
pub fn is_own(_path: &Path) -> bool {
    true
}

/// The owner of the directory at `path`, unless that is a trusted one: this user, root, or the owner of the parent directory if nobody
/// else may write to the parent. `None` also if there is no directory.
#[cfg(unix)]
pub fn foreign_owner(path: &Path) -> io::Result<Option<u32>> {
    use std::os::unix::fs::MetadataExt;
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let ours = [0, crate::sys::process::this_process::effective_uid()].contains(&found.uid());
    if ours || !found.is_dir() {
        return Ok(None);
    }
    let above = path.parent().unwrap_or(path).metadata()?;
    let is_known = above.uid() == found.uid() && above.mode() & 0o022 == 0;
    Ok((!is_known).then_some(found.uid()))
}

/// Access lists decide who may create a directory.
#[cfg(not(unix))]
pub fn foreign_owner(_path: &Path) -> io::Result<Option<u32>> {
    Ok(None)
}

/// Volume and file number of `path`, without following a link: equal for two names of one file.
#[cfg(windows)]
pub fn id_at(path: &Path) -> io::Result<(u64, u64)> {
    super::open::look(path).map(|info| info.id)
}

/// True if `path` is a regular file, not a link, that only this user or root can have created or changed.
#[cfg(unix)]
pub fn is_trusted_mark(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let ours = [0, crate::sys::process::this_process::effective_uid()];
    path.symlink_metadata()
        .is_ok_and(|meta| meta.is_file() && ours.contains(&meta.uid()) && meta.mode() & 0o022 == 0)
}

/// True if `path` is a regular file. Access lists decide who may create one.
#[cfg(not(unix))]
pub fn is_trusted_mark(path: &Path) -> bool {
    path.is_file()
}

fn kind(meta: &Metadata) -> FileKind {
    if meta.is_dir() {
        FileKind::Directory
    } else if meta.is_file() {
        FileKind::File
    } else {
        FileKind::Other(other_kind(meta))
    }
}

#[cfg(unix)]
fn other_kind(meta: &Metadata) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    let kind = meta.file_type();
    if kind.is_fifo() {
        "FIFO"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

#[cfg(not(unix))]
fn other_kind(_meta: &Metadata) -> &'static str {
    "special file"
}

/// Opens a file for reading, following links, without blocking on a FIFO.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
    }
    options.open(path)
}

/// Opens a file for reading, without blocking on a FIFO; fails on a link.
#[cfg(unix)]
pub fn open_unfollowed(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Opens for reading the file that `seen` describes; fails if the path is now a link or another file.
#[cfg(unix)]
pub fn open_seen(path: &Path, seen: &Metadata) -> io::Result<File> {
    use std::os::unix::fs::MetadataExt;
    let file = open_unfollowed(path)?;
    let now = file.metadata()?;
    if (now.dev(), now.ino()) != (seen.dev(), seen.ino()) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "another file has taken its place"));
    }
    Ok(file)
}

/// The content of a regular file, following links; more than `most` bytes, or another kind of file, are an error.
pub fn read_regular(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open_to_read(path)?;
    match file.metadata()?.is_file() {
        true => super::owned_file::read_at_most(&file, most),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}
