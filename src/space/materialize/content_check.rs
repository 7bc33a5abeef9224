//! Checks whether a placed file still has its content.

use std::fs::File;
use std::io;

use crate::rcc::digest::Hasher;
use crate::store::index::FileNode;
use crate::store::relocate::Relocation;
use crate::sys::fs::offset::FileExt;

/// True if a placed file has the catalog's content with the space's label in it.
pub(super) fn is_content(found: &File, file: &FileNode<'_>, relocation: &Relocation<'_>) -> io::Result<bool> {
    let Relocation { identity, label } = *relocation;
    let back = Relocation { identity: label, label: identity };
    let offsets = || file.rewrite.iter();
    if back.check(|buffer, offset| found.read_at(buffer, offset), offsets()).is_err() {
        return Ok(false);
    }
    let mut hasher = Hasher::new(file.digest.regime());
    let mut buffer = vec![0; 128 << 10];
    let mut at = 0;
    loop {
        let count = found.read_at(&mut buffer, at)?;
        if count == 0 {
            return Ok(hasher.finish() == file.digest);
        }
        let range = at.saturating_sub(label.len() as u64)..at + count as u64;
        back.patch(&mut buffer[..count], at, file.rewrite.in_range(range));
        hasher.update(&buffer[..count]);
        at += count as u64;
    }
}
