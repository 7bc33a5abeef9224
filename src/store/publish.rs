//! Putting a blob into RCC's library, as RCC does it: `<blob>.part#…` beside it, then a rename.
//!
//! Only a recorder or importer calls this. A blob that is there is never overwritten: it may be another builder's, in
//! use right now. (A damaged one is found by verifying, not here.) Like RCC, nothing is synced.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rcc::digest::Digest;
use crate::store::error::StoreError;
use crate::store::layout::blob_path;
use crate::sys;

/// For whom the hololib is; decides the permissions of what is made in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One user's: directories 0750, files as the umask says.
    Private,
    /// A shared holotree's: directories 0777, files 0666.
    Shared,
}

/// What publishing did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The blob is new.
    Written,
    /// A blob of this name was there.
    AlreadyThere,
}

/// How often a blob is written again because its directory was removed meanwhile (RCC's `check` does that).
const TRIES: usize = 3;

/// Puts `stored`, the blob's bytes in the form the library keeps them, into `library`.
pub fn publish(
    library: &Path,
    digest: &Digest,
    sharing: Sharing,
    stored: &[u8],
) -> Result<Published, StoreError> {
    publish_with(library, digest, sharing, |out| out.write_all(stored))
}

/// As [`publish`], with the bytes written by `write`, which may be called again after a failure.
pub fn publish_with(
    library: &Path,
    digest: &Digest,
    sharing: Sharing,
    mut write: impl FnMut(&mut dyn Write) -> io::Result<()>,
) -> Result<Published, StoreError> {
    let path = library.join(blob_path(digest));
    if is_there(&path) {
        return Ok(Published::AlreadyThere);
    }
    let mut tries = 0;
    loop {
        tries += 1;
        match write_once(&path, sharing, &mut write) {
            Ok(()) => return Ok(Published::Written),
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
            Err(source) => {
                return Err(StoreError::Publish { digest: *digest, path: path.into_boxed_path(), source });
            }
        }
    }
}

/// True for a regular file; anything else in its place is replaced by the rename, or makes it fail.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn write_once(
    path: &Path,
    sharing: Sharing,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        ensure_dirs(dir, sharing)?;
    }
    let part = part_path(path);
    let written = write_part(&part, sharing, write).and_then(|()| fs::rename(&part, path));
    if written.is_err() && part.exists() {
        fs::remove_file(&part)?;
    }
    written
}

fn write_part(
    part: &Path,
    sharing: Sharing,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let file = sys::fs::shared::create_new(part, 0o666)?;
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    if sharing == Sharing::Shared {
        sys::fs::at::set_mode(&file, 0o666)?;
    }
    Ok(())
}

/// RCC's numbers its parts per process, so two processes may collide; ours carry the process number and cannot.
fn part_path(path: &Path) -> PathBuf {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".part#{}.{count}", std::process::id()));
    name.into()
}

/// Makes the three fan-out directories. Only ones of ours get their mode forced; others' stay as they are.
fn ensure_dirs(dir: &Path, sharing: Sharing) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        ensure_dirs(parent, sharing)?;
    }
    let mode = match sharing {
        Sharing::Private => 0o750,
        Sharing::Shared => 0o777,
    };
    match sys::fs::shared::make_dir(dir, mode) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;
    use crate::store::Library;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn a_published_blob_is_readable_and_nothing_else_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let digest = Digest::of(Regime::SipHash128, b"content");
        let outcome = publish(temp.path(), &digest, Sharing::Private, b"content").unwrap();
        assert_eq!(outcome, Published::Written);
        Library::open(temp.path()).unwrap().verify(&digest, 7).unwrap();
        let path = temp.path().join(blob_path(&digest));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        #[cfg(unix)]
        assert_eq!(mode(path.parent().unwrap()), 0o750);
    }

    #[test]
    #[cfg(unix)]
    fn a_shared_library_is_writable_by_all() {
        let temp = tempfile::tempdir().unwrap();
        let digest = Digest::of(Regime::SipHash128, b"content");
        publish(temp.path(), &digest, Sharing::Shared, b"content").unwrap();
        let path = temp.path().join(blob_path(&digest));
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o666, 0o777));
    }

    #[test]
    fn a_blob_that_is_there_is_not_overwritten() {
        let temp = tempfile::tempdir().unwrap();
        let digest = Digest::of(Regime::SipHash128, b"content");
        publish(temp.path(), &digest, Sharing::Private, b"content").unwrap();
        let again = publish(temp.path(), &digest, Sharing::Private, b"other").unwrap();
        assert_eq!(again, Published::AlreadyThere);
        Library::open(temp.path()).unwrap().verify(&digest, 7).unwrap();
    }

    #[test]
    fn a_failure_leaves_no_part() {
        let temp = tempfile::tempdir().unwrap();
        let digest = Digest::of(Regime::SipHash128, b"content");
        let failed = publish_with(temp.path(), &digest, Sharing::Private, |out| {
            out.write_all(b"half")?;
            Err(io::Error::from(io::ErrorKind::StorageFull))
        });
        assert!(matches!(failed, Err(StoreError::Publish { .. })));
        let dir = temp.path().join(blob_path(&digest));
        assert_eq!(fs::read_dir(dir.parent().unwrap()).unwrap().count(), 0);
    }
}
