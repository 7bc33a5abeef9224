//! Private directories, and the identity of a file's state.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// Creates directories with this mode. Windows has none.
#[cfg_attr(windows, allow(unused_mut, unused_variables, reason = "there are no modes"))]
fn creator(mode: u32) -> DirBuilder {
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    builder
}

/// Creates `path` and its parents, private to the owner (0700).
pub fn ensure_private(path: &Path) -> io::Result<()> {
    creator(0o700).recursive(true).create(path)
}

/// Creates the directory `path`, which must not exist, 0700.
pub fn make_private(path: &Path) -> io::Result<()> {
    creator(0o700).create(path)
}

/// Creates the directory `path`, which must not exist, with the mode that RCC uses: only the owner may write to it, whatever the umask.
pub fn make_own(path: &Path) -> io::Result<()> {
    creator(0o750).create(path)
}

/// A temporary directory in `parent` that is removed on drop, private to this user whatever the umask.
pub fn private_temp(prefix: &str, parent: &Path) -> io::Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir_in(parent)
}

/// A name with this prefix that no other process or call generates.
pub fn unused_name(prefix: &str) -> String {
    use std::hash::{BuildHasher, Hasher};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let random = std::hash::RandomState::new().build_hasher().finish();
    format!("{prefix}{}-{count}-{random:016x}", std::process::id())
}

/// Publishes a file with these bytes at `path`: written to a temporary file next to it and renamed, so that readers see either the old
/// file or the complete new one.
pub fn publish(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".part-").tempfile_in(parent)?;
    file.write_all(bytes)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Checks that this user may create entries in the directory at `path`; the error says why not.
#[cfg(unix)]
pub fn may_write(path: &Path) -> io::Result<()> {
    use rustix::fs::Access;
    Ok(rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Other platforms: only an attempt can show it.
#[cfg(not(unix))]
pub fn may_write(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// The state of a file: if two states are equal, the file was not written in between.
pub struct FileState {
    /// Device, inode, size, modification and change time, as text.
    pub text: String,
    /// When the file or its inode last changed.
    pub changed: SystemTime,
}

/// The state of the file at `path`.
#[cfg(unix)]
pub fn file_state(path: &Path) -> io::Result<FileState> {
    use std::os::unix::fs::MetadataExt;
    let meta = fs::metadata(path)?;
    let (seconds, nanos) = (meta.ctime(), meta.ctime_nsec());
    let since = Duration::new(seconds.try_into().unwrap_or(0), nanos.try_into().unwrap_or(0));
    Ok(FileState {
        text: format!(
            "{}:{}:{}:{}.{}:{seconds}.{nanos}",
            meta.dev(),
            meta.ino(),
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec()
        ),
        changed: SystemTime::UNIX_EPOCH + since,
    })
}

/// This platform has no reliable change time.
#[cfg(not(unix))]
pub fn file_state(_path: &Path) -> io::Result<FileState> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The modification time of a complete file: later writes to the file would not leave it like that by accident.
const MOTHER_TIME: Duration = Duration::from_secs(1_610_000_000);

/// Marks `file` as complete by setting its time to mother time.
pub fn set_mother_time(file: &fs::File) -> io::Result<()> {
    let time = SystemTime::UNIX_EPOCH + MOTHER_TIME;
    file.set_times(fs::FileTimes::new().set_accessed(time).set_modified(time))
}

/// True if `file` is a regular file of `size` bytes that was not written since its time was set.
pub fn is_complete(file: &fs::File, size: u64) -> bool {
    file.metadata().is_ok_and(|meta| is_complete_meta(&meta, size))
}

/// As [`is_complete`], for a file that is not open; links are not followed.
pub fn is_published(path: &Path, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| is_complete_meta(&meta, size))
}

fn is_complete_meta(meta: &fs::Metadata, size: u64) -> bool {
    let complete = SystemTime::UNIX_EPOCH + MOTHER_TIME;
    meta.is_file() && meta.len() == size && meta.modified().is_ok_and(|time| time == complete)
}

/// Creates a symbolic link at `path` to the directory `target`.
pub fn symlink(target: &Path, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::symlink(target, path);
    #[cfg(windows)]
    return std::os::windows::fs::symlink_dir(target, path);
}

/// Removes the link at `path` that [`symlink`] created, and nothing of its target.
pub fn remove_symlink(path: &Path) -> io::Result<()> {
    if cfg!(windows) { fs::remove_dir(path) } else { fs::remove_file(path) }
}
