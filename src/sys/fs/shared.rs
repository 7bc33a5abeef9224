//! Directories and files that RCC also uses, created with RCC's modes.

use std::fs::{self, DirBuilder, File, FileTimes};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

pub use super::rcc_dir::RccDir;

/// Creates `path` and its parents if needed: 0750 less the umask; in a shared holotree a new `path` itself is 0777 (everybody).
pub fn ensure_dir(path: &Path, shared: bool) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    builder(0o750).recursive(true).create(path)?;
    if shared { force_mode(path, 0o777) } else { Ok(()) }
}

#[cfg(unix)]
fn builder(mode: u32) -> DirBuilder {
    let mut builder = DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
    builder
}

/// Access lists are inherited here.
#[cfg(not(unix))]
fn builder(_mode: u32) -> DirBuilder {
    DirBuilder::new()
}

#[cfg(unix)]
fn force_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Access lists are inherited here.
#[cfg(not(unix))]
fn force_mode(_path: &Path, _mode: u32) -> io::Result<()> {
    Ok(())
}

/// Opens a file for appending; a new one gets `mode` less the umask. Anything but a regular file with one link is an error, and a FIFO
/// does not block.
pub fn open_append(path: &Path, mode: u32) -> io::Result<File> {
    in_its_dir(path, |dir, name| dir.open_append(name, mode))
}

/// Creates a file that does not exist yet, with `mode` less the umask.
pub fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    in_its_dir(path, |dir, name| dir.create_new(name, mode))
}

fn in_its_dir<T>(path: &Path, act: impl FnOnce(&RccDir, &str) -> io::Result<T>) -> io::Result<T> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    act(&RccDir::open(dir)?, name)
}

/// Creates or replaces the file `name` in `dir`: written to a temporary file, synced and renamed, so that readers never see a partial
/// file. The temporary name begins with a dot, which hides it from RCC's glob of catalogs.
pub fn replace(dir: &Path, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    replace_in(&RccDir::open(dir)?, name, write)
}

/// As [`replace`], for the file at `path` below `root`. Missing directories are created; below `root`, no link is followed.
pub fn replace_below(
    root: &Path,
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    DirBuilder::new().recursive(true).create(root)?;
    let mut dir = RccDir::open(root)?;
    let mut names = path.iter().map(|name| name.to_str().ok_or(io::ErrorKind::InvalidInput)).peekable();
    while let Some(name) = names.next() {
        match names.peek() {
            Some(_) => dir = dir.ensure_usual_dir(name?)?,
            None => return replace_in(&dir, name?, write),
        }
    }
    Err(io::ErrorKind::InvalidInput.into())
}

fn replace_in(dir: &RccDir, name: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let temp = super::dir::unused_name(&format!(".{name}."));
    let result = write_new(dir, &temp, write).and_then(|()| dir.rename(&temp, name));
    if result.is_err()
        && let Err(error) = dir.remove_file(&temp)
    {
        log::warn!("{temp} is left behind: {error}");
    }
    result
}

fn write_new(dir: &RccDir, temp: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let mut file = dir.create_new(temp, 0o666)?;
    write(&mut file)?;
    file.sync_all()
}

/// Sets both times of an existing file to now. Anything but a regular file with one link is an error.
pub fn touch(path: &Path) -> io::Result<()> {
    let now = SystemTime::now();
    let file = in_its_dir(path, RccDir::open_to_touch)?;
    file.set_times(FileTimes::new().set_accessed(now).set_modified(now))
}

/// As [`touch`], but skips a file that was written or touched less than `recent` ago.
pub fn touch_unless(path: &Path, recent: Duration) -> io::Result<()> {
    let age = fs::metadata(path)?.modified()?.elapsed();
    if age.is_ok_and(|age| age < recent) { Ok(()) } else { touch(path) }
}

/// True if `path` is a mount point; false if it does not exist.
#[cfg(target_os = "linux")]
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// True if `path` is a mount point: its device differs from that of its parent.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let found = match path.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    let above = path.parent().unwrap_or(path).metadata()?;
    Ok(found.is_dir() && found.dev() != above.dev())
}

/// Nothing of ours is ever mounted here.
#[cfg(not(unix))]
pub fn is_mount_point(_path: &Path) -> io::Result<bool> {
    Ok(false)
}
