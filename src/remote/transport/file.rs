//! A directory: a shared disk, a mounted volume, the root of a web server.
//!
//! Values are published by rename. Everyone who may read the directory may read its content: the umask decides.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keyed::{Bucket, Listed};
use crate::remote::error::RemoteError;
use crate::sys::fs::offset::FileExt;
use crate::sys::fs::shared;
use crate::sys::fs::stat::open_to_read;

/// The directory.
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The directory at `root`, which is created with the first value.
    pub fn new(root: &Path) -> Directory {
        Directory { root: root.to_owned() }
    }

    fn open(&self, key: &str) -> Result<Option<(File, PathBuf)>, RemoteError> {
        let path = self.root.join(key);
        let opened = open_to_read(&path).and_then(|file| match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
        });
        match opened {
            Ok(file) => Ok(Some((file, path))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RemoteError::Io { doing: "Opening", path, source }),
        }
    }
}

impl Bucket for Directory {
    fn get(&self, key: &str, limit: u64) -> Result<Option<Vec<u8>>, RemoteError> {
        let Some((file, path)) = self.open(key)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(RemoteError::io("Reading", &path))?;
        match bytes.len() as u64 > limit {
            true => {
                let source =
                    io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {limit} bytes"));
                Err(RemoteError::Io { doing: "Reading", path, source })
            }
            false => Ok(Some(bytes)),
        }
    }

    fn size(&self, key: &str) -> Result<Option<u64>, RemoteError> {
        let Some((file, path)) = self.open(key)? else { return Ok(None) };
        file.metadata().map(|found| Some(found.len())).map_err(RemoteError::io("Looking at", path))
    }

    fn range(&self, key: &str, _: u64, range: Range<u64>, _: Duration) -> Result<Vec<u8>, RemoteError> {
        let Some((file, path)) = self.open(key)? else {
            let (what, remote) = (key.to_owned(), format!("file://{}", self.root.display()));
            return Err(RemoteError::NotFound { what, remote });
        };
        let failed = RemoteError::io("Reading", path);
        let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other);
        let read = len.and_then(|len| {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, range.start).map(|()| bytes)
        });
        read.map_err(failed)
    }

    fn put(&self, key: &str, bytes: &[u8]) -> Result<(), RemoteError> {
        let path = self.root.join(key);
        let written = shared::replace_below(&self.root, Path::new(key), |file| file.write_all(bytes));
        written.map_err(RemoteError::io("Writing", &path))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Listed>, RemoteError> {
        let mut found = Vec::new();
        let mut waiting = vec![prefix.trim_end_matches('/').to_owned()];
        while let Some(at) = waiting.pop() {
            let path = self.root.join(&at);
            let entries = match fs::read_dir(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(RemoteError::io("Listing", &path))?,
            };
            for entry in entries {
                let failed = || RemoteError::io("Listing", &path);
                let entry = entry.map_err(failed())?;
                let Ok(name) = entry.file_name().into_string() else { continue };
                let (key, metadata) = (format!("{at}/{name}"), entry.metadata().map_err(failed())?);
                if metadata.is_dir() {
                    waiting.push(key);
                } else if metadata.is_file() {
                    let written = metadata.modified().map_err(failed())?;
                    found.push(Listed { key, size: metadata.len(), written });
                }
            }
        }
        Ok(found)
    }

    fn remove(&self, key: &str) -> Result<(), RemoteError> {
        let path = self.root.join(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(RemoteError::Io { doing: "Removing", path, source: error })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::object::{Object, ObjectId, ObjectKind};
    use crate::remote::reference::Reference;
    use crate::remote::transport::{Remote, keyed::Keyed};

    #[test]
    fn objects_and_names_come_back_and_go() {
        let temp = tempfile::tempdir().unwrap();
        let remote = Keyed::new("file:///x".to_owned(), Directory::new(&temp.path().join("new")));
        let pack = Object { kind: ObjectKind::Pack, id: ObjectId::of(b"content"), size: 7 };
        assert_eq!(remote.size(&pack).unwrap(), None);
        assert_eq!(remote.names().unwrap(), [""; 0]);
        remote.put(&pack, b"content").unwrap();
        assert_eq!(remote.size(&pack).unwrap(), Some(7));
        assert_eq!(remote.range(&pack, 2..5, Duration::ZERO).unwrap(), b"nte");
        assert!(remote.range(&pack, 5..8, Duration::ZERO).is_err());
        assert_eq!(remote.get(&pack).unwrap().unwrap(), b"content");
        assert!(remote.get(&Object { size: 6, ..pack }).is_err());
        let reference = Reference::new(pack.id, 7, "c".to_owned(), 1);
        remote.publish("prod", &reference, &[]).unwrap();
        assert_eq!(remote.names().unwrap(), ["prod"]);
        assert_eq!(remote.reference("prod").unwrap(), Some(reference));
        assert_eq!(remote.reference("other").unwrap(), None);
        let objects = remote.objects().unwrap().unwrap();
        assert_eq!(objects.iter().map(|(object, _)| *object).collect::<Vec<_>>(), [pack]);
        remote.remove(&pack).unwrap();
        remote.remove_name("prod").unwrap();
        assert!(remote.objects().unwrap().unwrap().is_empty());
    }
}
