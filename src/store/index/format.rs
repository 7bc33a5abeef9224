//! The Index on disk: a header and its texts (together: the head), fixed-size records, and a heap of names, link texts and offsets.
//!
//! All numbers are little endian. There are two checksums, CRC-32 of all bytes after them: one of the whole, and one of the head, which
//! many commands read alone. They detect damage, not tampering, which is enough for a file in a directory of our own. Positions and
//! lengths are checked at each access.

use crate::rcc::catalog::CatalogId;
use crate::rcc::digest::Digest;
use crate::sys::fs::map::Mapped;

/// The first bytes of every Index; the last digit is the format's version.
pub const MAGIC: &[u8; 8] = b"HOLOIDX2";
/// Bytes of the header; its texts follow.
pub const HEADER_LEN: usize = 160;
/// Bytes of one record.
pub const RECORD_LEN: usize = 64;
/// The end of the checksums and the start of the checksummed bytes.
pub const CHECKED_FROM: usize = 16;

/// The kind of a directory.
pub const KIND_DIR: u8 = 0;
/// The kind of a regular file.
pub const KIND_FILE: u8 = 1;
/// The kind of a symbolic link.
pub const KIND_LINK: u8 = 2;

/// A place in the file: offset and length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slice {
    /// Offset from the file's start.
    pub at: u32,
    /// Length.
    pub len: u32,
}

/// The decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// SHA-256 of the catalog file.
    pub id: CatalogId,
    /// The recorded identity.
    pub identity: [u8; 24],
    /// The number of records.
    pub nodes: u32,
    /// Offset of the first record.
    pub first_record: u32,
    /// Length of the whole file.
    pub file_len: u64,
    /// Bytes of all regular files.
    pub content_bytes: u64,
    /// Directory of the spaces.
    pub base: Slice,
    /// Blueprint.
    pub blueprint: Slice,
    /// Platform.
    pub platform: Slice,
    /// Version of RCC.
    pub rcc: Slice,
    /// The path of some file, with `/`.
    pub some_file: Slice,
}

/// Why bytes are not a valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoHeader {
    /// They are not an Index of this version.
    Foreign,
    /// They are too short or contradict themselves.
    Damaged,
}

impl Header {
    /// The header's bytes, with checksums of zero.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&self.file_len.to_le_bytes());
        out.extend_from_slice(&self.content_bytes.to_le_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.identity);
        out.extend_from_slice(&self.nodes.to_le_bytes());
        out.extend_from_slice(&self.first_record.to_le_bytes());
        for slice in [self.base, self.blueprint, self.platform, self.rcc, self.some_file] {
            out.extend_from_slice(&slice.at.to_le_bytes());
            out.extend_from_slice(&slice.len.to_le_bytes());
        }
        out.resize(HEADER_LEN, 0);
        out
    }

    /// Parses a header from the first [`HEADER_LEN`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Header, NoHeader> {
        if bytes.get(..8) != Some(MAGIC) {
            return Err(NoHeader::Foreign);
        }
        let fields = bytes.get(CHECKED_FROM..HEADER_LEN).ok_or(NoHeader::Damaged)?;
        Header::fields(fields).ok_or(NoHeader::Damaged)
    }

    fn fields(bytes: &[u8]) -> Option<Header> {
        let slice = |at: usize| Some(Slice { at: u32_at(bytes, at)?, len: u32_at(bytes, at + 4)? });
        Some(Header {
            file_len: u64_at(bytes, 0)?,
            content_bytes: u64_at(bytes, 8)?,
            id: Digest::from_bytes(bytes.get(16..48)?)?,
            identity: bytes.get(48..72)?.try_into().ok()?,
            nodes: u32_at(bytes, 72)?,
            first_record: u32_at(bytes, 76)?,
            base: slice(80)?,
            blueprint: slice(88)?,
            platform: slice(96)?,
            rcc: slice(104)?,
            some_file: slice(112)?,
        })
    }
}

/// The checksum of `bytes`: detects damage, not tampering.
pub fn checksum(bytes: &[u8]) -> u32 {
    libdeflater::crc32(bytes)
}

/// The checksum of a whole Index, as stored in its header.
pub fn stored_checksum(header: &[u8]) -> Option<u32> {
    u32_at(header, 8)
}

/// The checksum of the head, as stored in its header.
pub fn stored_head_checksum(header: &[u8]) -> Option<u32> {
    u32_at(header, 12)
}

/// Stores the checksums of a whole Index, whose first record is at `head_len`.
pub fn seal(bytes: &mut [u8], head_len: usize) {
    let head = checksum(&bytes[CHECKED_FROM..head_len]);
    let whole = checksum(&bytes[CHECKED_FROM..]);
    bytes[8..12].copy_from_slice(&whole.to_le_bytes());
    bytes[12..16].copy_from_slice(&head.to_le_bytes());
}

