//! Content of a remote that arrives in pieces: a file of the full size, of which a piece is read only after this process verified it.
//!
//! It is kept apart from the raw store, and may have holes. A piece that an earlier process wrote is hashed before its first use: so
//! neither a hole nor a block that a power cut lost is ever read as content, and no record of what has arrived is needed. Several
//! processes may write the same file: all of them write the same verified bytes. Once all pieces are there, the store verifies the
//! whole by its own digest and makes it an entry of the raw store.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::rcc::digest::{Digest, Regime};
use crate::store::rawfile::RawFile;
use crate::sys::fs::memfd;
use crate::sys::fs::offset::FileExt;
use crate::sys::fs::owned::OwnedDir;
use crate::sys::fs::place::Place;

/// The number of bytes of a piece; the last one may have fewer.
pub const PIECE: u64 = 256 << 10;
/// The largest number of pieces fetched ahead of a reader that reads in order.
const MOST_AHEAD: u64 = 8;

/// The SHA-256 of each piece of content.
pub type Checks = Arc<[[u8; 32]]>;

/// The number of pieces of content of `size` bytes.
pub fn pieces(size: u64) -> u64 {
    size.div_ceil(PIECE)
}

/// The length of piece `at` of content of `size` bytes.
pub fn piece_len(size: u64, at: u64) -> u64 {
    size.saturating_sub(at.saturating_mul(PIECE)).min(PIECE)
}

/// What this process knows of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Another process may have written it.
    Unknown,
    /// It is missing.
    Absent,
    /// It is present and verified.
    There,
}

/// Content that is not whole.
#[derive(Debug)]
pub struct Partial {
    file: File,
    size: u64,
    checks: Checks,
    states: Mutex<States>,
    /// The file, unless it is in memory.
    place: Option<Place>,
}

#[derive(Debug)]
struct States {
    pieces: Vec<State>,
    /// The piece after the last one that a reader waited for, and how many to fetch with it.
    next: u64,
    ahead: u64,
}

impl Partial {
    /// Content of `size` bytes in the file at `place`, which is created if it does not exist; without one, in memory.
    pub fn open(place: Option<Place>, size: u64, checks: Checks) -> io::Result<Partial> {
        let count = pieces(size);
        if checks.len() as u64 != count {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its pieces have other digests"));
        }
        let file = match &place {
            Some(place) => place.in_dir(OwnedDir::open_or_create)?,
            None => memfd::create()?,
        };
        let is_new = file.metadata()?.len() != size;
        if is_new {
            // Never shorter first: another process may have written a piece since.
            file.set_len(size)?;
        }
        let state = if is_new { State::Absent } else { State::Unknown };
        let states = States { pieces: vec![state; checks.len()], next: 0, ahead: 1 };
        Ok(Partial { file, size, checks, states: Mutex::new(states), place })
    }

    /// The pieces that contain the bytes of `range`.
    pub fn pieces_of(&self, range: &Range<u64>) -> Range<u64> {
        let end = range.end.min(self.size);
        range.start / PIECE..if range.start < end { end.div_ceil(PIECE) } else { range.start / PIECE }
    }

    /// Those of `wanted` that are missing.
    pub fn missing(&self, wanted: impl IntoIterator<Item = u64>) -> io::Result<Vec<u64>> {
        let mut missing = Vec::new();
        for piece in wanted {
            let state = self.state(piece);
            match state {
                Some(State::There) | None => {}
                Some(State::Absent) => missing.push(piece),
                Some(State::Unknown) => {
                    let mut bytes = vec![0; usize::try_from(piece_len(self.size, piece)).unwrap_or_default()];
                    self.file.read_exact_at(&mut bytes, piece * PIECE)?;
                    let is_there = self.is_right(piece, &bytes);
                    self.set(piece, if is_there { State::There } else { State::Absent });
                    if !is_there {
                        missing.push(piece);
                    }
                }
            }
        }
        Ok(missing)
    }

    /// As [`Partial::missing`] for what a reader needs now; a reader that reads in order gets more with each request.
    pub fn missing_ahead(&self, needed: Range<u64>) -> io::Result<Vec<u64>> {
        let missing = self.missing(needed.clone())?;
        let (Some(first), Some(last)) = (missing.first(), missing.last()) else { return Ok(missing) };
        let end = {
            let mut states = self.lock();
            states.ahead =
                if states.next == *first && *first > 0 { (states.ahead * 2).min(MOST_AHEAD) } else { 1 };
            states.next = (*first + states.ahead).max(last + 1);
            states.next
        };
        self.missing(needed.start..end.min(pieces(self.size)))
    }

    /// Stores a piece; false if it is not the right one.
    pub fn put(&self, piece: u64, bytes: &[u8]) -> io::Result<bool> {
        if !self.is_right(piece, bytes) {
            return Ok(false);
        }
        self.file.write_all_at(bytes, piece * PIECE)?;
        self.set(piece, State::There);
        Ok(true)
    }

    /// True if all pieces are there.
    pub fn is_whole(&self) -> bool {
        self.lock().pieces.iter().all(|state| *state == State::There)
    }

