//! RCC's library of blobs, read only.
//!
//! Invariants: a blob is opened beneath the library without following a link and only if it is a regular file; content returned with
//! `Ok` has the declared size and the right digest. A SipHash-128 blob is raw, whatever it looks like. A SHA-256 blob may be gzip,
//! zstd or raw, and raw content may begin like gzip: the interpretation that verifies is used.
//!
//! The library may vanish, come back and change at any time (RCC's `check` takes no lock), so nothing is kept open between two calls,
//! unless [held](Library::hold).

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::rcc::digest::{Digest, Regime};
use crate::store::codec::{Codec, WHOLE, foreign_format, gunzip_whole, with_whole};
use crate::store::error::{RawReading, StoreError, Tried};
use crate::store::layout::blob_path;
use crate::store::verify::{Fault, Gate, check_file};
use crate::sys::fs::beneath::{Dir, FileFacts, OpenError, facts_of_file};
use crate::sys::fs::offset::FileExt;

/// The library of a hololib.
#[derive(Debug, Clone)]
pub struct Library {
    path: PathBuf,
    /// The directory, if it is held open.
    held: Option<Arc<Dir>>,
}

/// An open blob; its content is not verified yet.
#[derive(Debug)]
pub struct Blob {
    digest: Digest,
    path: Box<Path>,
    file: File,
    /// Its facts when it was opened.
    facts: FileFacts,
}

impl Library {
    /// The library at `path`, which must be a directory.
    pub fn open(path: &Path) -> Result<Library, StoreError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let library = Library { path, held: None };
        library.dir()?;
        Ok(library)
    }

    /// The same library, held open: for short tasks that open many blobs.
    pub fn hold(self) -> Result<Library, StoreError> {
        let held = Some(Arc::new(self.dir()?));
        Ok(Library { held, ..self })
    }

    /// The path of the library.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the verified content of a blob to `sink`. After an error the sink contains garbage.
    pub fn stream(&self, digest: &Digest, size: u64, sink: &mut dyn Write) -> Result<(), StoreError> {
        self.open_blob(digest)?.stream(size, sink)
    }

    /// Reads a blob in full and checks its size and digest.
    pub fn verify(&self, digest: &Digest, size: u64) -> Result<(), StoreError> {
        self.open_blob(digest)?.verify(size)
    }

    /// True if a regular file exists at the blob's path.
    pub fn exists(&self, digest: &Digest) -> bool {
        self.stored_size(digest).is_some()
    }

    /// The stored size of the blob in bytes, if it exists.
    pub fn stored_size(&self, digest: &Digest) -> Option<u64> {
        self.dir().ok()?.facts(&blob_path(digest)).map(|facts| facts.size)
    }

    /// Opens a blob.
    pub fn open_blob(&self, digest: &Digest) -> Result<Blob, StoreError> {
        let relative = blob_path(digest);
        let path = self.path.join(&relative).into_boxed_path();
        let digest = *digest;
        let opened = match self.held.as_ref().map(|dir| dir.open_file(&relative)) {
            // The held directory may have been replaced by another one that has the blob.
            None | Some(Err(OpenError::Missing)) => self.dir()?.open_file(&relative),
            Some(opened) => opened,
        };
        match opened {
            Ok((file, facts)) => Ok(Blob { digest, path, file, facts }),
            Err(OpenError::Missing) => Err(StoreError::Missing { digest, path }),
            Err(OpenError::Link) => Err(StoreError::NotRegular { digest, path, kind: "symbolic link" }),
            Err(OpenError::NotRegular(kind)) => Err(StoreError::NotRegular { digest, path, kind }),
            Err(OpenError::Other(source)) => Err(StoreError::Unreadable { digest, path, source }),
        }
    }

    fn dir(&self) -> Result<Dir, StoreError> {
        Dir::open(&self.path)
            .map_err(|source| StoreError::Library { path: self.path.clone().into_boxed_path(), source })
    }
}

