//! Files in a directory of our own: read as a whole, and published as a whole. The same on all platforms.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use super::name::Name;
use super::owned::OwnedDir;

impl OwnedDir {
    /// The content of the regular file `name`; more than `most` bytes are an error.
    pub fn read(&self, name: &OsStr, most: u64) -> io::Result<Vec<u8>> {
        read_at_most(&self.open_file(name)?, most)
    }

    /// Publishes a file with these bytes at `name`: written to a temporary file and renamed, so that readers see either the old file
    /// or the complete new one.
    pub fn publish(&self, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let mut temp = self.create_temp(".part-")?;
        temp.file.write_all(bytes)?;
        temp.publish(name)
    }

    /// Creates a temporary file, 0600; it is removed on drop unless it is published.
    pub fn create_temp(&self, prefix: &str) -> io::Result<Temp<'_>> {
        let name = super::dir::unused_name(prefix);
        let file = self.create_new(OsStr::new(&name))?;
        Ok(Temp { dir: self, name, file, published: false })
    }

    /// Creates the empty file `name`, unless an entry of that name exists.
    pub fn mark(&self, name: &OsStr) -> io::Result<()> {
        match self.create_new(name) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes `name` and everything below it, links not followed; true if it existed.
    pub fn remove(&self, name: &OsStr) -> io::Result<bool> {
        let name = Name::new(name.as_encoded_bytes()).map_err(io::Error::other)?;
        self.tree()?.remove(name)
    }
}

/// A temporary file that is being written.
#[derive(Debug)]
pub struct Temp<'d> {
    dir: &'d OwnedDir,
    name: String,
    /// The file to write to.
    pub file: File,
    published: bool,
}

impl Temp<'_> {
    /// Creates another hard link to it at `path`.
    pub fn link_at(&self, path: &Path) -> io::Result<()> {
        self.dir.link_at(OsStr::new(&self.name), path)
    }

    /// Renames it to `name`; an existing file is replaced.
    pub fn publish(mut self, name: &OsStr) -> io::Result<()> {
        self.dir.rename(OsStr::new(&self.name), name)?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = self.dir.remove_file(OsStr::new(&self.name))
        {
            log::debug!("{} stays in {}: {error}", self.name, self.dir.path().display());
        }
    }
}

/// A size in bytes that most state files do not exceed.
const USUAL: usize = 4096;

/// The content of a file; more than `most` bytes are an error.
pub fn read_at_most(file: &File, most: u64) -> io::Result<Vec<u8>> {
    // Most are small: with room from the start they take two reads instead of one for each doubling.
    let mut bytes = Vec::with_capacity(USUAL);
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}
