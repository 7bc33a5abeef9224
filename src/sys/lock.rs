//! Lock files: opened without following links, and checked to be still the file of that name once locked.
//!
//! The locks themselves are `std`'s: flock(2) on Unix, as in RCC. On Windows they are of the whole file, and RCC's are of its
//! first byte, so that they exclude each other. The kernel releases them with the last descriptor, so no crash leaves one behind.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

/// Opens or makes the lock file at `path`; `mode` is for a new one, before umask. A link there is an error.
pub fn open(path: &Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.mode(mode).custom_flags(flags.bits().cast_signed());
    }
    #[cfg(windows)]
    {
        let _inherited = mode; // access lists are
        super::open::open_file(path, &options)
    }
    #[cfg(unix)]
    options.open(path)
}

/// True if `path` still names `file`: a lock on a file that was removed in the meantime locks nothing.
#[cfg(unix)]
pub fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let ours = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((ours.dev(), ours.ino()) == (there.dev(), there.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// True if `path` still names `file`: a lock on a file that was removed in the meantime locks nothing.
#[cfg(windows)]
pub fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    match super::open::look(path) {
        Ok(there) => Ok(super::info::Info::of(file)?.id == there.id),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Gives everybody read and write if a bit of that is missing, as RCC does in shared mode.
#[cfg(unix)]
pub fn share(file: &File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if file.metadata()?.permissions().mode() & 0o666 == 0o666 {
        return Ok(());
    }
    file.set_permissions(std::fs::Permissions::from_mode(0o666))
}

/// Access lists are inherited here.
#[cfg(not(unix))]
pub fn share(_file: &File) -> io::Result<()> {
    Ok(())
}
