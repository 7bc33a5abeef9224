//! Lock files: opened without following links, and checked to be still the file of that name once locked.
//!
//! The locks themselves are `std`'s: flock(2) on Unix, as in RCC. On Windows they are of the whole file, and RCC's are of its
//! first byte, so that they exclude each other. The kernel releases them with the last descriptor, so no crash leaves one behind.
//!
//! Who holds a lock may sign it: in the file itself, or on Windows, where nobody else can read what is locked, in `<name>.holder`
//! beside it.

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

/// Makes `text` the signature of the lock file at `path`, which is held by `file`.
#[cfg(unix)]
pub fn sign(file: &mut File, _path: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::{Seek, Write};
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text)
}

/// Makes `text` the signature of the lock file at `path`, which is held by `_file`.
#[cfg(windows)]
pub fn sign(_file: &mut File, path: &Path, text: &[u8]) -> io::Result<()> {
    std::fs::write(path.with_extension("holder"), text)
}

/// The signature of the lock file at `path`, held or not.
pub fn signature(path: &Path) -> io::Result<Vec<u8>> {
    if cfg!(windows) { std::fs::read(path.with_extension("holder")) } else { std::fs::read(path) }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_finds_a_lock_held_can_read_who_holds_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("lock");
        let mut file = open(&path, 0o600).unwrap();
        file.try_lock().unwrap();
        for text in [&b"a longer text"[..], b"short", b""] {
            sign(&mut file, &path, text).unwrap();
            assert_eq!(signature(&path).unwrap(), text);
        }
        assert!(File::open(&path).unwrap().try_lock_shared().is_err());
    }
}
