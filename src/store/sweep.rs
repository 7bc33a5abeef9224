//! Lists every file of a library, whether a catalog refers to it or not: for checks and garbage collection.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::rcc::digest::Digest;
use crate::store::error::StoreError;
use crate::store::layout::blob_path;
use crate::store::library::{Blob, Library};
use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;

/// The files in a library.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Files with the name and path of a blob, with their sizes on disk.
    pub blobs: Vec<(Digest, u64)>,
    /// All other entries that are not directories.
    pub strays: Vec<PathBuf>,
}

/// The maximum content size that is read of a blob whose size is not known.
const UNDECLARED: u64 = 1 << 40;
/// How often a blob is read at most, if it is being written meanwhile.
const TRIES: usize = 5;

impl Library {
    /// Walks the whole library. Files that vanish meanwhile are left out.
    pub fn sweep(&self) -> io::Result<Sweep> {
        let mut sweep = Sweep::default();
        let mut waiting = vec![(self.path().to_owned(), 0)];
        while let Some((dir, depth)) = waiting.pop() {
            let entries = match fs::read_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                let path = entry.path();
                match entry.metadata() {
                    Ok(found) if found.is_dir() && depth < 3 => waiting.push((path, depth + 1)),
                    Ok(found) => match self.placed(&path).filter(|_| found.is_file()) {
                        Some(digest) => sweep.blobs.push((digest, found.len())),
                        None => sweep.strays.push(path),
                    },
                    Err(_) => {}
                }
            }
        }
        sweep.blobs.sort_unstable_by_key(|(digest, _)| *digest);
        sweep.strays.sort_unstable();
        Ok(sweep)
    }

    /// The digest in a file's name, if the file also has the path of that blob.
    fn placed(&self, path: &Path) -> Option<Digest> {
        let digest: Digest = path.file_name()?.to_str()?.parse().ok()?;
        (path.strip_prefix(self.path()).ok()? == blob_path(&digest)).then_some(digest)
    }

    /// Reads a blob in full and checks its digest, and its size if that is known.
    pub fn verify_any(&self, digest: &Digest, size: Option<u64>) -> Result<(), StoreError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let blob = self.open_blob(digest)?;
            let verdict = match size {
                Some(size) => blob.verify(size),
                None => blob.verify_undeclared(UNDECLARED),
            };
            // RCC's import overwrites blobs in place: a read during that proves nothing.
            if verdict.is_ok() || tries == TRIES || !blob.is_disturbed() {
                return verdict;
            }
        }
    }

    /// Moves a blob out of the library, into `aside`; false if it no longer exists, or is not a regular file: such an entry stays.
    pub fn move_aside(&self, digest: &Digest, aside: impl Into<Place>) -> Result<bool, StoreError> {
        let aside = aside.into();
        let path = self.path().join(blob_path(digest));
        let failed = |source| StoreError::Unreadable { digest: *digest, path: path.clone().into(), source };
        let blob = match self.open_blob(digest) {
            Err(StoreError::Missing { .. } | StoreError::NotRegular { .. }) => return Ok(false),
            opened => opened?,
        };
        let dir = aside.ensure().map_err(failed)?;
        self.move_blob(digest, &blob, &dir).map_err(failed)
    }

    /// Renames it; if `aside` is on another device, copies and removes it.
    fn move_blob(&self, digest: &Digest, blob: &Blob, aside: &OwnedDir) -> io::Result<bool> {
        let relative = blob_path(digest);
        let (parent, name) =
            relative.parent().zip(relative.file_name()).ok_or(io::ErrorKind::InvalidInput)?;
        let library =
            crate::sys::fs::beneath::Dir::open(self.path())?.open_dir(parent).map_err(io::Error::other)?;
        match library.rename_into(name, aside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                let mut temp = aside.create_temp(".part-")?;
                io::copy(&mut blob.stored_bytes(), &mut temp.file)?;
                temp.publish(name)?;
                library.remove_file(Path::new(name))
            }
            moved => moved.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rcc::digest::Regime;
    use crate::store::{Sharing, publish};

    #[test]
    fn sweep_separates_blobs_from_strays_and_verifies_either_way() {
        let temp = tempfile::tempdir().unwrap();
        let good = Digest::of(Regime::SipHash128, b"good");
        let bad = Digest::of(Regime::SipHash128, b"bad");
        publish(temp.path(), &good, Sharing::Private, b"good").unwrap();
        publish(temp.path(), &bad, Sharing::Private, b"dab").unwrap();
        fs::write(temp.path().join("stray"), "").unwrap();
        fs::write(temp.path().join(bad.to_string()), "").unwrap();
        let library = Library::open(temp.path()).unwrap();
        let sweep = library.sweep().unwrap();
        assert_eq!(sweep.blobs.len(), 2);
        assert_eq!(sweep.strays.len(), 2);
        library.verify_any(&good, None).unwrap();
        library.verify_any(&good, Some(4)).unwrap();
        assert!(library.verify_any(&good, Some(5)).unwrap_err().is_damage());
        assert!(library.verify_any(&bad, None).unwrap_err().is_damage());
        let aside = temp.path().join("aside");
        assert!(library.move_aside(&bad, aside.as_path()).unwrap());
        assert!(!library.move_aside(&bad, aside.as_path()).unwrap());
        assert_eq!(fs::read(aside.join(bad.to_string())).unwrap(), b"dab");
    }
}
