//! Packs blobs into frames and packs. Frames are compressed in parallel and written in order: equal content gives equal packs.

use std::collections::BTreeMap;
use std::io::{self, Write};

use rayon::prelude::*;

use crate::rcc::digest::Digest;
use crate::remote::error::RemoteError;
use crate::remote::frame;
use crate::remote::head::{CHUNK, Frame, FrameKind};
use crate::remote::object::{Object, ObjectId, ObjectKind};
use crate::store::Library;
use crate::store::observe::Observer;

/// A pack is closed when the next frame would exceed this size.
const PACK: usize = 16 << 20;
/// The approximate amount of content in memory at once.
const WINDOW: u64 = 48 << 20;

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
    frames: BTreeMap<Digest, Vec<Frame>>,
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
    /// Packs are numbered from `first` on.
    pub fn new(library: &'p Library, observer: &'p dyn Observer, first: u32) -> Packer<'p> {
        let (packs, open, frames) = Default::default();
        Packer { library, observer, next: first, packs, open, frames }
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
                    return Ok((self.packs, self.frames));
                }
                self.observer.advance(size);
            }
        }
        self.close(&mut send);
        Ok((self.packs, self.frames))
    }

    fn pack(&self, digest: &Digest, size: u64) -> Result<Vec<Packed>, RemoteError> {
        let mut chunks = Chunks::default();
        self.library.stream(digest, size, &mut chunks)?;
        chunks.finish(size > CHUNK)
    }

    fn put(&mut self, digest: Digest, chunks: Vec<Packed>, send: &mut impl FnMut(Pack) -> bool) -> bool {
        let mut frames = Vec::with_capacity(chunks.len());
        for Packed { kind, bytes, check } in chunks {
            if self.open.len() + bytes.len() > PACK && !self.close(send) {
                return false;
            }
            let (offset, stored) = (self.open.len() as u64, bytes.len() as u32);
            frames.push(Frame { pack: self.next, offset, stored, kind, check });
            self.open.extend_from_slice(&bytes);
        }
        self.frames.insert(digest, frames);
        true
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
#[derive(Default)]
struct Chunks {
    open: Vec<u8>,
    done: Vec<Packed>,
}

impl Chunks {
    fn close(&mut self) -> io::Result<()> {
        let (kind, bytes) = frame::encode(&self.open)?;
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

impl Write for Chunks {
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
