//! How a path of a space differs from the catalog: the same terms for mounts and for files.

/// How a path differs from the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Differs {
    /// It is not in the catalog.
    Added,
    /// It has other content, or is of another kind.
    Changed,
    /// It is gone, with everything below it, which is not listed separately.
    Removed,
    /// Only its permissions or its owner differ.
    Mode,
}