    /// Fills `out` from `offset`; fails unless all of it was found to be there.
    pub fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(out.len() as u64);
        let is_there = |piece: u64| self.state(piece) == Some(State::There);
        if end > self.size || !self.pieces_of(&(offset..end)).all(is_there) {
            return Err(io::Error::other("these bytes are not here yet"));
        }
        self.file.read_exact_at(out, offset)
    }

    /// Reads all of it, once it is whole.
    pub fn reader(&self) -> impl Read + '_ {
        Reader { partial: self, at: 0 }
    }

    /// Removes the file: its content is elsewhere now, or is wrong.
    pub fn remove(&self) {
        if let Some(Err(error)) = self.place.as_ref().map(Place::remove_file) {
            log::debug!("A partial file stays: {error}");
        }
    }

    fn is_right(&self, piece: u64, bytes: &[u8]) -> bool {
        let check = usize::try_from(piece).ok().and_then(|at| self.checks.get(at));
        bytes.len() as u64 == piece_len(self.size, piece)
            && check.is_some_and(|check| Digest::of(Regime::Sha256, bytes) == Digest::Sha256(*check))
    }

    fn state(&self, piece: u64) -> Option<State> {
        self.lock().pieces.get(usize::try_from(piece).ok()?).copied()
    }

    fn set(&self, piece: u64, state: State) {
        let mut states = self.lock();
        if let Some(slot) = usize::try_from(piece).ok().and_then(|at| states.pieces.get_mut(at)) {
            *slot = state;
        }
    }

    fn lock(&self) -> MutexGuard<'_, States> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reader<'p> {
    partial: &'p Partial,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.partial.size - self.at).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        self.partial.read_exact_at(&mut buffer[..len], self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}

/// Content of which the requested part can be read.
#[derive(Debug, Clone)]
pub enum Part {
    /// All of it is here.
    Whole(RawFile),
    /// Some of it is here.
    Pieces(Arc<Partial>),
}

impl Part {
    /// Fills `out` from `offset`, which must lie within the requested part.
    pub fn read_exact_at(&self, out: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Part::Whole(raw) => raw.read_exact_at(out, offset),
            Part::Pieces(partial) => partial.read_exact_at(out, offset),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> Vec<u8> {
        (0..PIECE * 2 + 7).map(|at| (at / 3 % 251) as u8).collect()
    }

    fn checks(content: &[u8]) -> Checks {
        let check = |piece: &[u8]| match Digest::of(Regime::Sha256, piece) {
            Digest::Sha256(check) => check,
            Digest::SipHash128(_) => unreachable!(),
        };
        content.chunks(PIECE as usize).map(check).collect()
    }

    fn piece(content: &[u8], at: u64) -> &[u8] {
        content.chunks(PIECE as usize).nth(at as usize).unwrap()
    }

    #[test]
    fn a_hole_is_never_read_as_content() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place::top(temp.path().join("top")).below("partial").below("x");
        let content = content();
        let open = || Partial::open(Some(place.clone()), content.len() as u64, checks(&content)).unwrap();
        let first = open();
        assert_eq!(first.missing(0..3).unwrap(), [0, 1, 2]);
        assert!(first.put(1, piece(&content, 1)).unwrap());
        let mut out = [0; 10];
        first.read_exact_at(&mut out, PIECE + 5).unwrap();
        assert_eq!(out, content[PIECE as usize + 5..][..10]);
        for (offset, len) in [(0, 1), (PIECE - 1, 2), (2 * PIECE - 1, 2), (2 * PIECE + 6, 2)] {
            assert!(first.read_exact_at(&mut vec![0; len], offset).is_err(), "{offset}");
        }
        // The next process believes only what it has hashed.
        let second = open();
        assert!(second.read_exact_at(&mut out, PIECE + 5).is_err());
        assert_eq!(second.missing(0..3).unwrap(), [0, 2]);
        second.read_exact_at(&mut out, PIECE + 5).unwrap();
        assert!(!second.is_whole());
        second.put(0, piece(&content, 0)).unwrap();
        second.put(2, piece(&content, 2)).unwrap();
        let mut all = Vec::new();
        second.reader().read_to_end(&mut all).unwrap();
        assert!(second.is_whole() && all == content);
    }

    #[test]
    fn wrong_pieces_are_refused() {
        let content = content();
        let partial = Partial::open(None, content.len() as u64, checks(&content)).unwrap();
        let mut wrong = piece(&content, 0).to_vec();
        wrong[9] ^= 1;
        for (at, bytes) in [(0, &wrong[..]), (1, piece(&content, 0)), (0, &content[..5]), (2, b""), (9, b"x")]
        {
            assert!(!partial.put(at, bytes).unwrap());
        }
        assert_eq!(partial.missing(0..3).unwrap(), [0, 1, 2]);
        assert!(Partial::open(None, PIECE, checks(&content)).is_err());
    }

    #[test]
    fn a_reader_in_order_gets_more_with_each_request() {
        let content = vec![7; 40 * PIECE as usize];
        let partial = Partial::open(None, content.len() as u64, checks(&content)).unwrap();
        let mut asked = Vec::new();
        for at in 0..20 {
            let missing = partial.missing_ahead(at..at + 1).unwrap();
            missing.iter().for_each(|at| assert!(partial.put(*at, piece(&content, *at)).unwrap()));
            asked.extend((!missing.is_empty()).then_some(missing.len()));
        }
        assert_eq!(asked, [1, 2, 4, 8, 8]);
        assert_eq!(partial.missing_ahead(30..31).unwrap(), [30]);
    }
}