/// The bytes of an Index: in memory, or mapped from a file that is too large for that.
pub enum Bytes {
    /// A mapped file.
    Mapped(Mapped),
    /// Bytes in memory.
    Owned(Vec<u8>),
}

impl Bytes {
    fn all(&self) -> &[u8] {
        match self {
            Bytes::Mapped(mapped) => mapped,
            Bytes::Owned(owned) => owned,
        }
    }

    /// The bytes at `slice`, if it is within the file.
    pub fn slice(&self, slice: Slice) -> Option<&[u8]> {
        let start = usize::try_from(slice.at).ok()?;
        self.all().get(start..start.checked_add(usize::try_from(slice.len).ok()?)?)
    }

    /// The record at `position` in the records that begin at `first`.
    pub fn record(&self, first: u32, position: u32) -> Option<Record<'_>> {
        let start = (position as usize).checked_mul(RECORD_LEN)?.checked_add(first as usize)?;
        self.all().get(start..start.checked_add(RECORD_LEN)?)?.try_into().ok().map(Record)
    }

    /// All `count` records that begin at `first`.
    pub fn records(&self, first: u32, count: u32) -> Option<&[[u8; RECORD_LEN]]> {
        let (start, len) = (first as usize, (count as usize).checked_mul(RECORD_LEN)?);
        Some(self.all().get(start..start.checked_add(len)?)?.as_chunks().0)
    }
}

/// One record: the fixed part of a node.
#[derive(Clone, Copy)]
pub struct Record<'a>(&'a [u8; RECORD_LEN]);

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord {
    /// Name, in the heap.
    pub name: Slice,
    /// One of the `KIND_` values.
    pub kind: u8,
    /// 12 mode bits.
    pub mode: u16,
    /// Position of the parent.
    pub parent: u32,
    /// Size of a file; first child and child count of a directory; location of a link's text.
    pub extent: u64,
    /// Location of a file's relocations; for a directory, the number of subdirectories (length only).
    pub rewrites: Slice,
    /// Digest of a file.
    pub digest: Option<Digest>,
}

/// Packs two numbers into one `extent`.
pub fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

impl NewRecord {
    /// The record's bytes.
    pub fn encode(&self) -> [u8; RECORD_LEN] {
        let mut out = [0; RECORD_LEN];
        out[0..4].copy_from_slice(&self.name.at.to_le_bytes());
        // Names have at most 255 bytes.
        out[4] = self.name.len.to_le_bytes()[0];
        out[5] = self.kind;
        out[6..8].copy_from_slice(&self.mode.to_le_bytes());
        out[8..12].copy_from_slice(&self.parent.to_le_bytes());
        out[12..20].copy_from_slice(&self.extent.to_le_bytes());
        out[20..24].copy_from_slice(&self.rewrites.at.to_le_bytes());
        out[24..28].copy_from_slice(&self.rewrites.len.to_le_bytes());
        if let Some(digest) = &self.digest {
            let bytes = digest.as_bytes();
            out[28] = bytes.len().to_le_bytes()[0];
            out[32..32 + bytes.len()].copy_from_slice(bytes);
        }
        out
    }
}

impl<'a> Record<'a> {
    pub fn of(bytes: &'a [u8; RECORD_LEN]) -> Record<'a> {
        Record(bytes)
    }

    pub fn name(self) -> Slice {
        Slice { at: self.u32(0), len: u32::from(self.0[4]) }
    }

    pub fn kind(self) -> u8 {
        self.0[5]
    }

    pub fn mode(self) -> u16 {
        u16::from_le_bytes([self.0[6], self.0[7]])
    }

    pub fn parent(self) -> u32 {
        self.u32(8)
    }

    pub fn size(self) -> u64 {
        pair(self.u32(12), self.u32(16))
    }

    pub fn first_child(self) -> u32 {
        self.u32(12)
    }

    pub fn child_count(self) -> u32 {
        self.u32(16)
    }

    pub fn subdirs(self) -> u32 {
        self.u32(24)
    }

    pub fn target(self) -> Slice {
        Slice { at: self.u32(12), len: self.u32(16) }
    }

    pub fn rewrites(self) -> Slice {
        Slice { at: self.u32(20), len: self.u32(24) }
    }

    pub fn digest(self) -> Option<Digest> {
        Digest::from_bytes(self.0.get(32..32 + usize::from(self.0[28]))?)
    }

    fn u32(self, at: usize) -> u32 {
        u32_at(self.0, at).unwrap_or_default()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
