//! Reading ahead: files of a directory to which another program still adds files are hashed, searched and compressed while it works.
//!
//! Nothing is written, and no result is trusted: that for a file is used only if the complete directory has exactly this file,
//! with the same inode, size, mode and times. What cannot be read is left to the recording itself, which reports it. The blobs
//! are kept in memory, which is bounded by [`MOST`].

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::blob::{self, Library};
use super::content::{self, Digested, IN_MEMORY};
use super::error::RecordError;
use super::walk::{self, Content};
use crate::error::chain;
use crate::rcc::digest::Regime;
use crate::rcc::home::Home;
use crate::sys::fs::stat::Stat;

/// The maximum size of all files read ahead, in bytes.
const MOST: u64 = 256 << 20;

/// Files of one directory that are read ahead.
#[derive(Default)]
pub struct Ahead {
    contents: Vec<Content>,
    needle: Vec<u8>,
    /// By device and inode number.
    found: HashMap<(u64, u64), Early>,
}

/// The result for one file.
struct Early {
    stat: Stat,
    digested: Digested,
    /// The blob.
    stored: Vec<u8>,
}

impl Ahead {
    /// The files that are in `dir` now.
    pub fn of(dir: &Path) -> Ahead {
        let mut left = MOST;
        let mut contents = match walk::walk(dir) {
            Ok(walked) => walked.contents,
            Err(error) => {
                log::debug!("Nothing is read ahead: {}", chain(&error));
                Vec::new()
            }
        };
        contents.retain(|content| {
            let fits = content.stat.size <= IN_MEMORY.min(left) && content.stat.id.is_some();
            left -= if fits { content.stat.size } else { 0 };
            fits
        });
        let needle = dir.file_name().unwrap_or_default().as_encoded_bytes().to_owned();
        Ahead { contents, needle, found: HashMap::new() }
    }

    /// Reads them, until `interrupted` is set. Raw libraries gain nothing from it: their blobs are copies.
    pub fn read(&mut self, home: &Home, interrupted: &AtomicBool) {
        if !home.is_compressed() {
            return;
        }
        let read = |content: &Content| {
            if interrupted.load(Ordering::Relaxed) {
                return None;
            }
            let (bytes, digested) = content::digested(content, &self.needle, Regime::Sha256).ok()?;
            let stored = blob::encoded(Regime::Sha256, &bytes).ok()?.into_owned();
            Some((content.stat.id?, Early { stat: content.stat.clone(), digested, stored }))
        };
        self.found = self.contents.par_iter().with_max_len(1).filter_map(read).collect();
    }

    /// What was found out about `content`, with its blob in the library; `None` if it was not read ahead or has changed since.
    pub(super) fn published(
        &self,
        content: &Content,
        library: &Library,
    ) -> Result<Option<Digested>, RecordError> {
        let known = content.stat.id.and_then(|id| self.found.get(&id));
        let is_as_stored = library.regime() == Regime::Sha256;
        let Some(early) = known.filter(|early| is_as_stored && early.stat == content.stat) else {
            return Ok(None);
        };
        let Digested { digest, rewrite } = &early.digested;
        library.publish_stored(digest, content.stat.size, |out| out.write_all(&early.stored))?;
        Ok(Some(Digested { digest: *digest, rewrite: rewrite.clone() }))
    }
}
