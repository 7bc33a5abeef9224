//! The entries of an Index: in memory, or read block by block when they are first used.
//!
//! No user sees an entry that was not checked. If one turns out to be damaged, the catalog is compiled again, and from then on all
//! entries are the new ones, which are the same: the Index of a catalog is always the same bytes.

use std::fs::File;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::error::IndexError;
use super::format::{self, BLOCK, Header, RECORD_LEN, Record, Slice};
use super::shape;
use crate::error::chain;
use crate::sys::fs::filled::Blocks;
use crate::sys::fs::offset::FileExt;

/// What messages call an Index that is not in a file.
pub(super) const IN_MEMORY: &str = "(memory)";

/// Compiles the catalog again, into the entries of an Index.
pub(super) type Repair = Box<dyn FnOnce() -> Result<Vec<u8>, IndexError> + Send>;

/// The entries, and how to get them again.
pub(super) struct Entries {
    bytes: Bytes,
    repair: Mutex<Option<Repair>>,
    /// Used instead of `bytes` since damage was found; `None` if they could not be compiled.
    again: OnceLock<Option<Vec<u8>>>,
}

/// Records and heap.
pub(super) enum Bytes {
    /// In memory.
    Owned(Vec<u8>),
    /// In a file.
    Stored(Stored),
}

/// Entries in a file of which only the head has been read.
pub(super) struct Unread {
    /// The Index.
    pub path: PathBuf,
    /// The open file.
    pub file: File,
    /// The checksums of the blocks.
    pub checksums: Vec<u32>,
}

/// Entries in a file: a block is read and checked when it is first used, and stays in memory.
pub(super) struct Stored {
    path: PathBuf,
    file: File,
    /// Where they begin in the file.
    start: u64,
    checksums: Vec<u32>,
    blocks: Blocks,
}

impl Stored {
    /// The entries of the Index with this header. Nothing is read yet.
    pub fn new(Unread { path, file, checksums }: Unread, header: &Header) -> Result<Stored, IndexError> {
        let start = u64::from(header.first_record);
        let len = usize::try_from(header.file_len.saturating_sub(start)).unwrap_or(0);
        match Blocks::new(len, BLOCK) {
            Ok(blocks) => Ok(Stored { path, file, start, checksums, blocks }),
            Err(source) => Err(IndexError::Read { path, source }),
        }
    }

    /// Fills `bytes` with the block of this number.
    fn read(&self, number: usize, bytes: &mut [u8]) -> Result<(), IndexError> {
        let read = |source| IndexError::Read { path: self.path.clone(), source };
        self.file.read_exact_at(bytes, self.start + (number * BLOCK) as u64).map_err(read)?;
        let is_whole = self.checksums.get(number) == Some(&format::checksum(bytes));
        let what = "the checksum of some entries does not match";
        if is_whole { Ok(()) } else { Err(IndexError::Damaged { path: self.path.clone(), what }) }
    }
}

impl Bytes {
    fn get(&self, range: Range<usize>) -> Result<Option<&[u8]>, IndexError> {
        match self {
            Bytes::Owned(owned) => Ok(owned.get(range)),
            Bytes::Stored(stored) => stored.blocks.get(range, |number, bytes| stored.read(number, bytes)),
        }
    }

    /// The Index, for messages.
    fn path(&self) -> PathBuf {
        match self {
            Bytes::Owned(_) => PathBuf::from(IN_MEMORY),
            Bytes::Stored(stored) => stored.path.clone(),
        }
    }

    /// Reads all of them.
    fn all(&self) -> Result<&[u8], IndexError> {
        match self {
            Bytes::Owned(owned) => Ok(owned),
            Bytes::Stored(stored) => stored.blocks.all(|number, bytes| stored.read(number, bytes)),
        }
    }
}

impl Entries {
    /// These entries, all of which are read and checked: they are intact, and form a tree.
    pub fn checked(header: &Header, bytes: Bytes) -> Result<Entries, IndexError> {
        let entries = Entries { bytes, repair: Mutex::new(None), again: OnceLock::new() };
        entries.check(header)?;
        Ok(entries)
    }

    /// These entries, which are checked when they are used.
    pub fn unchecked(stored: Stored, repair: Repair) -> Entries {
        let repair = Mutex::new(Some(repair));
        Entries { bytes: Bytes::Stored(stored), repair, again: OnceLock::new() }
    }

    /// The bytes at `slice`; `None` if there are none.
    pub fn slice(&self, slice: Slice) -> Option<&[u8]> {
        let start = usize::try_from(slice.at).ok()?;
        self.get(start..start.checked_add(usize::try_from(slice.len).ok()?)?)
    }

    /// The record at `position`.
    pub fn record(&self, position: u32) -> Option<Record<'_>> {
        let start = (position as usize).checked_mul(RECORD_LEN)?;
        self.get(start..start.checked_add(RECORD_LEN)?)?.try_into().ok().map(Record::of)
    }

    /// Reads and checks what has not been used yet.
    pub fn complete(&self, header: &Header) {
        if self.again.get().is_none()
            && let Err(damage) = self.check(header)
        {
            self.compile_again(&damage);
        }
    }

    /// True if entries are damaged and cannot be compiled again: some seem not to exist.
    pub fn are_lost(&self) -> bool {
        matches!(self.again.get(), Some(None))
    }

    fn check(&self, header: &Header) -> Result<(), IndexError> {
        match shape::fault(header, self.bytes.all()?) {
            None => Ok(()),
            Some(what) => Err(IndexError::Damaged { path: self.bytes.path(), what }),
        }
    }

    fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        if self.again.get().is_none() {
            match self.bytes.get(range.clone()) {
                Ok(found) => return found,
                Err(damage) => self.compile_again(&damage),
            }
        }
        self.again.get()?.as_ref()?.get(range)
    }

    fn compile_again(&self, damage: &IndexError) {
        self.again.get_or_init(|| {
            let repair = self.repair.lock().unwrap_or_else(PoisonError::into_inner).take()?;
            let entries = repair();
            match &entries {
                Ok(_) => log::warn!("{}: compiled again, in memory", chain(damage)),
                Err(error) => {
                    log::error!("{}, and it cannot be compiled again: {}", chain(damage), chain(error))
                }
            }
            entries.ok()
        });
    }
}
