//! The contents of a tree: digest, relocations and blob of each file, on all processors.
//!
//! The largest files come first, so that no processor still works on one of them after the others have finished. What was read ahead
//! is not read again.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use super::ahead::Ahead;
use super::blob::Library;
use super::content::{Digested, IN_MEMORY, read_stream, read_whole};
use super::error::RecordError;
use super::ready::Ready;
use super::walk::{Content, Walked};
use crate::store::observe::Observer;

/// How contents are read.
pub(super) struct Reading<'a> {
    /// What a space's label will replace.
    pub needle: &'a [u8],
    /// Where the blobs go.
    pub library: &'a Library,
    /// Where large contents go in addition.
    pub ready: Option<&'a Ready>,
    /// What was read ahead.
    pub ahead: &'a Ahead,
    /// Set to stop.
    pub interrupted: &'a AtomicBool,
    /// Counts the bytes.
    pub observer: &'a dyn Observer,
}

impl Reading<'_> {
    /// Reads every content, publishes its blob, and completes its entries.
    pub(super) fn read_all(&self, walked: &mut Walked) -> Result<(), RecordError> {
        walked.contents.sort_by_key(|content| Reverse(content.stat.size));
        let contents = walked.contents.par_iter().with_max_len(1);
        let found: Vec<Digested> = contents.map(|content| self.read(content)).collect::<Result<_, _>>()?;
        for (content, found) in walked.contents.iter().zip(found) {
            for &(dir, position) in &content.entries {
                let file = &mut walked.dirs[dir.index()].files[position];
                file.digest = Some(found.digest);
                file.rewrite.clone_from(&found.rewrite);
            }
        }
        // From here on the recording is completed.
        self.go_on()
    }

    fn read(&self, content: &Content) -> Result<Digested, RecordError> {
        let &Reading { needle, library, ready, .. } = self;
        self.go_on()?;
        let known = self.ahead.get(content).filter(|known| library.still_has(&known.digest));
        let found = match known {
            Some(known) => Ok(known.clone()),
            None if content.stat.size <= IN_MEMORY => read_whole(content, needle, library, ready),
            None => read_stream(content, needle, library, &|| self.go_on()),
        };
        self.observer.advance(content.stat.size);
        found
    }

    /// Fails if it was interrupted.
    fn go_on(&self) -> Result<(), RecordError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(RecordError::Interrupted) } else { Ok(()) }
    }
}
