//! Lock files: opened without following links, and checked after locking to be still the file of that name.
//!
//! The locks themselves are `std`'s: flock(2) on Unix, as in RCC. On Windows they cover the whole file, and RCC's its first byte, so
//! that they exclude each other. The kernel releases them with the last descriptor, so no crash leaves one behind.
//!
//! The holder of a lock may sign it: in the file itself, or, on Windows, where other processes cannot read a locked file, in
//! `<name>.holder` next to it.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use super::place::Place;

/// Higher than the descriptors that a command opens.
#[cfg(unix)]
const HIGH: i32 = 900;

/// Opens or creates the lock file at `path`; `mode` is for a new one, before umask. A link there is an error.
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
        let _inherited = mode; // access lists are inherited
        super::open::open_file(path, &options)
    }
    #[cfg(unix)]
    options.open(path).and_then(only_regular)
}

/// Only a regular file without other hard links can be a lock file, since locking may also change its mode.
#[cfg(unix)]
fn only_regular(file: File) -> io::Result<File> {
    use std::os::unix::fs::MetadataExt;
    let meta = file.metadata()?;
    match meta.is_file() && meta.nlink() <= 1 {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a regular file of one name")),
    }
}

/// Opens or creates the lock file at a place of our own, including its directory.
pub fn open_own(place: &Place) -> io::Result<File> {
    place.in_dir(|dir, name| dir.open_or_create(name))
}

/// The same file under a high descriptor: when a process is killed, the kernel closes its descriptors in ascending order.
#[cfg(unix)]
pub fn closed_last(file: File) -> File {
    match rustix::io::fcntl_dupfd_cloexec(&file, HIGH) {
        Ok(high) => high.into(),
        // The limit of descriptors is lower than that.
        Err(_) => file,
    }
}

/// Opens the lock file at a place of our own, to check whether it is held.
pub fn look_at(place: &Place) -> io::Result<File> {
    place.open_file()
}

/// As [`is_still_at`], for a place of our own.
pub fn is_still_own(file: &File, place: &Place) -> io::Result<bool> {
    match place.open_dir_of(|dir, name| dir.names_file(name, file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        outcome => outcome,
    }
}

/// True if `path` still names `file`: a lock on a file that was removed meanwhile protects nothing.
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

/// True if `path` still names `file`: a lock on a file that was removed meanwhile protects nothing.
#[cfg(windows)]
pub fn is_still_at(file: &File, path: &Path) -> io::Result<bool> {
    super::open::names(path, file)
}

/// The maximum number of bytes read of a signature.
const SIGNATURE: u64 = 4096;

/// Writes `text` as the signature of the lock file at `place`, which is held by `file`.
#[cfg(unix)]
pub fn sign(file: &mut File, _place: &Place, text: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    // A new file is not truncated: ext4 writes a truncated file to disk as soon as it is closed.
    if file.metadata()?.len() > 0 {
        file.set_len(0)?;
    }
    file.write_all_at(text, 0)
}

/// Writes `text` as the signature of the lock file at `place`, which is held by `_file`.
#[cfg(windows)]
pub fn sign(_file: &mut File, place: &Place, text: &[u8]) -> io::Result<()> {
    place.with_extension("holder").publish(text)
}

/// The signature of the lock file at `place`, held or not.
pub fn signature(place: &Place) -> io::Result<Vec<u8>> {
    if cfg!(windows) { place.with_extension("holder").read(SIGNATURE) } else { place.read(SIGNATURE) }
}

/// Gives everybody read and write permission if it is missing, as RCC does in shared mode.
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
    fn lock_that_is_held_names_its_holder() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::top(temp.path()).below("lock");
        let mut file = open_own(&place).unwrap();
        file.try_lock().unwrap();
        for text in [&b"a longer text"[..], b"short", b""] {
            sign(&mut file, &place, text).unwrap();
            assert_eq!(signature(&place).unwrap(), text);
        }
        assert!(is_still_own(&file, &place).unwrap());
        assert!(look_at(&place).unwrap().try_lock_shared().is_err());
    }
}
