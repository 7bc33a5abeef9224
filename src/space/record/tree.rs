//! The contents of a tree: digest, relocations and blob of each file, on all processors.
//!
//! The largest files come first, so that no processor still works on one of them after the others have finished. What was read ahead
//! is not read again.

use std::cmp::Reverse;

use rayon::prelude::*;

use super::ahead::Ahead;
use super::blob::Library;
use super::content::{Digested, IN_MEMORY, digested, read_stream};
use super::error::RecordError;
use super::walk::{Content, Walked};
use crate::store::observe::Observer;

/// Reads every content, publishes its blob, and completes its entries.
pub(super) fn read_all(
    walked: &mut Walked,
    needle: &[u8],
    library: &Library,
    ahead: &Ahead,
    observer: &dyn Observer,
) -> Result<(), RecordError> {
    let read = |content: &Content| {
        let found = if let Some(found) = ahead.published(content, library)? {
            Ok(found)
        } else if content.stat.size <= IN_MEMORY {
            let (bytes, found) = digested(content, needle, library.regime())?;
            library.publish_bytes(&found.digest, &bytes)?;
            Ok(found)
        } else {
            read_stream(content, needle, library)
        };
        observer.advance(content.stat.size);
        found
    };
    walked.contents.sort_by_key(|content| Reverse(content.stat.size));
    let found: Vec<Digested> =
        walked.contents.par_iter().with_max_len(1).map(read).collect::<Result<_, _>>()?;
    for (content, found) in walked.contents.iter().zip(found) {
        for &(dir, position) in &content.entries {
            let file = &mut walked.dirs[dir.index()].files[position];
            file.digest = Some(found.digest);
            file.rewrite.clone_from(&found.rewrite);
        }
    }
    Ok(())
}
