//! Packs blobs into frames and packs. Frames are compressed in parallel and written in order: equal content gives equal packs.
//!
//! What runs read first comes first, chunk by chunk: of a large file that is read in parts, the other chunks follow after everything
//! that is read. So a reader needs few requests, and none of them contains much else.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};

use rayon::prelude::*;

use crate::rcc::digest::Digest;
use crate::remote::error::RemoteError;
use crate::remote::frame::{self, CHUNK, Effort, FrameKind};
use crate::remote::head::Frame;
use crate::remote::object::{Object, ObjectId, ObjectKind};
use crate::store::Library;
use crate::store::observe::Observer;

/// A pack is closed when the next frame would exceed this size.
const PACK: usize = 16 << 20;
/// The approximate amount of content in memory at once.
const WINDOW: u64 = 48 << 20;
/// The same for chunks that are packed later.
const MOST_COLD: usize = 64 << 20;

/// A pack to send.
pub struct Pack {
    /// Its name and size.
    pub object: Object,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Makes packs.
pub struct Packer<'p> {
    library: &'p Library,
    observer: &'p dyn Observer,
    /// The index of the next pack.
    next: u32,
    packs: Vec<Object>,
    open: Vec<u8>,
    frames: BTreeMap<Digest, Vec<Option<Frame>>>,
    /// The chunks that runs read first, and their blobs.
    hot: HashSet<(Digest, u64)>,
    hot_blobs: HashSet<Digest>,
    /// The other chunks of these blobs, which have no frame yet.
    cold: Vec<Cold>,
    cold_bytes: usize,
}

/// A chunk that goes into a pack later.
struct Cold {
    digest: Digest,
    at: usize,
    packed: Packed,
}

/// A chunk, packed.
struct Packed {
    kind: FrameKind,
    bytes: Vec<u8>,
    check: Option<[u8; 32]>,
}

/// The result: packs in order, frames by blob.
pub type Outcome = (Vec<Object>, BTreeMap<Digest, Vec<Frame>>);

impl<'p> Packer<'p> {
    /// Packs are numbered from `first` on; `hot` are the chunks that runs read first.
    pub fn new(
        library: &'p Library,
        observer: &'p dyn Observer,
        first: u32,
        hot: &[(Digest, u64)],
    ) -> Packer<'p> {
        let (packs, open, frames, cold, cold_bytes) = Default::default();
        let hot_blobs = hot.iter().map(|(digest, _)| *digest).collect();
        let hot = hot.iter().copied().collect();
        Packer { library, observer, next: first, packs, open, frames, hot, hot_blobs, cold, cold_bytes }
    }

    /// Packs all of `wanted`; each full pack is passed to `send`, which returns whether to continue.
    pub fn run(
        mut self,
        wanted: &[(Digest, u64)],
        mut send: impl FnMut(Pack) -> bool,
    ) -> Result<Outcome, RemoteError> {
        let mut rest = wanted;
        while !rest.is_empty() {
            let (window, after) = rest.split_at(window(rest));
            rest = after;
            let packed: Result<Vec<_>, RemoteError> =
                window.par_iter().map(|&(digest, size)| self.pack(&digest, size)).collect();
            for (&(digest, size), chunks) in window.iter().zip(packed?) {
                if !self.put(digest, chunks, &mut send) {
                    return Ok(self.outcome());
                }
                self.observer.advance(size);
            }
        }
        if self.put_cold(&mut send) {
            self.close(&mut send);
        }
        Ok(self.outcome())
    }

    /// Complete, unless `send` ended the work.
    fn outcome(self) -> Outcome {
        let frames = self.frames.into_iter();
        let placed = |(digest, frames): (Digest, Vec<Option<Frame>>)| {
            Some((digest, frames.into_iter().collect::<Option<Vec<Frame>>>()?))
        };
        (self.packs, frames.filter_map(placed).collect())
    }

    fn pack(&self, digest: &Digest, size: u64) -> Result<Vec<Packed>, RemoteError> {
        let is_hot = |at| self.hot.contains(&(*digest, at));
        let mut chunks = Chunks::new(&is_hot);
        self.library.stream(digest, size, &mut chunks)?;
        chunks.finish(size > CHUNK)
    }

    fn put(&mut self, digest: Digest, chunks: Vec<Packed>, send: &mut impl FnMut(Pack) -> bool) -> bool {
        let is_hot = self.hot_blobs.contains(&digest);
        if (!is_hot || self.cold_bytes > MOST_COLD) && !self.put_cold(send) {
            return false;
        }
        let mut frames = Vec::with_capacity(chunks.len());
        for (at, packed) in chunks.into_iter().enumerate() {
            if is_hot && !self.hot.contains(&(digest, at as u64)) {
                self.cold_bytes += packed.bytes.len();
                self.cold.push(Cold { digest, at, packed });
                frames.push(None);
                continue;
            }
            match self.place(packed, send) {
                Some(frame) => frames.push(Some(frame)),
                None => return false,
            }
        }
        self.frames.insert(digest, frames);
        true
    }

    fn put_cold(&mut self, send: &mut impl FnMut(Pack) -> bool) -> bool {
        self.cold_bytes = 0;
        for Cold { digest, at, packed } in std::mem::take(&mut self.cold) {
            let Some(frame) = self.place(packed, send) else { return false };
            if let Some(slot) = self.frames.get_mut(&digest).and_then(|frames| frames.get_mut(at)) {
                *slot = Some(frame);
            }
        }
        true
    }

    /// Appends a chunk to the open pack; `None` if `send` ends the work.
    fn place(&mut self, packed: Packed, send: &mut impl FnMut(Pack) -> bool) -> Option<Frame> {
        let Packed { kind, bytes, check } = packed;
        if self.open.len() + bytes.len() > PACK && !self.close(send) {
            return None;
        }
        let (offset, stored) = (self.open.len() as u64, bytes.len() as u32);
        self.open.extend_from_slice(&bytes);
        Some(Frame { pack: self.next, offset, stored, kind, check })
    }

    fn close(&mut self, send: &mut impl FnMut(Pack) -> bool) -> bool {
        if self.open.is_empty() {
            return true;
        }
        let bytes = std::mem::take(&mut self.open);
        let object = Object { kind: ObjectKind::Pack, id: ObjectId::of(&bytes), size: bytes.len() as u64 };
        self.packs.push(object);
        self.next += 1;
        send(Pack { object, bytes })
    }
}

