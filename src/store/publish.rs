//! Adds a blob to RCC's library as RCC does: a `<blob>.part#…` next to it, then a rename.
//!
//! Only recorders and importers call this. An existing blob is never overwritten: another builder may be using it. (A damaged one is
//! found by verification, not here.) Like RCC, nothing is synced.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rcc::digest::Digest;
use crate::store::error::StoreError;
use crate::store::layout::blob_path;
use crate::sys;
use crate::sys::fs::shared::RccDir;

/// Who shares the hololib; determines the permissions of new files in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// One user's: directories 0750, files according to the umask.
    Private,
    /// A shared holotree's: directories 0777, files 0666.
    Shared,
}

/// The result of publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// The blob is new.
    Written,
    /// A blob of this name existed.
    AlreadyThere,
}

/// How often writing a blob is tried at most, if its directory is removed meanwhile (RCC's `check` does that).
const TRIES: usize = 3;

/// Adds `stored`, the blob's bytes in the library's encoding, to `library`.
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
    let relative = blob_path(digest);
    let path = library.join(&relative);
    let mut tries = 0;
    loop {
        tries += 1;
        match write_once(library, &relative, sharing, &mut write) {
            Ok(published) => return Ok(published),
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {}
            Err(source) => {
                return Err(StoreError::Publish { digest: *digest, path: path.into_boxed_path(), source });
            }
        }
    }
}

/// Removes a blob that nothing refers to yet: for a caller that has just published it, and holds RCC's lock of the hololib since.
pub fn withdraw(library: &Path, digest: &Digest) -> io::Result<()> {
    let relative = blob_path(digest);
    let mut names = relative.iter().map(|name| name.to_str().unwrap_or_default());
    let blob = names.next_back().unwrap_or_default();
    let dir = names.try_fold(RccDir::open(library)?, |dir, name| dir.open_dir(name))?;
    dir.remove_file(blob)
}

/// All names are relative to the descriptor of the directory, so that a link in the library, or in place of a blob, redirects nothing:
/// the rename replaces anything that is not a regular file, or fails.
fn write_once(
    library: &Path,
    relative: &Path,
    sharing: Sharing,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<Published> {
    let mut names = relative.iter().map(|name| name.to_str().unwrap_or_default());
    let blob = names.next_back().unwrap_or_default();
    let mode = match sharing {
        Sharing::Private => 0o750,
        Sharing::Shared => 0o777,
    };
    let top = match RccDir::open(library) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            sys::fs::shared::ensure_dir(library, sharing == Sharing::Shared)?;
            RccDir::open(library)?
        }
        opened => opened?,
    };
    let dir = names.try_fold(top, |dir, name| dir.ensure_dir(name, mode))?;
    if dir.has_file(blob) {
        return Ok(Published::AlreadyThere);
    }
    let part = part_name(blob);
    let written = write_part(&dir, &part, sharing, write).and_then(|()| dir.rename(&part, blob));
    if written.is_err() {
        dir.remove_file(&part)?;
    }
    written.map(|()| Published::Written)
}

fn write_part(
    dir: &RccDir,
    part: &str,
    sharing: Sharing,
    write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let file = dir.create_new(part, 0o666)?;
    let mut out = BufWriter::with_capacity(64 * 1024, file);
    write(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    if sharing == Sharing::Shared {
        sys::fs::at::set_mode(&file, 0o666)?;
    }
    Ok(())
}

/// RCC numbers its parts per process, so two processes may collide; our names contain the pid and cannot.
fn part_name(blob: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{blob}.part#{}.{count}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;
    use crate::store::Library;
    use std::fs;

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
    #[cfg(unix)]
    fn a_link_in_the_library_leads_no_blob_out_of_it() {
        use std::os::unix::fs::symlink;
        let digest = Digest::of(Regime::SipHash128, b"content");
        let relative = blob_path(&digest);
        for depth in 1..=3 {
            let (library, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let planted: std::path::PathBuf = relative.iter().take(depth).collect();
            fs::create_dir_all(library.path().join(&planted).parent().unwrap()).unwrap();
            symlink(outside.path(), library.path().join(&planted)).unwrap();
            publish(library.path(), &digest, Sharing::Shared, b"content").unwrap_err();
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "depth {depth}");
        }
        // A link or a FIFO in place of the blob itself is replaced.
        let (library, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let place = library.path().join(&relative);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        symlink(outside.path().join("file"), &place).unwrap();
        assert_eq!(
            publish(library.path(), &digest, Sharing::Shared, b"content").unwrap(),
            Published::Written
        );
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        Library::open(library.path()).unwrap().verify(&digest, 7).unwrap();
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
