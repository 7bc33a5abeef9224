//! The head of an Index: everything about a catalog but its entries.
//!
//! A command that only finds and uses a mount needs nothing else, and reads nothing else. Its own checksum was right, and the
//! directory of the spaces is a clean absolute path.

use std::path::{Component, Path, PathBuf};

use super::format::{Header, Slice};
use crate::rcc::catalog::CatalogId;

/// What is known of a catalog without its entries.
#[derive(Debug, Clone)]
pub struct Head {
    header: Header,
    base: PathBuf,
    blueprint: String,
    platform: String,
    rcc: String,
    some_file: String,
}

impl Head {
    /// The head in these bytes, which begin with `header`; an error says what is wrong.
    pub(super) fn of(header: Header, bytes: &[u8]) -> Result<Head, &'static str> {
        let text = |slice: Slice| {
            let (at, len) = (slice.at as usize, slice.len as usize);
            let text = at.checked_add(len).and_then(|end| bytes.get(at..end));
            text.and_then(|text| std::str::from_utf8(text).ok()).ok_or("a text of its head is invalid")
        };
        let base = PathBuf::from(text(header.base)?);
        if !is_clean(&base) {
            return Err("the directory of its spaces is not a clean absolute path");
        }
        Ok(Head {
            base,
            blueprint: text(header.blueprint)?.to_owned(),
            platform: text(header.platform)?.to_owned(),
            rcc: text(header.rcc)?.to_owned(),
            some_file: text(header.some_file)?.to_owned(),
            header,
        })
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    /// The id of the catalog: the SHA-256 of the catalog file.
    pub fn id(&self) -> CatalogId {
        self.header.id
    }

    /// The recorded identity: the 24 bytes that relocations overwrite.
    pub fn identity(&self) -> &[u8; 24] {
        &self.header.identity
    }

    /// The directory that contains the catalog's spaces.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The blueprint's hash: 16 hex digits.
    pub fn blueprint(&self) -> &str {
        &self.blueprint
    }

    /// The platform, such as `linux_amd64`.
    pub fn platform(&self) -> &str {
        &self.platform
    }

    /// The RCC version that wrote the catalog; empty if it is not recorded.
    pub fn rcc(&self) -> &str {
        &self.rcc
    }

    /// The path of one of its regular files below a space, near the root; empty if there is none.
    pub fn some_file(&self) -> &Path {
        Path::new(&self.some_file)
    }

    /// The number of nodes, including the root.
    pub fn len(&self) -> u64 {
        u64::from(self.header.nodes)
    }

    /// Never true: a tree has a root.
    pub fn is_empty(&self) -> bool {
        self.header.nodes == 0
    }

    /// Total bytes of all regular files.
    pub fn content_bytes(&self) -> u64 {
        self.header.content_bytes
    }
}

/// True for an absolute path without `.` and `..`.
fn is_clean(path: &Path) -> bool {
    let plain = |part: Component<'_>| !matches!(part, Component::ParentDir | Component::CurDir);
    path.is_absolute() && path.components().all(plain)
}