/// The number of blobs to pack together: at least one.
fn window(rest: &[(Digest, u64)]) -> usize {
    let mut bytes = 0_u64;
    let fits = |(_, size): &&(Digest, u64)| {
        bytes = bytes.saturating_add(*size);
        bytes <= WINDOW
    };
    rest.iter().take_while(fits).count().max(1)
}

/// Cuts content into chunks and packs each.
struct Chunks<'h> {
    /// Whether runs read that chunk first.
    is_hot: &'h dyn Fn(u64) -> bool,
    open: Vec<u8>,
    done: Vec<Packed>,
}

impl<'h> Chunks<'h> {
    fn new(is_hot: &'h dyn Fn(u64) -> bool) -> Chunks<'h> {
        Chunks { is_hot, open: Vec::new(), done: Vec::new() }
    }

    fn close(&mut self) -> io::Result<()> {
        let effort = if (self.is_hot)(self.done.len() as u64) { Effort::Most } else { Effort::Usual };
        let (kind, bytes) = frame::encode(&self.open, effort)?;
        self.done.push(Packed { kind, bytes, check: Some(ObjectId::of(&self.open).0) });
        self.open.clear();
        Ok(())
    }

    fn finish(mut self, many: bool) -> Result<Vec<Packed>, RemoteError> {
        if !self.open.is_empty() {
            self.close().map_err(RemoteError::io("Packing", "a chunk"))?;
        }
        if !many {
            self.done.iter_mut().for_each(|chunk| chunk.check = None);
        }
        Ok(self.done)
    }
}

impl Write for Chunks<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK as usize - self.open.len();
        let taken = room.min(bytes.len());
        self.open.extend_from_slice(&bytes[..taken]);
        if self.open.len() as u64 == CHUNK {
            self.close()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Computes the digests of the chunks of content that is written to it.
#[derive(Default)]
pub struct Checks {
    open: Vec<u8>,
    done: Vec<[u8; 32]>,
}

impl Checks {
    /// The digests.
    pub fn finish(mut self) -> Vec<[u8; 32]> {
        if !self.open.is_empty() {
            self.done.push(ObjectId::of(&self.open).0);
        }
        self.done
    }
}

impl Write for Checks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = (CHUNK as usize - self.open.len()).min(bytes.len());
        self.open.extend_from_slice(&bytes[..taken]);
        if self.open.len() as u64 == CHUNK {
            self.done.push(ObjectId::of(&self.open).0);
            self.open.clear();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
