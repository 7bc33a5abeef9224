//! The Index on disk: the head (a header, its texts, the checksums of the blocks), then the entries: fixed-size records, and a heap of
//! names, link texts and offsets.
//!
//! All numbers are little endian. The head has a checksum of its own, because many commands read it alone. The entries are divided
//! into blocks of [`BLOCK`] bytes, and each block has a checksum, so that it can be read and checked when it is first used. Checksums
//! (CRC-32) detect damage, not tampering, which is enough for a file in a directory of our own. Positions and lengths are checked at
//! each access.

use crate::rcc::catalog::CatalogId;
use crate::rcc::digest::Digest;

/// The first bytes of every Index; the last digit is the format's version.
pub const MAGIC: &[u8; 8] = b"HOLOIDX3";
/// Bytes of the header; its texts follow, then the checksums of the blocks.
pub const HEADER_LEN: usize = 160;
/// Bytes of one record.
pub const RECORD_LEN: usize = 64;
/// Bytes of a block of entries; the last one may be shorter.
pub const BLOCK: usize = 64 << 10;
/// The end of the head's checksum and the start of the bytes that it covers.
pub const CHECKED_FROM: usize = 12;
/// The start of the header's fields, after the bytes of a block.
const FIELDS_FROM: usize = 16;

/// The kind of a directory.
pub const KIND_DIR: u8 = 0;
/// The kind of a regular file.
pub const KIND_FILE: u8 = 1;
/// The kind of a symbolic link.
pub const KIND_LINK: u8 = 2;

/// A place: offset and length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Slice {
    /// Offset from the start of the file, for the texts and checksums of the head; in a record, from that of the entries.
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
    /// The checksums of the blocks.
    pub checksums: Slice,
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
    /// The header's bytes, with a checksum of zero.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&block_bytes());
        out.extend_from_slice(&self.file_len.to_le_bytes());
        out.extend_from_slice(&self.content_bytes.to_le_bytes());
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.identity);
        out.extend_from_slice(&self.nodes.to_le_bytes());
        out.extend_from_slice(&self.first_record.to_le_bytes());
        let texts = [self.base, self.blueprint, self.platform, self.rcc, self.some_file];
        for slice in texts.into_iter().chain([self.checksums]) {
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
        let fields = bytes.get(FIELDS_FROM..HEADER_LEN).ok_or(NoHeader::Damaged)?;
        let header = Header::fields(fields).ok_or(NoHeader::Damaged)?;
        if bytes[CHECKED_FROM..FIELDS_FROM] == block_bytes() { Ok(header) } else { Err(NoHeader::Foreign) }
    }

    /// The number of blocks of entries.
    pub fn blocks(&self) -> u64 {
        self.file_len.saturating_sub(u64::from(self.first_record)).div_ceil(BLOCK as u64)
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
            checksums: slice(120)?,
        })
    }
}

/// The checksum of `bytes`: detects damage, not tampering.
pub fn checksum(bytes: &[u8]) -> u32 {
    libdeflater::crc32(bytes)
}

/// The checksum of the head, as stored in its header.
pub fn stored_checksum(header: &[u8]) -> Option<u32> {
    u32_at(header, 8)
}

/// The checksums of the blocks, from the bytes that hold them.
pub fn checksums(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes))
}

/// Stores the checksums of an Index with this header: those of the blocks, and that of the head.
pub fn seal(bytes: &mut [u8], header: &Header) {
    let (head, entries) = bytes.split_at_mut(header.first_record as usize);
    let stored = head[header.checksums.at as usize..].as_chunks_mut().0;
    for (stored, block) in stored.iter_mut().zip(entries.chunks(BLOCK)) {
        *stored = checksum(block).to_le_bytes();
    }
    let own = checksum(&head[CHECKED_FROM..]);
    head[8..12].copy_from_slice(&own.to_le_bytes());
}

fn block_bytes() -> [u8; 4] {
    (BLOCK as u32).to_le_bytes()
}

/// The first `count` records of these entries.
pub fn records(entries: &[u8], count: u32) -> Option<&[[u8; RECORD_LEN]]> {
    Some(entries.get(..(count as usize).checked_mul(RECORD_LEN)?)?.as_chunks().0)
}

/// One record: the fixed part of a node.
#[derive(Clone, Copy)]
pub struct Record<'a>(&'a [u8; RECORD_LEN]);

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord {
    /// Name.
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
