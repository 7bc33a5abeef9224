//! Blobs from outside: verified while they are written, so that only valid ones are published.
//!
//! The stored bytes go to the part file and through the decoder at the same time. They are bounded by the maximum for content of the
//! declared size, whatever the source claims: neither a long nor a highly compressed source can fill disk or memory.

use std::io::{self, Read, Write};
use std::path::Path;

use crate::rcc::digest::{Digest, Regime};
use crate::store::codec::Codec;
use crate::store::error::{StoreError, Tried};
use crate::store::publish::{Published, Sharing, publish_with};
use crate::store::verify::{Fault, Gate};

/// The maximum stored size of a blob with `size` bytes of content: no compressor adds a sixteenth.
pub fn stored_bound(size: u64) -> u64 {
    size.saturating_add(size / 16).saturating_add(64 * 1024)
}

/// Opens the stored bytes of a blob; called again if the blob must be written again.
pub type Open<'o> = dyn FnMut() -> io::Result<Box<dyn Read + 'o>> + 'o;

/// Puts a blob from `origin` (named in errors) into `library` if its content has `size` bytes and the right digest.
pub fn publish_verified(
    library: &Path,
    (digest, size): (&Digest, u64),
    sharing: Sharing,
    origin: &Path,
    open: &mut Open<'_>,
) -> Result<Published, StoreError> {
    let mut refused = None;
    let outcome = publish_with(library, digest, sharing, |out| {
        let mut tee = Tee { source: open()?, out, left: stored_bound(size), failed: None };
        match admit(&mut tee, digest, size) {
            Ok(()) => Ok(()),
            Err(_) if tee.failed.is_some() => {
                Err(tee.failed.take().unwrap_or_else(|| io::Error::other("unknown")))
            }
            Err((codec, fault)) => {
                refused = Some(explain((digest, size), origin, codec, fault));
                Err(io::Error::new(io::ErrorKind::InvalidData, "the blob does not match its name"))
            }
        }
    });
    match refused {
        Some(error) if outcome.is_err() => Err(error),
        _ => outcome,
    }
}

/// Passes raw content on to `sink` and verifies all of it; after an error the sink contains garbage.
pub fn pass(
    content: &mut dyn Read,
    (digest, size): (&Digest, u64),
    sink: &mut dyn Write,
) -> Result<(), StoreError> {
    let mut gate = Gate::new(digest, size, sink);
    let passed = Codec::Raw.decode(content, usize::MAX, &mut gate).and_then(|()| gate.close(digest));
    passed.map_err(|fault| match fault {
        // A supplier's error is not damage: it says nothing about the content.
        Fault::Corrupt(source) | Fault::Read(source) => StoreError::Supply { digest: *digest, source },
        fault => explain((digest, size), Path::new("the remote"), Codec::Raw, fault),
    })
}

/// The error for a piece that is not what the head says.
pub(super) fn wrong_piece(digest: &Digest, piece: u64) -> StoreError {
    let source = io::Error::new(io::ErrorKind::InvalidData, format!("piece {piece} has another digest"));
    let tried = Box::new(Tried { codec: Codec::Raw, raw: None });
    StoreError::Corrupt { digest: *digest, path: Path::new("the remote").into(), tried, source }
}

/// Reads all of `tee`, decoded and verified.
fn admit(tee: &mut Tee<'_, '_>, digest: &Digest, size: u64) -> Result<(), (Codec, Fault)> {
    let mut head = Vec::with_capacity(8);
    tee.take(8).read_to_end(&mut head).map_err(|error| (Codec::Raw, Fault::Read(error)))?;
    let codec = match digest.regime() {
        Regime::SipHash128 => Codec::Raw,
        Regime::Sha256 => Codec::sniff(&head),
    };
    let mut gate = Gate::blind(digest, size);
    let all = head.chain(tee);
    let passed = codec.decode(all, usize::MAX, &mut gate).and_then(|()| gate.close(digest));
    passed.map_err(|fault| (codec, fault))
}

fn explain((digest, size): (&Digest, u64), origin: &Path, codec: Codec, fault: Fault) -> StoreError {
    let (digest, path) = (*digest, origin.into());
    let tried = Box::new(Tried { codec, raw: None });
    match fault {
        Fault::Truncated(got) => StoreError::Truncated { digest, path, tried, got, size },
        Fault::Longer => StoreError::Longer { digest, path, tried, size },
        Fault::Corrupt(source) | Fault::Read(source) if source.kind() == io::ErrorKind::InvalidData => {
            StoreError::Corrupt { digest, path, tried, source }
        }
        Fault::Corrupt(source) => StoreError::Corrupt { digest, path, tried, source },
        Fault::Mismatch(actual) => StoreError::Mismatch { digest, path, tried, actual: Box::new(actual) },
        Fault::Read(source) => StoreError::Unreadable { digest, path, source },
        Fault::Sink(source) => StoreError::Sink { digest, source },
    }
}

/// A reader that also writes what it reads, up to a limit.
struct Tee<'s, 'o> {
    source: Box<dyn Read + 's>,
    out: &'o mut dyn Write,
    left: u64,
    /// The write error, if there was one.
    failed: Option<io::Error>,
}

impl Read for Tee<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(buffer)?;
        let Some(left) = self.left.checked_sub(len as u64) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is stored in more bytes than its content can need",
            ));
        };
        self.left = left;
        if let Err(error) = self.out.write_all(&buffer[..len]) {
            let short = io::Error::new(error.kind(), "cannot write");
            self.failed = Some(error);
            return Err(short);
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Library;
    use flate2::{Compression, write::GzEncoder};

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(content).unwrap();
        out.finish().unwrap()
    }

    fn take(library: &Path, digest: &Digest, size: u64, stored: &[u8]) -> Result<Published, StoreError> {
        let mut open = || Ok(Box::new(io::Cursor::new(stored.to_vec())) as Box<dyn Read>);
        publish_verified(library, (digest, size), Sharing::Private, Path::new("x.zip"), &mut open)
    }

    #[test]
    fn what_is_right_is_taken_byte_for_byte() {
        let temp = tempfile::tempdir().unwrap();
        for (regime, stored) in
            [(Regime::Sha256, gzip(b"content")), (Regime::SipHash128, b"content".to_vec())]
        {
            let digest = Digest::of(regime, b"content");
            assert_eq!(take(temp.path(), &digest, 7, &stored).unwrap(), Published::Written);
            Library::open(temp.path()).unwrap().verify(&digest, 7).unwrap();
            assert_eq!(std::fs::read(temp.path().join(crate::store::blob_path(&digest))).unwrap(), stored);
            assert_eq!(take(temp.path(), &digest, 7, b"").unwrap(), Published::AlreadyThere);
        }
    }

    #[test]
    fn what_is_wrong_in_any_way_leaves_nothing() {
        let temp = tempfile::tempdir().unwrap();
        let digest = Digest::of(Regime::Sha256, b"content");
        let good = gzip(b"content");
        let bomb = gzip(&vec![0; 1 << 22]);
        let padded = [good.clone(), gzip(b"").repeat(10_000)].concat();
        let cut = good[..good.len() - 1].to_vec();
        for stored in [gzip(b"Content"), gzip(b"conten"), bomb, padded, cut, b"content!".to_vec(), Vec::new()]
        {
            let error = take(temp.path(), &digest, 7, &stored).unwrap_err();
            assert!(error.is_damage(), "{error}");
        }
        let left = std::fs::read_dir(temp.path().join(crate::store::blob_path(&digest)).parent().unwrap());
        assert_eq!(left.unwrap().count(), 0);
    }
}