impl Blob {
    /// The blob's name.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Writes the verified content to `sink`. After an error the sink contains garbage.
    pub fn stream(&self, size: u64, sink: &mut dyn Write) -> Result<(), StoreError> {
        self.run(size, |codec| self.pass(codec, Gate::new(&self.digest, size, sink)))
    }

    /// Reads everything and checks size and digest.
    pub fn verify(&self, size: u64) -> Result<(), StoreError> {
        self.run(size, |codec| self.pass(codec, Gate::blind(&self.digest, size)))
    }

    /// Reads everything, at most `most` bytes of content, and checks the digest; the size is not known.
    pub(super) fn verify_undeclared(&self, most: u64) -> Result<(), StoreError> {
        let codec = self.sniff()?;
        let pass = |codec: Codec| {
            let mut gate = Gate::blind(&self.digest, most);
            let capacity = usize::try_from(self.facts.size).unwrap_or(usize::MAX);
            codec.decode(FromStart { file: &self.file, at: 0 }, capacity, &mut gate)?;
            gate.close_at_any_size(&self.digest)
        };
        match pass(codec) {
            Err(_) if codec != Codec::Raw && pass(Codec::Raw).is_ok() => Ok(()),
            outcome => outcome.map_err(|fault| self.explain(fault, most, Tried { codec, raw: None })),
        }
    }

    /// Its stored size in bytes.
    pub fn stored(&self) -> u64 {
        self.facts.size
    }

    /// True if it begins like zstd, which RCC itself cannot read.
    pub fn looks_like_zstd(&self) -> Result<bool, StoreError> {
        Ok(self.sniff()? == Codec::Zstd)
    }

