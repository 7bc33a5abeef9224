//! Writing files with holes where their content is zero.

use std::fs::File;
use std::io;

use super::offset::FileExt;

/// Writes an empty file sequentially and skips blocks of zeros, which become holes.
pub struct SparseWriter<'a> {
    file: &'a File,
    at: u64,
}

/// The minimum size of a hole, and its alignment.
const HOLE: usize = 4096;

impl<'a> SparseWriter<'a> {
    /// Writes to `file` from its start.
    pub fn new(file: &'a File) -> SparseWriter<'a> {
        SparseWriter { file, at: 0 }
    }

    /// Sets the length of the file, which matters if it ends with a hole.
    pub fn finish(self) -> io::Result<()> {
        if self.file.metadata()?.len() < self.at { self.file.set_len(self.at) } else { Ok(()) }
    }
}

impl io::Write for SparseWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let aligned = usize::try_from(self.at % HOLE as u64).unwrap_or(0) == 0;
        let zeros =
            if aligned { bytes.chunks_exact(HOLE).take_while(|block| is_zero(block)).count() } else { 0 };
        let count = if zeros > 0 {
            zeros * HOLE
        } else {
            let before_hole = next_hole(bytes, self.at);
            self.file.write_at(&bytes[..before_hole], self.at)?
        };
        self.at += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where in `bytes`, which belong at position `at`, a block of zeros begins after the first block.
fn next_hole(bytes: &[u8], at: u64) -> usize {
    let first = HOLE - usize::try_from(at % HOLE as u64).unwrap_or(0);
    let Some(rest) = bytes.get(first..) else { return bytes.len() };
    let block = rest.chunks_exact(HOLE).position(is_zero);
    block.map_or(bytes.len(), |block| first + block * HOLE)
}

fn is_zero(block: &[u8]) -> bool {
    // Most blocks differ from zero in the first byte; the others are compared as a whole.
    block.first() == Some(&0) && block[1..] == block[..block.len() - 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn zeros_written_sparsely_are_holes_and_read_the_same() {
        let mut content = vec![0; 300_000];
        for at in [0, 5_000, 8_191, 70_000, 200_000] {
            content[at] = 1;
        }
        for end in [300_000, 299_999, 204_800, 1] {
            for chunk in [1 << 20, 8_192, 5_000, 333] {
                let file = tempfile::tempfile().unwrap();
                let mut writer = SparseWriter::new(&file);
                content[..end].chunks(chunk).for_each(|chunk| writer.write_all(chunk).unwrap());
                writer.finish().unwrap();
                let mut read = vec![7; end];
                file.read_exact_at(&mut read, 0).unwrap();
                assert!(read == content[..end] && file.metadata().unwrap().len() == end as u64);
                // NTFS does not create holes by itself.
                #[cfg(unix)]
                {
                    let stat = crate::sys::fs::bytes::stat(&file).unwrap();
                    let is_sparse = chunk % HOLE != 0 || end == 1 || stat.blocks * 512 <= 9 * 4096;
                    assert!(is_sparse, "{end} bytes in chunks of {chunk} take {stat:?}");
                }
            }
        }
    }
}
