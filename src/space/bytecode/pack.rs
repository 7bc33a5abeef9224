//! The shared bytecode of one catalog: a file that only HoloFS writes, and whose pieces are verified when they are used.
//!
//! ```text
//! "holofs bytecode 1\n"   u32: length of the head   head: JSON, names the catalog and each piece with its SHA-256   the pieces
//! ```
//! The pieces that programs import come first, in the order of their first import. The file is published by rename. A pack that cannot
//! be read, or is of another catalog or owner, is ignored; so is a piece that does not match its digest.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};

use serde::{Deserialize, Serialize};

use crate::rcc::catalog::CatalogId;
use crate::rcc::digest::{Digest, Regime};
use crate::sys::fs::place::Place;

const MAGIC: &[u8; 18] = b"holofs bytecode 1\n";
/// The prefix of a pack that is being written.
pub(super) const PART: &str = ".part-";
/// The maximum length of the head and of each piece: a damaged length must not exhaust memory.
const LONGEST: u64 = 64 << 20;
/// The flags of a hash-based `.pyc` that Python compares with its source at each import.
const CHECKED: [u8; 4] = [0b11, 0, 0, 0];

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    catalog: String,
    pieces: Vec<Piece>,
}

/// The head's entry for one `.pyc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Its path below the mirror of a space.
    pub path: String,
    /// Its length.
    pub size: u64,
    /// The SHA-256 of its bytes.
    pub sha256: String,
    /// Whether a program imported it; otherwise it was compiled in advance.
    pub imported: bool,
    /// What it was made from ([`super::interpreter::origin`]); empty if that is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
}

/// An open pack.
pub struct Pack<R = BufReader<File>> {
    file: R,
    /// Its pieces, in order.
    pub pieces: Vec<Piece>,
    first_piece: u64,
}

/// A `.pyc` to be added to a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fresh {
    /// Its path below the mirror of a space.
    pub path: String,
    /// A program imported it.
    pub imported: bool,
    /// What it was made from; empty if that is not known.
    pub origin: String,
    /// A checked hash-based `.pyc`.
    pub bytes: Vec<u8>,
}

/// True for the bytes of a `.pyc` that Python compares with its source, by hash, at each import.
pub fn is_checked(bytes: &[u8]) -> bool {
    bytes.len() > 16 && bytes[4..8] == CHECKED
}

impl Pack {
    /// Opens the pack at `place`; `None` if there is none for `catalog`.
    pub fn open(place: &Place, catalog: CatalogId) -> io::Result<Option<Pack>> {
        Pack::open_if(place, |named| named == catalog.to_string())
    }

    /// Opens the pack at `place`, of whatever catalog; `None` if there is none.
    pub fn open_any(place: &Place) -> io::Result<Option<Pack>> {
        Pack::open_if(place, |_| true)
    }

    fn open_if(place: &Place, is_right: impl FnOnce(&str) -> bool) -> io::Result<Option<Pack>> {
        let file = match place.open_file() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        Pack::read(BufReader::with_capacity(256 << 10, file), is_right)
    }
}

impl<R: Read + Seek> Pack<R> {
    /// Reads the head of a pack; `None` if it is no pack, or of a catalog that is not right.
    pub fn read(mut file: R, is_right: impl FnOnce(&str) -> bool) -> io::Result<Option<Pack<R>>> {
        let mut start = [0; MAGIC.len() + 4];
        if file.read_exact(&mut start).is_err() || !start.starts_with(MAGIC) {
            return Ok(None);
        }
        let [.., a, b, c, d] = start;
        let length = u64::from(u32::from_le_bytes([a, b, c, d]));
        let mut head = Vec::new();
        file.by_ref().take(length.min(LONGEST)).read_to_end(&mut head)?;
        let Ok(head) = serde_json::from_slice::<Head>(&head) else { return Ok(None) };
        let whole = is_right(&head.catalog) && head.pieces.iter().all(|piece| piece.size <= LONGEST);
        let first_piece = u64::try_from(start.len()).unwrap_or(0) + length;
        Ok(whole.then_some(Pack { file, pieces: head.pieces, first_piece }))
    }

    /// True if programs imported some of it; the rest was compiled in advance, and is of little use next to that.
    pub fn any_imported(&self) -> bool {
        self.pieces.iter().any(|piece| piece.imported)
    }

