//! The stamp of a pristine tree on disk: its state when it was created, so that changes can be detected.
//!
//! Little endian; a stamp that is damaged, of another catalog or another version is ignored.

use std::io::{self, Read};

use crate::space::materialize::checksummed::{self, Magic, id_of};
use crate::store::index::Index;
use crate::sys::fs::btrfs::State;
use crate::sys::fs::place::Place;

/// The last digit is the version of the stamp and of the tree: since 3, a subvolume is laid out so that patching is cheap; since 4,
/// its newest change is in the stamp.
const MAGIC: &Magic = b"HOLOPRS4";
/// TreeKind, umask, catalog id, subvolume's uuid and change, count of nodes, bytes of content.
const FIELDS: usize = 2 + 2 + 32 + 16 + 8 + 8 + 8;
/// After them, the newest change time: seconds and nanoseconds; then the inode numbers.
const NEWEST: usize = 8 + 8;
/// Placeholder for an unknown umask.
const NO_UMASK: u16 = u16::MAX;

/// How a pristine tree was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeKind {
    /// Hard links to the raw store.
    Directory,
    /// Its own files, in a btrfs subvolume.
    Subvolume,
}

/// The state of a pristine tree when it was created.
pub struct Stamp {
    pub kind: TreeKind,
    pub umask: Option<u16>,
    /// For a subvolume.
    pub state: Option<State>,
    /// The newest change time of a file in a subvolume, in seconds and nanoseconds.
    pub newest: (i64, u64),
    /// By position in the Index: the file's inode number, 0 if it is not in the tree or not a file.
    pub inodes: Vec<u64>,
}

impl Stamp {
    /// The stamp at `path`, if it belongs to `index`.
    pub fn read(place: &Place, index: &Index) -> Option<Stamp> {
        let body = checksummed::read(place, MAGIC)?;
        let number = |at: usize| Some(u64::from_le_bytes(body.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u16::from_le_bytes(body.get(at..at + 2)?.try_into().ok()?));
        let kind = if short(0)? == 1 { TreeKind::Subvolume } else { TreeKind::Directory };
        let umask = Some(short(2)?).filter(|&umask| umask != NO_UMASK);
        let uuid: [u8; 16] = body.get(36..52)?.try_into().ok()?;
        let state = (kind == TreeKind::Subvolume).then_some(State { uuid, changed: number(52)? });
        let newest = (number(FIELDS)?.cast_signed(), number(FIELDS + 8)?);
        let inodes = body.get(FIELDS + NEWEST..)?.as_chunks::<8>().0;
        let is_whole = number(60)? == index.len() && inodes.len() as u64 == index.len();
        let inodes = inodes.iter().map(|chunk| u64::from_le_bytes(*chunk)).collect();
        (is_whole && body.get(4..36)? == id_of(index)).then_some(Stamp { kind, umask, state, newest, inodes })
    }

    /// The content size of the tree whose stamp is at `path`, without checking the stamp. Older versions store it at the same
    /// position: trees that are no longer used are removed as well.
    pub fn content_bytes(place: &Place) -> Option<u64> {
        let mut start = [0; checksummed::HEAD + FIELDS];
        place.open_file().ok()?.read_exact(&mut start).ok()?;
        start.starts_with(&MAGIC[..7]).then(|| start.last_chunk().map(|last| u64::from_le_bytes(*last)))?
    }

    /// Writes the stamp to a temporary file and renames it.
    pub fn publish(&self, place: &Place, index: &Index) -> io::Result<()> {
        let mut body = Vec::with_capacity(FIELDS + NEWEST + 8 * self.inodes.len());
        body.extend_from_slice(&u16::from(self.kind == TreeKind::Subvolume).to_le_bytes());
        body.extend_from_slice(&self.umask.unwrap_or(NO_UMASK).to_le_bytes());
        body.extend_from_slice(&id_of(index));
        body.extend_from_slice(&self.state.map(|state| state.uuid).unwrap_or_default());
        body.extend_from_slice(&self.state.map(|state| state.changed).unwrap_or_default().to_le_bytes());
        body.extend_from_slice(&index.len().to_le_bytes());
        body.extend_from_slice(&index.content_bytes().to_le_bytes());
        body.extend_from_slice(&self.newest.0.to_le_bytes());
        body.extend_from_slice(&self.newest.1.to_le_bytes());
        self.inodes.iter().for_each(|inode| body.extend_from_slice(&inode.to_le_bytes()));
        checksummed::write(place, MAGIC, &body)
    }
}
