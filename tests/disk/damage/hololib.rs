//! A small hololib with one blob of each form, made to be damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use holofs::rcc::digest::{Digest, Regime};
use holofs::store::observe::Tally;
use holofs::store::{BlobSource, Library, Limits, Sharing, Store, Wanted, blob_path, publish};

use crate::common::golden::gzip;

/// How a blob is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Gzip,
    Raw,
    Zstd,
}

pub const FORMS: [Form; 3] = [Form::Gzip, Form::Raw, Form::Zstd];

/// A hololib with two contents in three forms, and its store.
pub struct Hololib {
    temp: tempfile::TempDir,
    pub store: Store,
    pub tally: Arc<Tally>,
}

/// Content that no codec compresses well, so that a flipped bit stays a flipped bit.
pub fn content(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..50_000).map(|_| next()).collect()
}

impl Form {
    pub fn encode(self, content: &[u8]) -> Vec<u8> {
        match self {
            Form::Gzip => gzip(content),
            Form::Raw => content.to_vec(),
            Form::Zstd => zstd::encode_all(content, 3).unwrap(),
        }
    }

    pub fn wanted(self, content: &[u8]) -> Wanted {
        let regime = if self == Form::Raw { Regime::SipHash128 } else { Regime::Sha256 };
        // One seed per form, so that gzip and zstd have different digests.
        Wanted { digest: Digest::of(regime, content), size: content.len() as u64, mode: 0o644 }
    }

    pub fn good(self) -> Vec<u8> {
        content(self as u32 * 2 + 1)
    }

    fn neighbour(self) -> Vec<u8> {
        content(self as u32 * 2 + 2)
    }
}

impl Hololib {
    pub fn new() -> Hololib {
        Hololib::with_limits(Limits::default(), false)
    }

    pub fn with_limits(limits: Limits, paranoid: bool) -> Hololib {
        let temp = tempfile::tempdir().unwrap();
        for form in FORMS {
            for content in [form.good(), form.neighbour()] {
                let digest = form.wanted(&content).digest;
                publish(&temp.path().join("library"), &digest, Sharing::Private, &form.encode(&content))
                    .unwrap();
            }
        }
        let tally = Arc::new(Tally::new());
        let library = Library::open(&temp.path().join("library")).unwrap();
        let store =
            Store::open(library, &temp.path().join("raw"), limits, tally.clone()).with_paranoia(paranoid);
        Hololib { temp, store, tally }
    }

    pub fn root(&self) -> &Path {
        self.temp.path()
    }

    /// Another process's view: a store without open descriptors.
    pub fn reopened(&self, paranoid: bool) -> Store {
        let library = Library::open(&self.root().join("library")).unwrap();
        let raw = self.root().join("raw");
        Store::open(library, &raw, Limits::default(), self.tally.clone()).with_paranoia(paranoid)
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.root().join("library").join(blob_path(digest))
    }

    pub fn edit_blob(&self, digest: &Digest, edit: impl FnOnce(&mut Vec<u8>)) {
        let mut stored = fs::read(self.blob(digest)).unwrap();
        edit(&mut stored);
        fs::write(self.blob(digest), stored).unwrap();
    }

    /// All other blobs still open with their own bytes.
    pub fn assert_neighbours_open(&self, store: &Store) {
        for form in FORMS {
            let content = form.neighbour();
            let file = store.open(&form.wanted(&content)).unwrap();
            assert!(file.read_all().unwrap() == content, "wrong bytes of the neighbour in {form:?}");
        }
    }
}