    /// The stored bytes, from the start.
    pub fn stored_bytes(&self) -> impl Read + '_ {
        FromStart { file: &self.file, at: 0 }
    }

    /// The content from its start, which is not verified.
    pub(super) fn content(&self, size: u64) -> io::Result<Box<dyn Read + Send>> {
        let (codec, _) = self.choose(size).map_err(io::Error::other)?;
        codec.reader(FromStart { file: self.file.try_clone()?, at: 0 })
    }

    /// The blob's file, if its stored bytes may be the raw content: copies of it must be verified.
    pub(super) fn raw_candidate(&self, size: u64) -> Option<&File> {
        let raw = self.facts.size == size && self.sniff().is_ok_and(|codec| codec == Codec::Raw);
        raw.then_some(&self.file)
    }

    /// True if the blob was written to since it was opened: RCC's import overwrites blobs in place, and a concurrent reader sees a
    /// partial one.
    pub(super) fn is_disturbed(&self) -> bool {
        let now = facts_of_file(&self.file);
        now.is_ok_and(|now| (now.size, now.mtime) != (self.facts.size, self.facts.mtime))
    }

    /// Chooses the encoding, reads with `pass`, and explains a failure.
    fn run(&self, size: u64, pass: impl FnOnce(Codec) -> Result<(), Fault>) -> Result<(), StoreError> {
        let (codec, raw) = self.choose(size)?;
        pass(codec).map_err(|fault| self.explain(fault, size, Tried { codec, raw }))
    }

    /// Decides how to read the blob. If its bytes could be raw content although they look compressed, they are hashed first; they
    /// rarely have exactly the declared size, so this costs nothing in practice.
    fn choose(&self, size: u64) -> Result<(Codec, Option<RawReading>), StoreError> {
        let codec = self.sniff()?;
        if codec == Codec::Raw {
            return Ok((codec, None));
        }
        if self.facts.size != size {
            return Ok((codec, Some(RawReading::Length(self.facts.size))));
        }
        match check_file(&self.file, &self.digest, size) {
            Ok(()) => Ok((Codec::Raw, None)),
            Err(Fault::Mismatch(actual)) => Ok((codec, Some(RawReading::Digest(actual)))),
            Err(fault) => Err(self.explain(fault, size, Tried { codec: Codec::Raw, raw: None })),
        }
    }

    /// The encoding that the digest and the first bytes suggest.
    fn sniff(&self) -> Result<Codec, StoreError> {
        match self.digest.regime() {
            Regime::SipHash128 => Ok(Codec::Raw),
            Regime::Sha256 => self.head().map(|head| Codec::sniff(&head)),
        }
    }

    /// The first bytes, padded with zeros.
    fn head(&self) -> Result<[u8; 8], StoreError> {
        let mut head = [0; 8];
        match self.file.read_at(&mut head, 0) {
            Ok(_) => Ok(head),
            Err(source) => Err(self.unreadable(source)),
        }
    }

    /// Reads the whole blob once through `gate`.
    fn pass(&self, codec: Codec, mut gate: Gate<'_>) -> Result<(), Fault> {
        if let Some(outcome) = self.pass_whole(codec, &mut gate) {
            outcome?;
            return gate.close(&self.digest);
        }
        let capacity = usize::try_from(self.facts.size).unwrap_or(usize::MAX);
        codec.decode(FromStart { file: &self.file, at: 0 }, capacity, &mut gate)?;
        gate.close(&self.digest)
    }

    /// As [`Blob::pass`], decoded in one call; `None` if it must be read in chunks, in which case the gate is untouched.
    fn pass_whole(&self, codec: Codec, gate: &mut Gate<'_>) -> Option<Result<(), Fault>> {
        let is_small = codec == Codec::Gzip && self.facts.size <= WHOLE && gate.size() <= WHOLE;
        let (stored, size) = (usize::try_from(self.facts.size).ok()?, usize::try_from(gate.size()).ok()?);
        if !is_small {
            return None;
        }
        with_whole(stored, |buffer| {
            self.file.read_exact_at(buffer, 0).ok()?;
            gunzip_whole(buffer, size, |content| gate.push(content))
        })
    }

    fn unreadable(&self, source: io::Error) -> StoreError {
        StoreError::Unreadable { digest: self.digest, path: self.path.clone(), source }
    }

    /// Turns a fault into the error that the user sees.
    pub(super) fn explain(&self, fault: Fault, size: u64, tried: Tried) -> StoreError {
        let (digest, path) = (self.digest, self.path.clone());
        let is_damage = !matches!(fault, Fault::Read(_) | Fault::Sink(_));
        if is_damage && let Some(found) = self.disguise(size, tried.codec) {
            return StoreError::WrongCodec { digest, path, found };
        }
        let tried = Box::new(tried);
        match fault {
            Fault::Truncated(got) => StoreError::Truncated { digest, path, tried, got, size },
            Fault::Longer => StoreError::Longer { digest, path, tried, size },
            Fault::Corrupt(source) => StoreError::Corrupt { digest, path, tried, source },
            Fault::Mismatch(actual) => StoreError::Mismatch { digest, path, tried, actual: Box::new(actual) },
            Fault::Read(source) => self.unreadable(source),
            Fault::Sink(source) => StoreError::Sink { digest, source },
        }
    }

    /// The encoding of a blob that failed as raw content but has the right content when decoded. Only for the message: RCC cannot read
    /// such a blob either.
    fn disguise(&self, size: u64, tried: Codec) -> Option<&'static str> {
        if tried != Codec::Raw {
            return None;
        }
        let head = self.head().ok()?;
        let found = match (self.digest.regime(), Codec::sniff(&head)) {
            (Regime::Sha256, _) => return foreign_format(&head),
            (Regime::SipHash128, Codec::Raw) => return None,
            (Regime::SipHash128, codec) => codec,
        };
        self.pass(found, Gate::blind(&self.digest, size)).ok()?;
        Some(if found == Codec::Gzip { "gzip" } else { "zstd" })
    }
}

/// Reads a file, its own or another's, from its start without using its position.
struct FromStart<F> {
    file: F,
    at: u64,
}

impl<F: Borrow<File>> Read for FromStart<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.file.borrow().read_at(buffer, self.at)?;
        self.at += len as u64;
        Ok(len)
    }
}
