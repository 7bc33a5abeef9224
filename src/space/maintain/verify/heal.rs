//! Repairs one bad blob for `check --repair`.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::VerifyError;
use crate::rcc::digest::{Digest, Regime};
use crate::rcc::home::Home;
use crate::store::{self, Library, RawEntry, RawFile, RawStore, Sharing, StoreError};

/// The chunk size for copying content.
const PIECE: usize = 128 * 1024;

/// Moves a blob aside, and creates it again if the raw store still has the content.
pub(super) struct Healer<'h> {
    home: &'h Home,
    raw: Option<&'h RawStore>,
    good: HashMap<Digest, RawEntry>,
}

/// What was done.
#[derive(Debug, Default)]
pub(super) struct Repaired {
    pub moved_to: Option<PathBuf>,
    pub healed: bool,
}

impl<'h> Healer<'h> {
    /// `good` are the entries of the raw store that were found valid.
    pub fn new(home: &'h Home, raw: Option<&'h RawStore>, good: HashMap<Digest, RawEntry>) -> Healer<'h> {
        Healer { home, raw, good }
    }

    /// Repairs the blob `digest`, for which `error` was found. One that merely cannot be read stays as it is.
    pub fn repair(&self, digest: &Digest, error: &StoreError) -> Result<Repaired, VerifyError> {
        if !error.is_damage() {
            return Ok(Repaired::default());
        }
        let library = Library::open(&self.home.library())?;
        let aside = self.home.quarantine_dir();
        let missing = matches!(error, StoreError::Missing { .. });
        let moved = !missing && library.move_aside(digest, &aside)?;
        let moved_to = moved.then(|| aside.join(digest.to_string()));
        Ok(Repaired { moved_to, healed: self.make_again(digest)? })
    }

    fn make_again(&self, digest: &Digest) -> Result<bool, VerifyError> {
        let entry = self.good.get(digest);
        let Some((raw, entry)) = self.raw.zip(entry) else { return Ok(false) };
        let walk = |source| VerifyError::Walk { path: raw.path().to_owned(), source };
        let Some(content) = raw.verified(entry).map_err(walk)? else { return Ok(false) };
        let sharing = if self.home.is_shared() { Sharing::Shared } else { Sharing::Private };
        store::publish_with(&self.home.library(), digest, sharing, |out| match digest.regime() {
            Regime::SipHash128 => copy(&content, out),
            Regime::Sha256 => {
                let mut gzip = GzEncoder::new(out, Compression::fast());
                copy(&content, &mut gzip)?;
                gzip.finish().map(drop)
            }
        })?;
        Ok(true)
    }
}

fn copy(content: &RawFile, out: &mut dyn Write) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    loop {
        let len = content.read_at(&mut piece, at)?;
        if len == 0 {
            return Ok(());
        }
        out.write_all(&piece[..len])?;
        at += len as u64;
    }
}
