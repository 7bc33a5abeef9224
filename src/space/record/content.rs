//! One content of a tree: its digest, relocations and blob.
//!
//! A file of ordinary size is read into memory once, for hashing, searching and the blob. A longer one is hashed and searched while it
//! is read, and read again only if the library lacks its blob; then it is hashed again, so that the blob matches its name even if the
//! file is being written at that moment.

use std::fs::File;
use std::io::Read;

use super::blob::Library;
use super::error::RecordError;
use super::ready::Ready;
use super::scratch::with_scratch;
use super::walk::Content;
use crate::error::chain;
use crate::rcc::digest::{Digest, Hasher, Regime};
use crate::store::relocate::needle::Search;
use crate::sys::fs::stat::{self, Stat};

/// Up to this size a file is read once, into memory: the file and its blob for each processor.
pub(super) const IN_MEMORY: u64 = 32 << 20;
/// The chunk size for longer files.
const PIECE: usize = 1 << 20;

/// The catalog's data about a content.
#[derive(Clone)]
pub(super) struct Digested {
    pub digest: Digest,
    pub rewrite: Vec<u64>,
}

/// Reads, hashes and searches a content of ordinary size, and publishes its blob. If it is the same in every space, it may also go into
/// the raw store.
pub(super) fn read_whole(
    content: &Content,
    needle: &[u8],
    library: &Library,
    ready: Option<&Ready>,
) -> Result<Digested, RecordError> {
    let mut file = open(content)?;
    // One byte more than expected is enough to notice that it grows.
    with_scratch(content.stat.size as usize + 1, |buffer| {
        let length = read_up_to(&mut file, buffer).map_err(reading(content))?;
        let bytes = &buffer[..length];
        check(content, &file, length as u64)?;
        let mut search = Search::new(needle);
        search.feed(bytes);
        let digest = Digest::of(library.regime(), bytes);
        library.publish_bytes(&digest, bytes)?;
        let rewrite = search.finish();
        if let Some(ready) = ready.filter(|_| rewrite.is_empty()) {
            ready.add(content, digest, bytes);
        }
        Ok(Digested { digest, rewrite })
    })
}

/// Fills the buffer as far as the file reaches. It has room for one byte more than expected, so a read that leaves only that empty met the
/// end.
fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled + 1 < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Hashes and searches a long content, and publishes its blob, as long as `go_on` does not fail.
pub(super) fn read_stream(
    content: &Content,
    needle: &[u8],
    library: &Library,
    go_on: &dyn Fn() -> Result<(), RecordError>,
) -> Result<Digested, RecordError> {
    let mut search = Search::new(needle);
    let digest = stream(content, library.regime(), |piece| {
        search.feed(piece);
        go_on()
    })?;
    let mut failure = None;
    let published = library.publish(&digest, content.stat.size, |blob| {
        let again = stream(content, library.regime(), |piece| {
            blob.write_all(piece).map_err(RecordError::io("Writing a blob of", &content.path))?;
            go_on()
        });
        match again {
            Ok(again) if again == digest => Ok(()),
            Ok(_) => Err(keep(&mut failure, changed(content))),
            Err(error) => Err(keep(&mut failure, error)),
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    published?;
    Ok(Digested { digest, rewrite: search.finish() })
}

/// Keeps the error for the caller, and returns a placeholder to the publisher, which only knows its own errors.
fn keep(failure: &mut Option<RecordError>, error: RecordError) -> std::io::Error {
    let stand_in = std::io::Error::other(chain(&error).to_string());
    *failure = Some(error);
    stand_in
}

/// Reads the file once, passes every piece to `each`, and returns the digest of all.
fn stream(
    content: &Content,
    regime: Regime,
    mut each: impl FnMut(&[u8]) -> Result<(), RecordError>,
) -> Result<Digest, RecordError> {
    let mut file = open(content)?;
    let mut hasher = Hasher::new(regime);
    let mut buffer = vec![0; PIECE];
    let mut total = 0;
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            length => length.map_err(reading(content))?,
        };
        total += length as u64;
        if total > content.stat.size {
            return Err(changed(content));
        }
        hasher.update(&buffer[..length]);
        each(&buffer[..length])?;
    }
    check(content, &file, total)?;
    Ok(hasher.finish())
}

/// Opens the file, if it is still the one that the walk found.
fn open(content: &Content) -> Result<File, RecordError> {
    let file = stat::open_to_read(&content.path).map_err(RecordError::io("Opening", &content.path))?;
    check(content, &file, content.stat.size)?;
    Ok(file)
}

/// Fails if the file has changed, or if the bytes read are not its size.
fn check(content: &Content, file: &File, read: u64) -> Result<(), RecordError> {
    let now = Stat::of(&file.metadata().map_err(reading(content))?);
    if now == content.stat && read == content.stat.size { Ok(()) } else { Err(changed(content)) }
}

fn changed(content: &Content) -> RecordError {
    RecordError::Changed { path: content.path.clone() }
}

fn reading(content: &Content) -> impl FnOnce(std::io::Error) -> RecordError {
    RecordError::io("Reading", &content.path)
}
