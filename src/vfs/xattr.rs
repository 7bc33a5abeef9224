//! Extended attributes: what HoloFS itself tells about a file.

use crate::tree::{Ino, NodeKind};

use super::{Vfs, VfsError};

/// The digest of the content before relocation.
const DIGEST: &str = "user.holofs.digest";
/// Where the content comes from: `catalog` or `relocated`.
const STATE: &str = "user.holofs.state";

impl Vfs {
    /// The value of an extended attribute.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>, VfsError> {
        let NodeKind::File(file) = self.node(ino)?.kind else { return Err(VfsError::NoAttribute) };
        match name {
            _ if name == DIGEST.as_bytes() => Ok(file.digest.to_string().into_bytes()),
            _ if name == STATE.as_bytes() && file.rewrite.is_empty() => Ok(b"catalog".to_vec()),
            _ if name == STATE.as_bytes() => Ok(b"relocated".to_vec()),
            _ => Err(VfsError::NoAttribute),
        }
    }

    /// The names of all extended attributes, each ended by NUL.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>, VfsError> {
        match self.node(ino)?.kind {
            NodeKind::File(_) => Ok(format!("{DIGEST}\0{STATE}\0").into_bytes()),
            _ => Ok(Vec::new()),
        }
    }
}
