//! The stamp of a pristine tree on disk: what was made, so that what was changed shows.
//!
//! Little endian, with a checksum that finds damage; a stamp that is damaged, of another catalog or another version is none.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use crate::sys::btrfs::State;
use crate::tree::{Index, checksum};

/// The last digit counts versions of the stamp and of the tree: since 3, a subvolume is laid out so that patching is cheap.
const MAGIC: &[u8; 8] = b"HOLOPRS3";
/// Magic, checksum, kind, umask, catalog id, subvolume's uuid and change, count of nodes, bytes of content.
const HEADER: usize = 8 + 4 + 2 + 2 + 32 + 16 + 8 + 8 + 8;
/// In place of a umask that was not known.
const NO_UMASK: u16 = u16::MAX;

/// How a pristine tree was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Files linked to the raw store.
    Directory,
    /// Files of its own, in a btrfs subvolume.
    Subvolume,
}

/// What a pristine tree was when it was made.
pub struct Stamp {
    pub kind: Kind,
    pub umask: Option<u16>,
    /// Of a subvolume.
    pub state: Option<State>,
    /// By position in the Index: the file's inode number, 0 for what is not in the tree or no file.
    pub inodes: Vec<u64>,
}

impl Stamp {
    /// The stamp at `path`, if it is one of `index`.
    pub fn read(path: &Path, index: &Index) -> Option<Stamp> {
        let bytes = fs::read(path).ok()?;
        let checked = bytes.get(12..)?;
        let sum = u32::from_le_bytes(bytes.get(8..12)?.try_into().ok()?);
        if bytes.get(..8)? != MAGIC || sum != checksum(checked) || bytes.get(16..48)? != id_of(index) {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let kind = if short(12)? == 1 { Kind::Subvolume } else { Kind::Directory };
        let umask = Some(short(14)?).filter(|&umask| umask != NO_UMASK);
        let uuid: [u8; 16] = bytes.get(48..64)?.try_into().ok()?;
        let state = (kind == Kind::Subvolume).then_some(State { uuid, changed: number(64)? });
        let inodes = bytes.get(HEADER..)?.as_chunks::<8>().0;
        let is_whole = number(72)? == index.len() && inodes.len() as u64 == index.len();
        let inodes = inodes.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        is_whole.then_some(Stamp { kind, umask, state, inodes })
    }

    /// How much content the tree has whose stamp is at `path`, without checking the stamp. Those of older versions tell it at
    /// the same place: trees that nobody uses any more go as well.
    pub fn content_bytes(path: &Path) -> Option<u64> {
        let mut header = [0; HEADER];
        fs::File::open(path).ok()?.read_exact(&mut header).ok()?;
        header.starts_with(&MAGIC[..7]).then(|| header.last_chunk().map(|last| u64::from_le_bytes(*last)))?
    }

    /// Writes the stamp beside and renames it there.
    pub fn publish(&self, path: &Path, index: &Index) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEADER + 8 * self.inodes.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&u16::from(self.kind == Kind::Subvolume).to_le_bytes());
        bytes.extend_from_slice(&self.umask.unwrap_or(NO_UMASK).to_le_bytes());
        bytes.extend_from_slice(&id_of(index));
        bytes.extend_from_slice(&self.state.map(|state| state.uuid).unwrap_or_default());
        bytes.extend_from_slice(&self.state.map(|state| state.changed).unwrap_or_default().to_le_bytes());
        bytes.extend_from_slice(&index.len().to_le_bytes());
        bytes.extend_from_slice(&index.content_bytes().to_le_bytes());
        self.inodes.iter().for_each(|inode| bytes.extend_from_slice(&inode.to_le_bytes()));
        let sum = checksum(&bytes[12..]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        let dir = path.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::Builder::new().prefix(".stamp-").tempfile_in(dir)?;
        file.write_all(&bytes)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }
}

/// The catalog's id, 32 bytes.
fn id_of(index: &Index) -> Vec<u8> {
    let mut id = index.id().as_bytes().to_vec();
    id.resize(32, 0);
    id
}
