//! Reflinks: a second file that shares the blocks of the first until one of them is written.

use std::fs::File;
use std::io;

/// Makes `to`, which is open for writing, share all content of `from`. Nothing is copied: it works or it fails.
#[cfg(target_os = "linux")]
pub fn reflink(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Makes `to`, which is open for writing, share all content of `from`. Nothing is copied: it works or it fails.
#[cfg(not(target_os = "linux"))]
pub fn reflink(from: &File, to: &File) -> io::Result<()> {
    reflink_copy::reflink_file(from, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_reflink_has_all_content_or_says_that_it_cannot() {
        let (mut from, mut to) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        from.write_all(&[7; 10_000]).unwrap();
        let mut content = Vec::new();
        let outcome = reflink(&from, &to);
        to.rewind().unwrap();
        to.read_to_end(&mut content).unwrap();
        assert_eq!(content.len(), if outcome.is_ok() { 10_000 } else { 0 }, "{outcome:?}");
    }
}