    /// Calls `each` with the pieces in order, with their bytes if they match their digests, until `each` returns false.
    pub fn for_each(
        &mut self,
        each: impl FnMut(&Piece, Option<&[u8]>) -> io::Result<bool>,
    ) -> io::Result<()> {
        self.for_each_of(&vec![true; self.pieces.len()], each)
    }

    /// As [`Pack::for_each`], but only for the pieces that are marked in `wanted`; the others are not read.
    pub fn for_each_of(
        &mut self,
        wanted: &[bool],
        mut each: impl FnMut(&Piece, Option<&[u8]>) -> io::Result<bool>,
    ) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.first_piece))?;
        let mut bytes = Vec::new();
        for (piece, wanted) in self.pieces.iter().zip(wanted) {
            if !wanted {
                self.file.seek_relative(piece.size.cast_signed())?; // at most `LONGEST`
                continue;
            }
            bytes.clear();
            self.file.by_ref().take(piece.size).read_to_end(&mut bytes)?;
            let sound = is_checked(&bytes) && sha256(&bytes) == piece.sha256;
            if !each(piece, sound.then_some(&bytes[..]))? {
                break;
            }
        }
        Ok(())
    }
}

/// Adds `fresh` to the pack of `catalog` at `place`, and marks the pieces in `imported` as imported; imported pieces come first. No
/// other process may do this at the same time. Returns the number of pieces.
pub fn add(place: &Place, catalog: CatalogId, fresh: Vec<Fresh>, imported: &[String]) -> io::Result<usize> {
    let mut all: Vec<Fresh> = Vec::new();
    let is_fresh: std::collections::HashSet<String> = fresh.iter().map(|fresh| fresh.path.clone()).collect();
    let now: std::collections::HashSet<&str> = imported.iter().map(String::as_str).collect();
    if let Some(mut pack) = Pack::open(place, catalog)? {
        pack.for_each(|piece, bytes| {
            if let Some(bytes) = bytes.filter(|_| !is_fresh.contains(&piece.path)) {
                let imported = piece.imported || now.contains(&*piece.path);
                let (path, origin) = (piece.path.clone(), piece.origin.clone());
                all.push(Fresh { path, imported, origin, bytes: bytes.to_owned() });
            }
            Ok(true)
        })?;
    }
    all.extend(fresh);
    all.sort_by_key(|piece| !piece.imported); // stable: keeps the order of first use
    write(place, catalog, &all)?;
    Ok(all.len())
}

fn write(place: &Place, catalog: CatalogId, all: &[Fresh]) -> io::Result<()> {
    place.in_dir(|dir, name| {
        let mut temp = dir.create_temp(PART)?;
        encode(catalog, all, &mut io::BufWriter::new(&mut temp.file))?;
        // Not synced: after a power cut the digests show damage.
        temp.publish(name)
    })
}

/// Writes the pack with these pieces to `out`.
pub fn encode(catalog: CatalogId, all: &[Fresh], out: &mut impl Write) -> io::Result<()> {
    let pieces = all.iter().map(|fresh| Piece {
        path: fresh.path.clone(),
        size: u64::try_from(fresh.bytes.len()).unwrap_or(u64::MAX),
        sha256: sha256(&fresh.bytes),
        imported: fresh.imported,
        origin: fresh.origin.clone(),
    });
    let head = serde_json::to_vec(&Head { catalog: catalog.to_string(), pieces: pieces.collect() })?;
    let length = u32::try_from(head.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    out.write_all(MAGIC)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&head)?;
    all.iter().try_for_each(|fresh| out.write_all(&fresh.bytes))?;
    out.flush()
}

/// Removes abandoned parts from the directory of the pack at `place`. No other process may do this at the same time.
pub fn tidy(place: &Place) -> io::Result<()> {
    place.in_dir(|dir, _| {
        let mut parts = dir.names()?.into_iter().filter(|name| name.to_string_lossy().starts_with(PART));
        parts.try_for_each(|name| dir.remove_file(&name).map(drop))
    })
}

fn sha256(bytes: &[u8]) -> String {
    Digest::of(Regime::Sha256, bytes).to_string()
}
