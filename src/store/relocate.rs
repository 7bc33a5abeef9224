//! Relocation: writes the label of a space over the recorded identity, at the offsets listed in the catalog.
//!
//! Pure: nothing here opens a file. Invariants: only the bytes at the given offsets change, a file never grows, and a buffer may be
//! any part of the file, so that a range can be served without the rest. Offsets may be duplicated and in any order. The search for
//! the identity (only when recording) is in [`needle`]; a reader only checks the catalog's list.

use std::io;

use crate::error::Failure;

pub mod needle;

/// The length of an identity and of a label, in bytes.
pub const LABEL_LEN: usize = 24;

/// The identity to replace, and the label.
#[derive(Debug, Clone, Copy)]
pub struct Relocation<'a> {
    /// The identity recorded in the files.
    pub identity: &'a [u8; LABEL_LEN],
    /// The label that replaces it, of the same length.
    pub label: &'a [u8; LABEL_LEN],
}

/// The rewrite list does not match the content.
#[derive(Debug, thiserror::Error)]
pub enum RelocateError {
    /// The label would be written beyond the end of the file.
    #[error("Cannot relocate at offset {offset}: the file ends there, so the catalog is wrong")]
    PastEnd {
        /// The offset in the catalog.
        offset: u64,
    },
    /// The bytes there are not the identity.
    #[error(
        "Cannot relocate at offset {offset}: the recorded identity is not there, so the catalog is wrong"
    )]
    NotIdentity {
        /// The offset in the catalog.
        offset: u64,
    },
    /// The content could not be read.
    #[error("Cannot read the content at offset {offset} before relocating it")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
}

impl Failure for RelocateError {}

impl Relocation<'_> {
    /// Writes the bytes of the label that fall into `buffer`, which starts at file offset `at`.
    pub fn patch(&self, buffer: &mut [u8], at: u64, offsets: impl Iterator<Item = u64>) {
        for offset in offsets {
            patch_one(buffer, at, offset, self.label);
        }
    }

    /// Checks that the identity is at every offset; `read_at` reads the raw content like `pread`.
    pub fn check(
        &self,
        mut read_at: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
        offsets: impl Iterator<Item = u64>,
    ) -> Result<(), RelocateError> {
        for offset in offsets {
            let mut found = [0; LABEL_LEN];
            let len = read_full(&mut read_at, &mut found, offset)
                .map_err(|source| RelocateError::Read { offset, source })?;
            if len < LABEL_LEN {
                return Err(RelocateError::PastEnd { offset });
            }
            if found != *self.identity {
                return Err(RelocateError::NotIdentity { offset });
            }
        }
        Ok(())
    }
}

/// Copies the part of `label`, which belongs at `offset`, that lies within `buffer`, which starts at `at`.
fn patch_one(buffer: &mut [u8], at: u64, offset: u64, label: &[u8]) {
    let (skip_buffer, skip_label) = (offset.saturating_sub(at), at.saturating_sub(offset));
    let (Ok(skip_buffer), Ok(skip_label)) = (usize::try_from(skip_buffer), usize::try_from(skip_label))
    else {
        return;
    };
    let (Some(target), Some(source)) = (buffer.get_mut(skip_buffer..), label.get(skip_label..)) else {
        return;
    };
    let len = target.len().min(source.len());
    target[..len].copy_from_slice(&source[..len]);
}

/// Reads until `buffer` is full or the content ends; returns the number of bytes read.
fn read_full(
    read_at: &mut impl FnMut(&mut [u8], u64) -> io::Result<usize>,
    buffer: &mut [u8],
    offset: u64,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        // An offset near the end of u64 lies past any file.
        let Some(position) = offset.checked_add(filled as u64) else { return Ok(filled) };
        match read_at(&mut buffer[filled..], position) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: &[u8; 24] = b"h59acff1_493f813dad24d3t";
    const LABEL: &[u8; 24] = b"59acff1_ed69061_b99589a1";
    const RELOCATION: Relocation<'_> = Relocation { identity: IDENTITY, label: LABEL };

    /// `pread` of a slice.
    fn reader(content: &[u8]) -> impl FnMut(&mut [u8], u64) -> io::Result<usize> + '_ {
        |buffer, offset| {
            let rest =
                usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
            let len = rest.len().min(buffer.len()).min(7); // short reads are legal
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }
    }

    #[test]
    fn a_whole_file_gets_the_label_at_every_offset() {
        let mut content = [b"#!/x/", &IDENTITY[..], b"/bin\n", IDENTITY].concat();
        RELOCATION.patch(&mut content, 0, [5, 34, 5].into_iter());
        assert_eq!(content, [b"#!/x/", &LABEL[..], b"/bin\n", LABEL].concat());
    }

    #[test]
    fn an_offset_outside_changes_nothing_and_nothing_grows() {
        let mut content = b"abc".to_vec();
        RELOCATION.patch(&mut content, 50, [0, 26, 53, u64::MAX, u64::MAX - 1].into_iter());
        assert_eq!(content, b"abc");
        RELOCATION.patch(&mut content, u64::MAX - 1, [u64::MAX].into_iter());
        assert_eq!(content, b"a59", "the label, cut at the end of the buffer");
    }

    #[test]
    fn a_good_list_passes_the_check() {
        let content = [b"..", &IDENTITY[..], b".."].concat();
        assert!(RELOCATION.check(reader(&content), [2, 2].into_iter()).is_ok());
    }

    #[test]
    fn wrong_list_is_reported_with_its_offset() {
        let content = [b"..", &IDENTITY[..], b".."].concat();
        let check = |offset| RELOCATION.check(reader(&content), [2, offset].into_iter()).unwrap_err();
        assert!(matches!(check(3), RelocateError::NotIdentity { offset: 3 }));
        assert!(matches!(check(5), RelocateError::PastEnd { offset: 5 }));
        assert!(matches!(check(u64::MAX), RelocateError::PastEnd { offset: u64::MAX }));
    }

    #[test]
    fn a_read_error_is_kept() {
        let error = RELOCATION.check(|_, _| Err(io::Error::other("disk")), [7].into_iter()).unwrap_err();
        assert!(matches!(error, RelocateError::Read { offset: 7, .. }));
    }

    proptest! {
        #[test]
        fn patching_by_ranges_equals_patching_the_whole(
            mut content in proptest::collection::vec(any::<u8>(), 0..200),
            offsets in proptest::collection::vec(0..200_u64, 0..6),
            range in 1..60_usize,
        ) {
            let mut by_ranges = content.clone();
            for (index, part) in by_ranges.chunks_mut(range).enumerate() {
                RELOCATION.patch(part, (index * range) as u64, offsets.iter().copied());
            }
            RELOCATION.patch(&mut content, 0, offsets.iter().copied());
            prop_assert_eq!(by_ranges, content);
        }
    }
}
