//! A file as bytes, read as a whole: on Windows a mapped file can be neither replaced nor removed.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::ops::Deref;

/// The whole of a file.
#[derive(Debug)]
pub struct Mapped(Vec<u8>);

impl Mapped {
    /// Reads `file`; an empty file is an error of kind `InvalidInput`.
    pub fn new(mut file: &File) -> io::Result<Mapped> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        if bytes.is_empty() { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(Mapped(bytes)) }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// The content of `file`, which has `len` bytes.
pub fn read_whole(mut file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(len);
    io::Read::read_to_end(&mut file, &mut bytes)?;
    Ok(bytes)
}
