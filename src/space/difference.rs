//! In what a path of a space differs from the catalog: the same words for mounts and for files.

/// In what a path differs from the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Differs {
    /// The catalog does not have it.
    Added,
    /// It has another content, or is something else.
    Changed,
    /// It is gone; so is what was below it, which is not told path by path.
    Removed,
    /// Only its permissions or its owner differ.
    Mode,
}
