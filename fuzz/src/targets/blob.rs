//! Blobs in all forms: content comes out only if it has the requested digest and size.

use std::cell::RefCell;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use holofs::rcc::digest::{Digest, Regime};
use holofs::store::{Library, StoreError, blob_path};

/// No input here decodes to more bytes.
const MOST: u64 = 1 << 20;

thread_local! {
    /// One library in memory, used repeatedly.
    static HOME: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

/// The first byte selects the digest regime and a wrong size; the rest is the stored blob.
pub fn run(data: &[u8]) {
    let Some((&kind, stored)) = data.split_first() else { return };
    let regime = if kind & 1 == 0 { Regime::Sha256 } else { Regime::SipHash128 };
    let content = content_of(regime, stored);
    let digest = Digest::of(regime, &content);
    let size =
        (content.len() as u64).wrapping_add(u64::from(kind >> 2 & 3)).wrapping_sub(u64::from(kind >> 4 & 3));
    let size = size.min(i64::MAX as u64);
    let mut sink = Vec::new();
    match with_blob(&digest, stored, |library| library.stream(&digest, size, &mut sink)) {
        Ok(()) => assert!(Digest::of(regime, &sink) == digest && sink.len() as u64 == size),
        Err(error) => assert!(error.to_string().contains(&digest.to_string())),
    }
}

/// The content as a reader without checks would decode it.
fn content_of(regime: Regime, stored: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    let read = match (regime, stored) {
        (Regime::Sha256, [0x1f, 0x8b, ..]) => {
            MultiGzDecoder::new(stored).take(MOST).read_to_end(&mut content)
        }
        (Regime::Sha256, [0x28, 0xb5, 0x2f, 0xfd, ..]) => match zstd::Decoder::new(stored) {
            Ok(decoder) => decoder.take(MOST).read_to_end(&mut content),
            Err(error) => Err(error),
        },
        _ => return stored.to_vec(),
    };
    if read.is_ok() { content } else { stored.to_vec() }
}

fn with_blob(
    digest: &Digest,
    stored: &[u8],
    work: impl FnOnce(&Library) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    HOME.with_borrow_mut(|home| {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let home = home.get_or_insert_with(|| tempfile::tempdir_in(place).unwrap());
        let path = home.path().join(blob_path(digest));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, stored).unwrap();
        let outcome = work(&Library::open(home.path()).unwrap());
        // Also the three directories of the digest, so that nothing accumulates.
        std::fs::remove_file(&path).unwrap();
        let mut dir = path.parent();
        while let Some(parent) = dir.filter(|parent| *parent != home.path()) {
            std::fs::remove_dir(parent).unwrap();
            dir = parent.parent();
        }
        outcome
    })
}

/// One content in each form, once and repeated.
pub fn seeds(_golden: &Path) -> Vec<Vec<u8>> {
    let content = b"some content that is not long, and its end is its beginning: some content".repeat(3);
    let gzip = super::catalog::gzip(&content);
    let zstd = zstd::encode_all(&content[..], 3).unwrap();
    let mut seeds = Vec::new();
    for stored in [content, gzip.clone(), zstd.clone(), gzip.repeat(2), zstd.repeat(2), Vec::new()] {
        for kind in [0, 1, 4, 16] {
            seeds.push([&[kind], &stored[..]].concat());
        }
    }
    seeds
}
