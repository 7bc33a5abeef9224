//! A large Index is read when its entries are used. If it was damaged by then, the catalog is compiled again; if that fails, too, every
//! request that needs an entry fails with EIO: nothing seems to be missing, and nothing is changed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use holofs::fs::vfs::{Listed, Listing, New, Vfs, VfsError};
use holofs::store::index::{Index, Ino, Made, index_path};
use holofs::store::memory::MemorySource;
use holofs::sys::errno::Errno;
use holofs::sys::fs::place::Place;

use super::bare::CALLER;
use super::listed::{large, space_of};

/// More than are read at once when the Index is opened.
const FILES: usize = 5000;

struct Names(Vec<String>);

impl Listing for Names {
    fn add(&mut self, entry: &Listed<'_>) -> bool {
        self.0.push(String::from_utf8(entry.name.to_vec()).unwrap());
        false
    }
}

/// A catalog and its Index, which a mount opens without reading the entries.
struct Known {
    temp: tempfile::TempDir,
    catalog: PathBuf,
    indexes: Place,
}

impl Known {
    fn new() -> Known {
        let temp = tempfile::tempdir().unwrap();
        let (catalog, indexes) = (temp.path().join("catalog"), Place::top(temp.path().join("index")));
        let names = (0..FILES).map(|at| format!("file-{at:05}"));
        large(names, &mut MemorySource::new()).write_to(File::create(&catalog).unwrap()).unwrap();
        // The state of a file that changed less than a second ago is not stored.
        std::thread::sleep(Duration::from_millis(1100));
        let (_, made) = Index::ensure(&indexes, &catalog).unwrap();
        assert_eq!(made, Made::Compiled(None));
        Known { temp, catalog, indexes }
    }

    /// The space; the stored entries are lost right after the Index was opened.
    fn space(&self) -> Vfs {
        let (index, made) = Index::ensure_ahead(&self.indexes, &self.catalog).unwrap();
        assert_eq!(made, Made::Opened);
        truncate(index_path(&self.indexes, &index.id()).path(), 4096);
        let dir = self.temp.path().join("state");
        fs::create_dir(&dir).unwrap();
        space_of(&dir, index, MemorySource::new())
    }
}

fn truncate(path: &Path, len: u64) {
    File::options().write(true).open(path).unwrap().set_len(len).unwrap();
}

fn names(vfs: &Vfs, dir: Ino) -> Result<Vec<String>, VfsError> {
    let mut names = Names(Vec::new());
    vfs.list(dir, 0, false, &mut names)?;
    Ok(names.0)
}

#[test]
fn damaged_index_of_a_live_mount_is_compiled_again() {
    let known = Known::new();
    let vfs = known.space();
    fs::remove_file(&known.catalog).unwrap(); // the open file is used
    let many = vfs.lookup(Ino::ROOT, b"many").unwrap().ino;
    let listed = names(&vfs, many).unwrap();
    assert_eq!((listed.len(), listed[2].as_str()), (FILES + 2, "file-00000"));
    assert_eq!(vfs.lookup(many, b"file-04999").unwrap().size, 1);
    assert!(matches!(vfs.lookup(many, b"file-05000"), Err(VfsError::NoEntry)));
}

#[test]
fn entries_that_can_be_neither_read_nor_compiled_again_are_an_io_error_and_not_missing() {
    let known = Known::new();
    let vfs = known.space();
    truncate(&known.catalog, 100);
    let made = vfs.make(CALLER, Ino::ROOT, b"many", 0o644, New::Dir).map(drop);
    let looked_up = vfs.lookup(Ino::ROOT, b"many").map(drop);
    let listed = names(&vfs, Ino::ROOT).map(drop);
    let read = vfs.getattr(Ino(2)).map(drop);
    for (what, outcome) in [("make", made), ("lookup", looked_up), ("list", listed), ("getattr", read)] {
        let errno = outcome.map_err(|error| (error.errno(), error.is_ordinary()));
        assert_eq!(errno, Err((Errno::IO, false)), "{what}");
    }
}
