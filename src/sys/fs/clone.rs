//! Reflinks: a second file that shares the blocks of the first until one of them is written.

use std::fs::File;
use std::io;

/// Makes `to`, which is open for writing, share all content of `from`. Never copies: it works or it fails.
#[cfg(target_os = "linux")]
pub fn reflink(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Makes `to`, which is open for writing, share all content of `from`. Never copies: it works or it fails.
#[cfg(not(target_os = "linux"))]
pub fn reflink(from: &File, to: &File) -> io::Result<()> {
    reflink_copy::reflink_file(from, to)
}

/// How a file got the content of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cloned {
    /// Shares blocks.
    Reflinked,
    /// The bytes were copied.
    Copied,
}

/// Fills the empty file `to` with the content of `from`: shared if the file system can, otherwise copied, by the kernel if it can.
pub fn clone_or_copy(from: &File, to: &File) -> io::Result<Cloned> {
    if reflink(from, to).is_ok() {
        return Ok(Cloned::Reflinked);
    }
    copy(from, to)?;
    Ok(Cloned::Copied)
}

/// Copies all of `from` to the start of `to` without moving the position of either file: `from` may be shared.
#[cfg(target_os = "linux")]
fn copy(from: &File, to: &File) -> io::Result<()> {
    let (mut read_at, mut write_at) = (0, 0);
    loop {
        let chunk = 1 << 30;
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), chunk) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Other file systems, or an older kernel: copies the rest in user space.
            Err(_) => return copy_by_hand(from, to, read_at),
        }
    }
}

/// Copies all of `from` to the start of `to` without moving the position of either file: `from` may be shared.
#[cfg(not(target_os = "linux"))]
fn copy(from: &File, to: &File) -> io::Result<()> {
    copy_by_hand(from, to, 0)
}

fn copy_by_hand(from: &File, to: &File, mut at: u64) -> io::Result<()> {
    use super::offset::FileExt;
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = from.read_at(&mut buffer, at)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all_at(&buffer[..count], at)?;
        at += count as u64;
    }
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
