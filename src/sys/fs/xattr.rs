//! Extended attributes of files on disk.

use std::io;
use std::path::Path;

/// The largest value read, in bytes.
const MAX_VALUE: usize = 64 << 10;

/// The value of the attribute `name` of `path`.
pub fn get(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let mut value = vec![0; MAX_VALUE];
    let len = rustix::fs::getxattr(path, name, &mut value[..])?;
    value.truncate(len);
    Ok(value)
}
