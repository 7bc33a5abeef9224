//! Extended attributes of files on disk.

use std::io;
use std::path::Path;

/// A size in bytes that most values do not exceed.
const USUAL: usize = 4 << 10;
/// The largest value read, in bytes.
const MAX_VALUE: usize = 64 << 10;

/// The value of the attribute `name` of `path`.
pub fn get(path: &Path, name: &str) -> io::Result<Vec<u8>> {
    let read = |most: usize| {
        let mut value = vec![0; most];
        let len = rustix::fs::getxattr(path, name, &mut value[..])?;
        value.truncate(len);
        Ok(value)
    };
    match read(USUAL) {
        Err(rustix::io::Errno::RANGE) => Ok(read(MAX_VALUE)?),
        other => Ok(other?),
    }
}
